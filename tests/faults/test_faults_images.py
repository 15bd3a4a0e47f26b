"""Images that are missing, broken, bombs, or change while they are read: I of the fault matrix, as a run
meets them."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from wire import Exchange, http, in_turn, serving

from vqa_async import Failure, Result, open_engine
from vqa_async.testing import reply

GOOD = http(reply("- Q: What?\n  A: This.").body)


async def results_of(*references: Any, **options: Any) -> tuple[list[Result], list[bytes]]:
    """The result for each image, and the images that an endpoint was sent."""
    rows = [{"image": one, "conversation": "What is it?"} for one in references]
    async with (
        serving(in_turn(GOOD, keep=True)) as server,
        open_engine(base_url=server.url, model="m", api_key="", **options) as engine,
    ):
        results = [result async for result in engine.stream(rows)]
        sent = [image for exchange in server.exchanges for image in images_in(exchange)]
    return sorted(results, key=lambda result: result.record.index), sent


def images_in(exchange: Exchange) -> list[bytes]:
    parts = json.loads(exchange.body)["messages"][-1]["content"]
    parts = [] if isinstance(parts, str) else parts
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    return [base64.b64decode(url.partition(",")[2]) for url in urls]


def code_of(result: Result) -> str:
    assert isinstance(result, Failure), result
    assert result.attempts == 0
    return result.error.code


def encoded(format: str, size: tuple[int, int] = (40, 24), mode: str = "RGB", **how: Any) -> bytes:
    out = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(out, format, **how)
    return out.getvalue()


# --- I1, I2, I6, I14: what is no image -------------------------------------------------------------------


async def test_places_without_an_image_fail_their_records_alone(tmp_path: Path) -> None:
    """Missing files, folders, empty files, text, pages, archives, noise, pipes, sockets, devices and five
    sparse gigabytes: each a failure that names it, within a second, nothing sent; the good one beside them is
    answered."""
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "page.jpg").write_text("<!doctype html><html></html>")
    (tmp_path / "archive.png").write_bytes(b"PK\x03\x04" + bytes(60))
    (tmp_path / "noise.png").write_bytes(os.urandom(500).replace(b"\xff\xd8", b"xx"))
    (tmp_path / "huge.png").touch()
    os.truncate(tmp_path / "huge.png", 5 << 30)
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    expected = {
        "gone.png": "file_not_found",
        ".": "not_a_file",
        "empty.png": "not_an_image",
        "text.png": "not_an_image",
        "page.jpg": "not_an_image",
        "archive.png": "not_an_image",
        "noise.png": "not_an_image",
        "huge.png": "too_large",
        "pipe.png": "not_a_file",
        "socket.png": "not_a_file",
        "/dev/zero": "not_a_file",
        "/dev/stdin": "not_a_file",
        "/proc/self/environ": "not_an_image",
    }
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket.png"))
        began = time.monotonic()
        paths = [name if name.startswith("/") else f"{tmp_path}/{name}" for name in expected]
        results, sent = await results_of(*paths, f"{tmp_path}/good.png")
        assert time.monotonic() - began < 1
    stdin_is_tty_or_null = not os.path.isfile("/dev/stdin")
    for name, path, result in zip(expected, paths, results, strict=False):
        if name != "/dev/stdin" or stdin_is_tty_or_null:
            assert code_of(result) == expected[name], name
            assert path.removesuffix("/.") in str(result.error)  # type: ignore[union-attr]
    assert results[-1].ok
    assert sent == [(tmp_path / "good.png").read_bytes()]


UNPRIVILEGED = """
import asyncio, os, sys
sys.path[:0] = sys.path[:0] + [sys.argv[2]]
from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images.files import locate, read
from vqa_async.models import ImageRef
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
try:
    read(locate(ImageRef("path", sys.argv[1]), "", ImageOptions()), ImageOptions())
except ImageError as error:
    print(error.code, error)
"""


@pytest.mark.slow
def test_image_without_permission_is_unreadable() -> None:
    """A file of mode 000, for a user who is not root: a failure that names it and says permission."""
    folder = Path(
        "/tmp", f"vqa-async-image-{os.getpid()}"
    )  # where others may look; pytest's folders are private
    folder.mkdir()
    folder.chmod(0o755)
    try:
        (folder / "closed.png").write_bytes(encoded("PNG"))
        (folder / "closed.png").chmod(0)
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(folder / "closed.png"), os.getcwd()],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        shutil.rmtree(folder)
    assert done.stdout.startswith("unreadable ")
    assert str(folder / "closed.png") in done.stdout
    assert "permission" in done.stdout.lower()


async def test_record_with_an_empty_list_of_images_is_asked_by_its_text() -> None:
    """An empty list of images: a record of text, as it says; not a crash."""
    [result], sent = await results_of([])
    assert result.ok
    assert sent == []


# --- I3: cut off -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["JPEG", "PNG", "GIF", "WEBP"])
async def test_image_that_is_cut_off_is_not_sent(format: str) -> None:
    """Cut at every percent of its length: found before it is sent, by the full check and by the quick one."""
    data = encoded(format, (120, 90))
    cuts = [data[: len(data) * percent // 100] for percent in range(1, 100)]
    for validate in ("header", "full"):
        results, sent = await results_of(*cuts, validate=validate)
        assert {code_of(result) for result in results} <= {"truncated_image", "not_an_image"}
        assert sent == []


async def test_damage_that_only_the_server_sees_ends_its_record(tmp_path: Path) -> None:
    """Damaged pixels in a whole structure pass the quick check, as documented; the server's 400 ends that
    record alone, at its first attempt."""
    data = encoded("PNG", (120, 90))
    start = data.index(b"IDAT") + 60
    damaged = data[:start] + bytes(80) + data[start + 80 :]

    async def judge(exchange: Exchange) -> None:
        [image] = images_in(exchange)
        try:
            Image.open(io.BytesIO(image)).load()
        except (OSError, SyntaxError):
            await exchange.say(http(b'{"error":{"message":"cannot decode"}}', status="400 No"))
        else:
            await exchange.say(GOOD)

    async with (
        serving(judge) as server,
        open_engine(base_url=server.url, model="m", api_key="") as engine,
    ):
        rows = [{"image": one, "conversation": "What?"} for one in (damaged, data)]
        results = sorted([r async for r in engine.stream(rows)], key=lambda r: r.record.index)
        assert len(server.exchanges) == 2
    assert [result.ok for result in results] == [False, True]
    assert results[0].attempts == 1


# --- I4, I5: bombs and plugins ---------------------------------------------------------------------------


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def gif(canvas: int, frame: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", canvas, canvas, 0, 0, 0)
    return head + b"\x2c" + struct.pack("<HHHHB", 0, 0, frame, frame, 0) + b"\x02\x02\x44\x01\0\x3b"


BOMBS = {
    "44 bytes of GIF, 4 gigapixels": gif(65535, 65535),
    "GIF with a frame beyond its canvas": gif(1, 65535),
    "BMP of 6e12 pixels": b"BM"
    + struct.pack("<IHHIIiiHHIIiiII", 70, 0, 0, 54, 40, 2**31 - 1, 3000, 1, 24, 0, 0, 0, 0, 0, 0),
    "PNG of 10 gigapixels": b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(bytes(1000)))
    + chunk(b"IEND", b""),
}


def peak_bytes(*, anew: bool = False) -> int:
    """The most memory that this process had, or with ``anew`` has from now on."""
    if anew:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


async def test_bomb_is_refused_by_its_header() -> None:
    """Files of a few bytes that would be gigapixels: refused within a second, for next to no memory."""
    before = peak_bytes(anew=True)
    began = time.monotonic()
    for validate in ("header", "full"):
        results, sent = await results_of(*BOMBS.values(), validate=validate, max_side=64)
        assert {code_of(result) for result in results} == {"image_too_large"}
        assert sent == []
    assert time.monotonic() - began < 1
    assert peak_bytes() - before < 50 << 20


async def test_text_bomb_in_a_good_image_is_not_unpacked() -> None:
    """A PNG whose text chunk unpacks to 256 MiB: the image is sent, the text stays packed."""
    png = encoded("PNG")
    packed = zlib.compress(bytes(256 << 20), 9)
    bombs = chunk(b"zTXt", b"k\0\0" + packed) + chunk(b"iTXt", b"k\0\1\0\0\0" + packed)
    data = png[:33] + bombs + png[33:]
    before = peak_bytes(anew=True)
    results, sent = await results_of(data, data, validate="full", max_side=8)
    assert all(result.ok for result in results)
    assert len(sent) == 2
    assert peak_bytes() - before < 100 << 20


PLUGINS = """
import asyncio, io, struct, sys
sys.path[:0] = [sys.argv[1]]
from PIL import Image
from wire import http, in_turn, serving
from vqa_async import open_engine
from vqa_async.testing import reply

files = {
    "BLP": b"BLP2" + struct.pack("<iBBBBII", 1, 1, 0, 0, 0, 16384, 16384) + bytes(260),
    "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\\n%%BoundingBox: 0 0 99 99\\n%%EndComments\\n(x) run\\n%%EOF\\n",
    "FLI": bytes(4) + b"\\x11\\xaf" + bytes(122),
    "DDS": b"DDS " + struct.pack("<I", 124) + bytes(120),
    "PSD": b"8BPS\\0\\1" + bytes(60),
    "PDF": b"%PDF-1.7\\n1 0 obj\\n",
    "ICO": b"\\0\\0\\1\\0\\1\\0" + bytes(40),
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "WMF": b"\\xd7\\xcd\\xc6\\x9a\\0\\0" + bytes(60),
    "J2K": b"\\0\\0\\0\\x0cjP  \\r\\n\\x87\\n" + bytes(60),
}

async def main():
    async with serving(in_turn(http())) as server, open_engine(
        base_url=server.url, model="m", api_key="", validate="full", max_side=64
    ) as engine:
        rows = [{"image": data, "conversation": "What?"} for data in files.values()]
        async for result in engine.stream(rows):
            print(result.error.code)
        print("sent", len(server.exchanges))

asyncio.run(main())
names = sorted(name for name in sys.modules if name.startswith("PIL.") and name.endswith("Plugin"))
print("plugins", *(name.removeprefix("PIL.").removesuffix("ImagePlugin") for name in names))
"""


@pytest.mark.slow
def test_format_outside_of_the_list_never_reaches_its_decoder(tmp_path: Path) -> None:
    """BLP, EPS, FLI, DDS, PSD, PDF, icons and drawings: refused by their first bytes; no plugin for them is
    even loaded, and no program such as Ghostscript is started."""
    (tmp_path / "plugins.py").write_text(PLUGINS)
    command = [sys.executable, str(tmp_path / "plugins.py"), str(Path(__file__).parents[1] / "client")]
    strace = shutil.which("strace")
    if strace is not None:
        command = [strace, "-f", "-qq", "-e", "trace=execve", "-o", str(tmp_path / "trace"), *command]
    done = subprocess.run(command, capture_output=True, text=True, cwd=os.getcwd(), check=True)
    *codes, sent, plugins = done.stdout.splitlines()
    assert len(codes) == 10
    assert set(codes) <= {"format_not_allowed", "not_an_image"}
    assert sent == "sent 0"
    loaded = set(plugins.split()[1:])
    assert not loaded & {"Blp", "Eps", "Fli", "Dds", "Psd", "Pdf", "Ico", "Wmf", "Jpeg2K"}, loaded
    if strace is not None:
        started = (tmp_path / "trace").read_text().count("execve(")
        assert started == 1


# --- I7: changes while it is read ------------------------------------------------------------------------


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """An image that somebody replaces by another one, again and again."""
    versions = [encoded("PNG", (60 + 20 * n, 50)) for n in range(4)]
    path = tmp_path / "moving.png"
    path.write_bytes(versions[0])
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            number += 1
            path.with_suffix(".new").write_bytes(versions[number % 4])
            path.with_suffix(".new").replace(path)

    thread = threading.Thread(target=change)
    thread.start()
    yield path, versions
    over.set()
    thread.join()


async def test_image_that_is_replaced_while_it_is_read_is_sent_whole(
    changing: tuple[Path, list[bytes]],
) -> None:
    """Somebody replaces the file all the time: whatever is sent is one of its versions, byte for byte."""
    path, versions = changing
    results, sent = await results_of(*[str(path)] * 300)
    assert all(result.ok for result in results)
    known = {sha256(version).hexdigest() for version in versions}
    assert {sha256(image).hexdigest() for image in sent} <= known
    assert len(sent) == 300


async def test_image_that_shrinks_while_it_is_read_is_never_half_sent(tmp_path: Path) -> None:
    """Somebody truncates the file and writes it anew, in place: what is sent is whole, or nothing is."""
    data = encoded("PNG", (300, 200))
    path = tmp_path / "moving.png"
    path.write_bytes(data)
    over = threading.Event()

    def rewrite() -> None:
        while not over.is_set():
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(data), 8192):
                    file.write(data[start : start + 8192])
            time.sleep(0.001)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        results, sent = await results_of(*[str(path)] * 200)
    finally:
        over.set()
        thread.join()
    assert set(sent) <= {data}
    assert {code_of(result) for result in results if not result.ok} <= {
        "truncated_image",
        "not_an_image",
        "unreadable",
    }


# --- I15: many -------------------------------------------------------------------------------------------


async def test_thousand_images_in_a_record_and_one_image_in_a_thousand_records(tmp_path: Path) -> None:
    """A record of 1,000 images is one whole request; an image in 1,000 records is encoded once; the bytes
    that are held stay within their bound."""
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    image = path.read_bytes()
    async with (
        serving(in_turn(GOOD, keep=True)) as server,
        open_engine(
            base_url=server.url, model="m", api_key="", max_workers=20, encoded_bytes=1 << 20
        ) as engine,
    ):
        many = {"image": [str(path)] * 1000, "conversation": "What are these?"}
        assert (await engine.generate(many)).ok
        [exchange] = server.exchanges
        assert images_in(exchange) == [image] * 1000
        rows = [{"image": str(path), "conversation": f"Question {n}"} for n in range(1000)]
        most = 0
        async for result in engine.stream(rows):
            assert result.ok
            most = max(most, engine.image_statistics().bytes_in_use)
        assert engine.image_statistics().encodes == 1
    assert most <= 1 << 20


# --- I16: decoders that fail -----------------------------------------------------------------------------

LITTLE_MEMORY = """
import asyncio, re, resource, struct, sys, zlib
sys.path[:0] = [sys.argv[1]]
from pathlib import Path
from wire import http, in_turn, serving
from vqa_async import open_engine

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

def grey(side):
    # 16 bits must be decoded; zeros are small
    packer, row = zlib.compressobj(1), bytes(1 + 2 * side)
    pixels = b"".join([*(packer.compress(row) for _ in range(side)), packer.flush()])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 0, 0, 0, 0))
    return b"\\x89PNG\\r\\n\\x1a\\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")

async def main():
    images = [grey(40), grey(9000), grey(41)]
    async with serving(in_turn(http(), keep=True)) as server, open_engine(
        base_url=server.url, model="m", api_key="", max_side=64
    ) as engine:
        assert (await engine.generate({"image": images[0], "conversation": "first"})).ok
        used = int(re.search(r"VmSize:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
        resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20),) * 2)
        rows = [{"image": one, "conversation": f"q{n}"} for n, one in enumerate(images)]
        async for result in engine.stream(rows):
            print(result.record.index, "ok" if result.ok else result.error)
asyncio.run(main())
"""


@pytest.mark.slow
def test_decoder_that_runs_out_of_memory_fails_its_record_alone() -> None:
    """An image that is allowed, and too large for the memory that the process may have: its record fails
    with a sentence, and those beside it are decoded and answered."""
    done = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(Path(__file__).parents[1] / "client")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    first, second, third = sorted(done.stdout.splitlines())
    assert (first, third) == ("0 ok", "2 ok")
    assert "memory" in second
