"""A corpus of broken and strange images: each is sent so that anyone can open it, or refused with a reason.

Nothing else may happen: no other error, no hang, no gigabytes, no image that lies on its side.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import kinds_png
import pybase64
import pytest
from command_line import COMMAND, answers, environment, serving
from kind import CORNER, HEIGHT, WIDTH, Kind, noise, picture
from kinds import KINDS, write_corpus
from PIL import Image

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images import ImageLoader
from vqa_async.images.prepare import prepare_file
from vqa_async.images.room import DecodingRoom
from vqa_async.models import ImageRef, PreparedImage
from vqa_async.server.looks import look_at

WAYS: Mapping[str, ImageOptions] = {
    "header": ImageOptions(),
    "full": ImageOptions(validate="full"),
    "shrunk": ImageOptions(max_side=64),
    "shrunk full": ImageOptions(max_side=16, validate="full"),
}
ORIENTATION = 0x0112
MOST_SECONDS = 5
MOST_BYTES = 1 << 30


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all files."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


# Alone


@pytest.mark.timeout(MOST_SECONDS * len(WAYS), func_only=True)
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about EXIF that is broken on purpose
@pytest.mark.parametrize("kind", KINDS, ids=[kind.name for kind in KINDS])
async def test_kind_is_sent_upright_or_refused_with_a_reason(kind: Kind, corpus: Path) -> None:
    """Through the loader, as a run would do it, in each way that a run may be asked to."""
    for way, options in WAYS.items():
        start = time.monotonic()
        image = await loaded(kind.name, corpus, options)
        assert time.monotonic() - start < MOST_SECONDS, way
        if isinstance(image, ImageError):
            assert image.code in kind.codes, (way, image.message)
            assert re.fullmatch(f"Image '{re.escape(kind.name)}' .{{10,}}", image.message), way
            assert image.message.isprintable(), way
        elif not kind.is_hidden or options.validate == "full":  # what only decoding can find needs decoding
            assert kind.is_sent, way
            seen = opened_strictly(image)
            assert max(seen.size) <= (options.max_side or 70_000), way
            assert not kind.is_picture or is_red_at_the_top_left(seen), way


async def loaded(name: str, folder: Path, options: ImageOptions) -> PreparedImage | ImageError:
    """What the loader makes of a file."""
    async with ImageLoader(options, threads=1) as loader:
        try:
            async with loader.prepare([ImageRef("path", name)], str(folder)) as (image,):
                return image
        except ImageError as error:
            return error


def opened_strictly(image: PreparedImage) -> Image.Image:
    """What was sent, decoded in full by two that forgive nothing; nobody may have to turn it."""
    head, body = (bytes(piece) for piece in image.pieces)
    data = pybase64.b64decode(body, validate=True)
    look = look_at((head + body).decode("ascii"))
    assert look.frames == 1 or head == b"data:image/jpeg;base64,"  # a multi-picture file is a JPEG to others
    with Image.open(BytesIO(data)) as check:
        check.verify()
    shown = Image.open(BytesIO(data))
    shown.load()
    format = "JPEG" if shown.format == "MPO" else shown.format
    assert head == f"data:image/{str(format).lower()};base64,".encode()
    assert shown.size == (image.width, image.height) == (look.width, look.height)
    assert shown.getexif().get(ORIENTATION, 1) not in range(2, 9)  # all see the same, whether they obey EXIF
    return shown


def is_red_at_the_top_left(image: Image.Image) -> bool:
    """Whether the middle of the corner is red."""
    place = image.width * CORNER // WIDTH // 2, image.height * CORNER // HEIGHT // 2
    red, green, blue = image.convert("RGB").getpixel(place)
    return bool(red > 200 and green < 70 and blue < 70)


def test_corpus_is_large_and_every_name_is_there_once() -> None:
    """A kind is known by its file."""
    assert len(KINDS) >= 400
    assert len({kind.name.lower() for kind in KINDS}) == len(KINDS)
    assert all(kind.codes or kind.is_sent for kind in KINDS)


@pytest.mark.slow
def test_corpus_is_the_same_each_time(corpus: Path) -> None:
    """What failed once can be made again."""
    for kind in KINDS:
        assert sha256(kind.make()).digest() == sha256((corpus / kind.name).read_bytes()).digest(), kind.name


# Together, as a user would


@pytest.fixture(scope="session")
def strict_endpoint() -> Iterator[str]:
    """An endpoint that decodes every image in full."""
    with serving() as base_url:
        yield base_url


MEASURE = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:])
_, status, usage = os.wait4(process.pid, 0)
process.returncode = os.waitstatus_to_exitcode(status)
print(process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), file=sys.stderr)
"""
"""Run by a small process of its own: a peak counts from the fork on, with what the parent had in memory."""


def measured(*arguments: str, cwd: Path) -> tuple[int, int, str, str]:
    """Exit code, peak of resident memory in bytes, and what was printed to both streams."""
    command = [sys.executable, "-c", MEASURE, *COMMAND, *arguments]
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=True)
    *said, last = done.stderr.splitlines()
    code, peak = map(int, last.split())
    return code, peak, done.stdout, "\n".join(said)


def refusals_of(base_url: str) -> int:
    """How often the endpoint said 400."""
    with urllib.request.urlopen(base_url.removesuffix("/v1") + "/stats") as reply:
        by_status: dict[str, int] = json.load(reply)["by_status"]
    return by_status.get("400", 0)


@pytest.mark.slow
@pytest.mark.parametrize("validate", ["header", "full"])
def test_check_looks_at_the_whole_corpus(validate: str, corpus: Path) -> None:
    """Every record is counted; memory stays bounded."""
    code, peak, printed, said = measured(
        "check", "corpus.jsonl", "--validate", validate, "--json", cwd=corpus
    )
    found = json.loads(printed)
    assert code == 1
    assert found["records"] == len(KINDS)
    assert peak < MOST_BYTES
    assert "Traceback" not in said


@pytest.mark.slow
@pytest.mark.parametrize("flags", [("--validate", "full"), ("--max-side", "64", "--validate", "full"), ()])
def test_run_over_the_whole_corpus_ends_every_record(
    flags: tuple[str, ...], corpus: Path, strict_endpoint: str, tmp_path: Path
) -> None:
    """Answered, or failed by an error that names the file; and the endpoint never has to refuse an image."""
    output = tmp_path / "out.jsonl"
    refused_before = refusals_of(strict_endpoint)
    options = ("-o", str(output), "--base-url", strict_endpoint, "--model", "looks-1", "--fsync", "never")
    code, peak, _, said = measured("run", "corpus.jsonl", *options, *flags, cwd=corpus)
    assert code == 1, said
    assert peak < MOST_BYTES
    assert "Traceback" not in said
    failures = failures_of(tmp_path / "out.failures.jsonl")
    done = {line["id"] for line in answers(output)}
    assert done | failures.keys() == {kind.name for kind in KINDS}
    assert not done & failures.keys()
    hidden = {kind.name for kind in KINDS if kind.is_hidden} if "full" not in flags else set()
    assert {name for name, error in failures.items() if error["type"] != "ImageError"} <= hidden
    assert all(f"Image '{name}' " in failures[name]["message"] for name in failures.keys() - hidden)
    assert refusals_of(strict_endpoint) - refused_before <= len(hidden)


def failures_of(path: Path) -> dict[str, dict[str, Any]]:
    """The errors, by record."""
    return {line["id"]: line["error"] for line in answers(path)}


# What the corpus brought to light, beyond what a file alone can show


@pytest.mark.parametrize("size", [(70_000, 3), (3, 70_000)])
@pytest.mark.parametrize("options", [{"max_bytes": 20_000}, {"max_pixels": 200_000}, {"max_side": 66_000}])
def test_side_beyond_what_a_jpeg_can_have_is_no_reason_to_fail(
    size: tuple[int, int], options: dict[str, int]
) -> None:
    """Shrunk to a JPEG that exists, or kept as a PNG."""
    data = kinds_png.encoded(noise(700, 3).resize(size), "PNG")
    image = prepare_file(data, "'x'", ImageOptions(**options))
    assert opened_strictly(image).size == (image.width, image.height)


def test_decoding_room_is_shared_in_order() -> None:
    """A large one waits for the small ones before it, not for those after it."""
    room, order = DecodingRoom(100), []
    first_is_in, may_leave = threading.Event(), threading.Event()

    def first() -> None:
        with room.hold(60):
            first_is_in.set()
            may_leave.wait(5)
            order.append("first")

    def large() -> None:
        with room.hold(10**12):
            order.append("large")
            assert repr(room) == "DecodingRoom(100 of 100 bytes)"

    threads = [threading.Thread(target=first), threading.Thread(target=large)]
    threads[0].start()
    assert first_is_in.wait(5)
    threads[1].start()
    may_leave.set()
    for thread in threads:
        thread.join(5)
    assert order == ["first", "large"]
    with room.hold(100):
        pass


@pytest.mark.parametrize("extra", [b"", b"junk", bytes(60)])
def test_gif_is_whole_to_the_endpoint_with_anything_behind_its_end(extra: bytes) -> None:
    """The blocks lead to the end, wherever the file ends."""
    gif = kinds_png.encoded(picture(), "GIF") + extra
    uri = "data:image/gif;base64," + pybase64.b64encode(gif).decode()
    assert look_at(uri).frames == 1


def test_png_without_its_palette_is_damaged_to_the_endpoint() -> None:
    """Not a fault of the endpoint."""
    data = next(kind for kind in KINDS if kind.name == "png_palette_missing.png").make()
    with pytest.raises(ImageError):
        look_at("data:image/png;base64," + pybase64.b64encode(data).decode())
