"""How fast images are prepared, on one core and on two, against Pillow called plainly on one core.

    python -m benchmarks.images                          5 rounds, about 3 minutes
    python -m benchmarks.images --quick                  1 round, half a minute; nothing is stored

Each kind of work by the engine's own loader, its cache off, with one thread on one core and with two threads
on two, and by the few lines of Pillow that do the same: open, turn, `thumbnail`, save with the same quality,
base64. What passes through is not decoded by either. All files were just written, so none comes from a disk.

The last row asks about 64 images 10,000 times, through the whole engine with a transport that answers at
once: each image must be encoded once.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import functools
import io
import json
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import cores, images, interleaved, run_module, store, table

if TYPE_CHECKING:
    from PIL import Image

PHOTO = (4000, 3000)
SMALL_PHOTO = (1600, 1200)
FILES = 6
"""Different files of a kind; more than are in work at once, so that none is asked for while it is made."""

SHRUNK_SIDE = 1024
QUALITY = 90
FAITHFUL_QUALITY = 95
"""What the loader saves with where nothing but the form is to change; plain Pillow is given the same."""

KINDS = {
    "pass": "pass through (100 KB JPEG)",
    "shrink": "shrink (12 megapixels to 1024 px, JPEG)",
    "transcode": "transcode (2 megapixels, BMP to PNG)",
    "turn": "turn (2 megapixels, JPEG, EXIF orientation 6)",
}
WAYS = ("plain", "1", "2")

ASKED_IMAGES, ASKED_RECORDS = 64, 10_000


def measure(quick: bool = False, *, rounds: int = 5, seconds: float = 2.0) -> dict[str, Any]:
    """The median figures of each kind of work done each way, and the encodes of images asked for again.

    Args:
        quick: one round.
        rounds: how often each is measured.
        seconds: how long each measurement lasts.
    """
    if quick:
        rounds, seconds = 1, 1.5
    ways = WAYS if len(cores()[0]) else WAYS[:2]
    with tempfile.TemporaryDirectory() as folder, images(100_000, ASKED_IMAGES) as small:
        run_module("benchmarks.images", "--make", folder)  # in a process of its own: it takes much memory
        folders = {kind: small if kind == "pass" else Path(folder) / kind for kind in KINDS}
        found = interleaved(
            {f"{kind} {way}": _prepared(kind, way, folders[kind], seconds) for kind in KINDS for way in ways},
            rounds,
        )
        asked = run_module("benchmarks.images", "--ask", small)
    return {
        "rounds": rounds,
        "kinds": {kind: {way: found[f"{kind} {way}"] for way in ways} for kind in KINDS},
        "asked": asked,
    }


def _prepared(kind: str, way: str, folder: Path, seconds: float) -> Callable[[], Mapping[str, float]]:
    arguments = ["--prepare", kind, way, folder, "--seconds", seconds]
    pin = ["taskset", "-c", "0,1"] if way == "2" else None
    return functools.partial(run_module, "benchmarks.images", *arguments, pin=pin)


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    shrink = result["kinds"]["shrink"]
    asked = result["asked"]
    found: list[tuple[str, float, str, float]] = [
        (
            f"{asked['images']} images asked about {asked['records']:,} times: encodes done",
            asked["encodes"],
            "<=",
            asked["images"],
        )
    ]
    if "2" in shrink:
        what = "shrink to 1024 px + JPEG, 12-megapixel photos: images/s on 2 cores / plain Pillow on one"
        found.insert(0, (what, shrink["2"]["rate"] / shrink["plain"]["rate"], ">=", 3.0))
    return found


# --- in a process of its own --------------------------------------------------------------------------------


def make(folder: Path) -> None:
    """Write the test photos: smooth colours under grain, as large as those of a camera."""
    for kind in KINDS:
        if kind != "pass":
            (folder / kind).mkdir()
    for number in range(FILES):
        _photo(PHOTO, number).save(folder / "shrink" / f"{number}.jpg", quality=QUALITY)
        small = _photo(SMALL_PHOTO, number)
        small.save(folder / "transcode" / f"{number}.bmp")
        exif = small.getexif()
        exif[0x0112] = 6
        small.save(folder / "turn" / f"{number}.jpg", quality=QUALITY, exif=exif)


def _photo(size: tuple[int, int], seed: int) -> Image.Image:
    from PIL import Image, ImageChops

    colours = Image.frombytes("RGB", (48, 36), random.Random(seed).randbytes(48 * 36 * 3))
    grain = Image.effect_noise((size[0] // 2, size[1] // 2), 12).resize(size, Image.Resampling.BICUBIC)
    smooth = colours.resize(size, Image.Resampling.BICUBIC)
    return ImageChops.add(smooth, Image.merge("RGB", (grain, grain, grain)), 1, -128)


def prepare(kind: str, way: str, folder: Path, seconds: float) -> dict[str, float]:
    """Prepare images for so many seconds; images a second and CPU milliseconds an image."""
    files = sorted(folder.iterdir())
    if way == "plain":
        return _timed_plain(PLAIN[kind], files, seconds)
    return asyncio.run(_timed_loader(kind, int(way), files, seconds))


def _timed_plain(work: Callable[[Path], bytes], files: Sequence[Path], seconds: float) -> dict[str, float]:
    work(files[0])  # what is imported on first use
    wall, cpu, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        work(files[count % len(files)])
        count += 1
    return _figures(count, wall, cpu)


async def _timed_loader(kind: str, threads: int, files: Sequence[Path], seconds: float) -> dict[str, float]:
    from vqa_async.config import ImageOptions
    from vqa_async.images import ImageLoader
    from vqa_async.models import ImageRef

    side = SHRUNK_SIDE if kind == "shrink" else 0
    options = ImageOptions(max_side=side, jpeg_quality=QUALITY, image_cache_bytes=0)
    async with ImageLoader(options, threads=threads) as loader:
        count = 0

        async def work(until: float) -> None:
            nonlocal count
            while time.perf_counter() < until:
                ref = ImageRef("path", str(files[count % len(files)]))
                count += 1
                async with loader.prepare((ref,), ""):
                    pass

        # One image beforehand, for what is imported on first use.
        async with loader.prepare((ImageRef("path", str(files[0])),), ""):
            pass
        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(work(wall + seconds) for _ in range(threads + 1)))
        # What counts is what was made: two workers may have come to wait for one image.
        return _figures(loader.statistics().encodes - 1, wall, cpu)


def _figures(count: int, wall: float, cpu: float) -> dict[str, float]:
    seconds = time.perf_counter() - wall
    return {"rate": count / seconds, "cpu_ms": (time.process_time() - cpu) / count * 1000}


def _plain_pass(path: Path) -> bytes:
    from PIL import Image

    data = path.read_bytes()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
    return base64.b64encode(data)


def _plain_shrink(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        image.thumbnail((SHRUNK_SIDE, SHRUNK_SIDE))
        return _saved(image, "JPEG", quality=QUALITY)


def _plain_transcode(path: Path) -> bytes:
    from PIL import Image

    with Image.open(path) as image:
        return _saved(image, "PNG")


def _plain_turn(path: Path) -> bytes:
    from PIL import Image, ImageOps

    with Image.open(path) as image:
        return _saved(ImageOps.exif_transpose(image), "JPEG", quality=FAITHFUL_QUALITY, subsampling=0)


def _saved(image: Image.Image, format: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return base64.b64encode(out.getvalue())


PLAIN: dict[str, Callable[[Path], bytes]] = {
    "pass": _plain_pass,
    "shrink": _plain_shrink,
    "transcode": _plain_transcode,
    "turn": _plain_turn,
}


async def ask(folder: Path) -> dict[str, float]:
    """Ask about a few images many times over; images shrunk, so that each encode is real work."""
    from vqa_async import open_engine
    from vqa_async.testing import FakeTransport, reply

    files = sorted(folder.iterdir())
    rows = (
        {"image": str(files[number % len(files)]), "conversation": f"Question {number}"}
        for number in range(ASKED_RECORDS)
    )
    options: dict[str, Any] = {
        "base_url": "http://127.0.0.1:1/v1",
        "model": "benchmark",
        "max_workers": 100,
        "max_side": 256,
    }
    begun = time.perf_counter()
    async with open_engine(api_key="", transport=FakeTransport([reply()]), **options) as engine:
        answered = [result.ok async for result in engine.stream(rows)]
        statistics = engine.image_statistics()
    assert sum(answered) == ASKED_RECORDS
    return {
        "images": len(files),
        "records": ASKED_RECORDS,
        "encodes": statistics.encodes,
        "cache_hits": statistics.cache_hits,
        "seconds": time.perf_counter() - begun,
    }


# --- what is printed ----------------------------------------------------------------------------------------


def rows(result: Mapping[str, Any]) -> list[list[object]]:
    """The table's rows."""
    lines: list[list[object]] = []
    for kind, ways in result["kinds"].items():
        plain, one, two = ways["plain"], ways["1"], ways.get("2")
        second = ["it needs two cores", ""]
        if two is not None:
            second = [f"{two['rate']:,.1f}", f"{two['rate'] / plain['rate']:.2f}"]
        first = [f"{one['rate']:,.1f}", f"{one['rate'] / plain['rate']:.2f}"]
        costs = [f"{plain['cpu_ms']:.2f}", f"{one['cpu_ms']:.2f}"]
        lines.append([KINDS[kind], f"{plain['rate']:,.1f}", *first, *second, *costs])
    return lines


def _asked(asked: Mapping[str, float]) -> str:
    return (
        f"{asked['images']:.0f} images asked about {asked['records']:,.0f} times: encodes done: "
        f"{asked['encodes']:,.0f}; {asked['cache_hits']:,.0f} times it was there already."
    )


def main() -> None:
    """Measure, print the table, store the figures; or do the part of a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="how long one measurement lasts")
    parser.add_argument("--quick", action="store_true", help="1 round; nothing is stored")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepare", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--ask", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.make or a.prepare or a.ask:
        print(json.dumps(_part(a)))
        return
    result = measure(a.quick, rounds=a.rounds, seconds=a.seconds)
    header = [
        "work", "plain Pillow, images/s", "1 core", "/ plain", "2 cores", "/ plain",
        "plain CPU ms", "1 core CPU ms",
    ]  # fmt: skip
    print(table(header, rows(result)))
    print(f"\n{_asked(result['asked'])}")
    if not a.quick:
        store("images", {"arguments": {"rounds": a.rounds, "seconds": a.seconds}, **result})


def _part(a: argparse.Namespace) -> dict[str, float]:
    """What one of the processes does that this starts."""
    if a.make:
        make(a.make)
        return {}
    if a.ask:
        return asyncio.run(ask(a.ask))
    kind, way, folder = a.prepare
    return prepare(kind, way, Path(folder), a.seconds)


if __name__ == "__main__":
    main()
