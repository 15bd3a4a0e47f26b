"""The endpoint reads: the words of a picture come back in order, in every form of answer, with no network."""

from __future__ import annotations

import asyncio
import base64
import builtins
import io
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image, ImageDraw, ImageFont

from vqa_async.cli.app import run_command
from vqa_async.errors import ConfigError
from vqa_async.qa import parse_pairs
from vqa_async.server import RunningServer, ServerOptions, running_server
from vqa_async.server.gallery import Gallery
from vqa_async.server.lines import Piece, lines_of
from vqa_async.server.reader import TextReader, load_reader
from vqa_async.server.refusals import Refusal
from vqa_async.workspace.papers import FORM, PAPERS, RECEIPT, SIGN
from vqa_async.workspace.pictures import PICTURES

pytest.importorskip("rapidocr")
pytest.importorskip("onnxruntime")


TEXT = {"type": "text", "text": "What text is on it?"}


def letters(text: str) -> str:
    """What OCR is held to: the letters and digits, without the spaces that it likes to drop."""
    return re.sub(r"[^0-9a-z]", "", text.lower())


def written(*lines: str, mode: str = "RGB", colour: Any = "black", page: Any = "white") -> Image.Image:
    image = Image.new(mode, (460, 60 * len(lines) + 30), page)
    font = ImageFont.load_default(size=32)
    for at, line in enumerate(lines):
        ImageDraw.Draw(image).text((20, 45 + 60 * at), line, fill=colour, font=font, anchor="lm")
    return image


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def uri(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


@pytest.fixture(scope="module")
def reader() -> TextReader:
    """One model for all tests that need no server of their own."""
    return load_reader()


@pytest.fixture
async def reading(reader: TextReader, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RunningServer]:
    """A server that reads, with the model that is loaded already."""
    monkeypatch.setattr("vqa_async.server.reader.load_reader", lambda: reader)
    async with running_server(ocr=True) as server:
        yield server


async def ask(
    server: RunningServer, client: aiohttp.ClientSession, question: str, *images: bytes, **rest: Any
) -> str:
    parts = [{"type": "image_url", "image_url": {"url": uri(image)}} for image in images]
    content = [*parts, {"type": "text", "text": question}]
    body = {"model": "looks-1", "messages": [{"role": "user", "content": content}], **rest}
    async with client.post(f"{server.base_url}/chat/completions", json=body) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["x-vqa-async"] == "measures pixels and reads text, is not a vision model"
        text: str = (await answer.json())["choices"][0]["message"]["content"]
        return text


@pytest.mark.parametrize(
    ("name", "truth"),
    [
        ("sign.png", SIGN),
        ("receipt.png", ("CORNER CAFE", "14 Mill Lane", *map(" ".join, RECEIPT), "Thank you!")),
        ("form.png", ("Hotel registration", *map(" ".join, FORM))),
    ],
)
def test_the_words_of_a_paper_come_back_line_by_line(
    name: str, truth: tuple[str, ...], reader: TextReader
) -> None:
    """Every letter of the sign, the receipt and the form, what stands side by side in one line."""
    read = reader.read(Image.open(io.BytesIO(PAPERS[name]())))
    assert [letters(line) for line in read] == [letters(line) for line in truth]


@pytest.mark.parametrize(
    "image",
    [
        written("Open until nine", mode="L", colour=0, page=255),
        written("Open until nine").convert("P"),
        written("Open until nine", mode="1", colour=0, page=1),
        written("Open until nine", mode="RGBA", colour=(0, 0, 0, 255), page=(0, 0, 0, 0)),
        written("Open until nine", mode="I", colour=0, page=65535),
        written("Open until nine", colour="white", page="navy"),
        written("Open until nine").resize((4600, 900)),
        written("Open until nine").resize((4600, 900)).convert("P"),
    ],
    ids=["grey", "palette", "bits", "transparent", "16 bits", "white on blue", "large", "large palette"],
)
def test_text_is_read_in_every_kind_of_image(image: Image.Image, reader: TextReader) -> None:
    """Grey, palettes, single bits, no background, 16 bits, light on dark, and more pixels than are read."""
    assert letters("".join(reader.read(image))) == "openuntilnine"


@pytest.mark.parametrize(
    "name", ["red_circle.png", "chessboard.png", "sunset.webp", "house.jpg", "night.jpg"]
)
def test_shapes_are_not_taken_for_letters(name: str, reader: TextReader) -> None:
    """A disc is no O, a moon no J."""
    assert reader.read(Image.open(io.BytesIO(PICTURES[name]()))) == ()


def test_a_single_pixel_has_no_text(reader: TextReader) -> None:
    """The smallest image there is."""
    assert reader.read(Image.new("RGB", (1, 1))) == ()


@pytest.mark.parametrize("size", [(1600, 40), (40, 1600)], ids=["wide", "high"])
def test_a_strip_is_read_as_part_of_a_page(size: tuple[int, int], reader: TextReader) -> None:
    """The model enlarges the short side: of a strip of 3,000 pixels by one it would make gigabytes."""
    strip = Image.new("RGB", size, "white")
    text = "Gate 7 boards now: Lisbon, all seats, east end of the hall" if size[0] > size[1] else ""
    ImageDraw.Draw(strip).text((30, 3), text, "black", ImageFont.load_default(size=28))
    seen: list[Any] = []
    model = reader._model

    def watched(pixels: Any) -> Any:
        seen.append(pixels.shape)
        return model(pixels)

    assert letters("".join(TextReader(watched).read(strip))) == letters(text)
    assert max(seen[0][:2]) <= 4 * min(seen[0][:2])


def piece(text: str, left: float, top: float, height: float = 20, score: float = 1.0) -> Piece:
    return Piece(text, left, top, top + height, score)


@pytest.mark.parametrize(
    ("pieces", "lines"),
    [
        ([], ()),
        ([piece("below", 0, 50), piece("above", 0, 0)], ("above", "below")),
        ([piece("3.20", 300, 3), piece("Tea", 0, 0), piece("Cake", 0, 40)], ("Tea 3.20", "Cake")),
        ([piece("b", 60, 8, score=0.999), piece("aa", 0, 0), piece("cc", 120, 16)], ("aa b cc",)),
        ([piece("HEAD", 0, 0, 80), piece("small", 300, 60, 10)], ("HEAD", "small")),
        ([piece("  wide   gaps ", 0, 0)], ("wide gaps",)),
        ([piece("guess", 0, 0, score=0.4), piece("J", 0, 40, score=0.97), piece(" ", 0, 80)], ()),
    ],
    ids=["none", "down", "table", "slanted", "sizes", "spaces", "doubtful"],
)
def test_pieces_become_lines_in_reading_order(pieces: list[Piece], lines: tuple[str, ...]) -> None:
    """Down the page, in each line from left to right; doubtful pieces are left out."""
    assert lines_of(pieces) == lines


async def test_the_guide_s_question_gets_the_text_as_the_first_pair(
    reading: RunningServer, client: aiohttp.ClientSession
) -> None:
    """In the form of pairs, before what was measured."""
    text = await ask(reading, client, "Generate complete QA pairs.", PAPERS["sign.png"]())
    first, *others = parse_pairs(text)
    assert first.question == "What text is on the image?"
    assert [letters(line) for line in first.answer.split(" / ")] == [letters(line) for line in SIGN]
    assert others[0].question == "What size is the image?"


async def test_no_text_is_said(reading: RunningServer, client: aiohttp.ClientSession) -> None:
    """An image without text gets that for an answer, in pairs and plainly."""
    image = PICTURES["red_circle.png"]()
    assert parse_pairs(await ask(reading, client, "QA pairs", image))[0].answer == "No text was found."
    assert await ask(reading, client, "What text is on it?", image) == "No text was found."


async def test_a_plain_question_about_text_gets_the_text_and_nothing_else(
    reading: RunningServer, client: aiohttp.ClientSession
) -> None:
    """Line by line; of several images, each with its number; other questions are answered as ever."""
    sign, circle = PAPERS["sign.png"](), PICTURES["red_circle.png"]()
    plain = await ask(reading, client, "What does the sign say?", sign)
    assert [letters(line) for line in plain.splitlines()] == [letters(line) for line in SIGN]
    both = await ask(reading, client, "Transcribe the text.", circle, sign)
    assert both.splitlines()[0] == "Image 1: No text was found."
    assert "noparking" in letters(both.splitlines()[1])
    assert "What size" in await ask(reading, client, "What is this?", sign)
    assert "None, so nothing" in await ask(reading, client, "Which words do you see?")


async def test_json_and_schemas_hold_the_text(reading: RunningServer, client: aiohttp.ClientSession) -> None:
    """As a pair where pairs are asked for, and in the one field where a text is."""
    sign = PAPERS["sign.png"]()
    pairs = await ask(reading, client, "Pairs as JSON", sign, response_format={"type": "json_object"})
    assert "noparking" in letters(json.loads(pairs)["pairs"][0]["answer"])
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "reading", "schema": schema}}
    read = await ask(reading, client, "What text is on it?", sign, response_format=wanted)
    assert "noparking" in letters(json.loads(read)["text"])


async def test_text_that_looks_like_a_pair_stays_in_its_answer(
    reading: RunningServer, client: aiohttp.ClientSession
) -> None:
    """A picture of a quiz cannot add pairs of its own."""
    quiz = png(written("Q: Who wrote it?", "A: Nobody knows"))
    pairs = parse_pairs(await ask(reading, client, "QA pairs", quiz))
    assert "nobodyknows" in letters(pairs[0].answer)
    assert [pair.question for pair in pairs if "wrote" in pair.question] == []


async def test_it_says_that_it_is_no_vision_model(
    reading: RunningServer, client: aiohttp.ClientSession
) -> None:
    """To those who ask."""
    text = await ask(reading, client, "Are you a model?", PAPERS["sign.png"]())
    assert "reads text with OCR and is not a vision model" in text


async def test_reading_keeps_the_loop_free_and_happens_once(reader: TextReader) -> None:
    """While an image is read others are served; the same image is read once, by one thread."""
    started, go_on = threading.Event(), threading.Event()
    threads: list[str] = []

    def slowly(image: Image.Image) -> tuple[str, ...]:
        threads.append(threading.current_thread().name)
        started.set()
        assert go_on.wait(10)
        return ("read",)

    gallery = Gallery(read=slowly)
    image = uri(PAPERS["sign.png"]())
    looks = [asyncio.create_task(gallery.look(image)) for _ in range(3)]
    await asyncio.to_thread(started.wait, 10)  # the loop is free, or this would never come back
    go_on.set()
    assert {look.text for look in await asyncio.gather(*looks)} == {("read",)}
    assert threads == ["vqa-look_0"]
    gallery.close()


async def test_too_many_images_that_wait_are_refused_with_a_time() -> None:
    """Beyond the bound a request gets a 429, which slows down those who ask, and the others go on."""
    go_on = threading.Event()

    def slowly(image: Image.Image) -> tuple[str, ...]:
        assert go_on.wait(10)
        return ()

    gallery = Gallery(read=slowly, most_unread=2)
    images = [uri(png(Image.new("RGB", (2, side)))) for side in (1, 2, 3)]
    looks = [asyncio.create_task(gallery.look(image)) for image in images[:2]]
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as refused:
        await gallery.look(images[2])
    assert refused.value.status == 429
    assert "Retry-After" in refused.value.headers
    go_on.set()
    assert [look.text for look in await asyncio.gather(*looks)] == [(), ()]
    gallery.close()


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every attempt to reach another machine is refused and noted."""
    tried: list[object] = []

    def refuse(*arguments: object, **_: object) -> Any:
        tried.append(arguments)
        raise OSError("no network here")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    return tried


def test_the_model_is_loaded_without_a_network(no_network: list[object]) -> None:
    """Its files are in the package: nothing is even tried."""
    assert isinstance(load_reader(), TextReader)
    assert no_network == []


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_reads_where_there_is_no_network(tmp_path: Path) -> None:
    """In a network namespace with loopback alone, the demo tells what the sign says, and what itself is."""
    alone = ["unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no network namespaces here")
    done = subprocess.run(
        [*alone, sys.executable, "-m", "vqa_async", "demo", "--ocr"],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("Loading the OCR model, which takes a few seconds ...\n")
    assert "it is a stand-in and no vision model" in done.stderr
    assert done.stdout.splitlines() == ["demo/ocr.jsonl", "demo/ocr.json", "demo/ocr.html"]
    rows = json.loads((tmp_path / "demo/ocr.json").read_bytes())
    signs = [row["vqa"] for row in rows if row.get("image") == ["sign.png"]]
    assert len(signs) == 2
    assert all("mondaytofriday" in letters(text) for text in signs)
    assert not re.search(r"RapidOCR|onnxruntime|\[INFO\]|Warning", done.stderr)


@pytest.mark.parametrize("missing", ["rapidocr", "onnxruntime"])
@pytest.mark.parametrize("command", [("serve", "--port", "0"), ("demo",)])
def test_without_the_extra_there_is_one_sentence(
    missing: str,
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """It names what to install, and nothing is begun."""
    monkeypatch.setattr(
        "vqa_async.server.reader.find_spec", lambda name: None if name == missing else object()
    )
    monkeypatch.chdir(tmp_path)
    assert run_command([*command, "--ocr"]) == 2
    told = " ".join(capfd.readouterr().err.split())
    assert told == f"vqa-async: --ocr needs {missing}, which is not installed: pip install 'vqa-async[ocr]'."
    assert list(tmp_path.iterdir()) == []


async def test_a_server_in_python_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an error of ours, before anything listens."""
    monkeypatch.setattr("vqa_async.server.reader.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[ocr\]'"):
        async with running_server(ocr=True):
            pass


def test_a_system_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a slim container, where the package is there and what it is linked with is not."""
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "rapidocr":
            raise ImportError("libGL.so.1: cannot open shared object file")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ConfigError, match=r"^The OCR model cannot be loaded: libGL\.so\.1: .*\.$"):
        load_reader()


def test_a_model_that_does_not_load_or_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Damaged files, or a model that reads something else than is written, end in a sentence at the start."""

    def broken(**_: object) -> Any:
        raise RuntimeError("the file is damaged")

    monkeypatch.setattr("rapidocr.RapidOCR", broken)
    with pytest.raises(ConfigError, match="cannot be loaded: the file is damaged"):
        load_reader()

    class Nothing:
        boxes = txts = scores = None

    monkeypatch.setattr("rapidocr.RapidOCR", lambda **_: lambda pixels: Nothing())
    with pytest.raises(ConfigError, match="does not work here"):
        load_reader()


def test_reading_needs_decoding() -> None:
    """The two options contradict each other."""
    with pytest.raises(ConfigError, match="leave out --no-decode"):
        ServerOptions(ocr=True, decode=False)


@pytest.mark.slow
async def test_serve_reads_and_says_what_it_is() -> None:
    """The command: a sentence while the model is loaded, its address, what it is and is not; then answers."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "vqa_async", "serve", "--ocr", "--port", "0"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert (await process.stderr.readline()).startswith(b"Loading the OCR model")
        base_url = (await process.stdout.readline()).decode().strip()
        said = (await process.stderr.readline()).decode()
        assert "It measures pixels and reads text besides, and is no vision model." in said
        parts = [{"type": "image_url", "image_url": {"url": uri(PAPERS["sign.png"]())}}]
        body = {"model": "looks-1", "messages": [{"role": "user", "content": [*parts, TEXT]}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{base_url}/chat/completions", json=body) as answer,
        ):
            text = (await answer.json())["choices"][0]["message"]["content"]
        assert "noparking" in letters(text)
    finally:
        process.terminate()
        await process.communicate()
    assert process.returncode == 0
