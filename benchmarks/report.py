"""How soon a report is made, how large it is, and how it feels in a browser.

    python -m benchmarks.report                    10,000 records inside the page, 50,000 beside it; 5 min
    python -m benchmarks.report --quick            1,000 records; nothing is stored

Records have five pairs each and images that are all different: photos of smooth noise, 640 x 480, which JPEG
finds harder than most photos. The page is made by a process of its own, then opened in headless Chromium from
the file: `opens` is from navigation until the records can be read, filtered and moved through; `scroll` is a
jump to anywhere in the list, and `search` a word of any kind, until what it gives is drawn. Needs Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.harness import run_module, store, table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "report"))
from chromium import CHROMIUM, Tab, browser  # the driver of the tests

WORDS = (
    "the",
    "a",
    "red",
    "blue",
    "green",
    "tree",
    "house",
    "man",
    "woman",
    "dog",
    "cat",
    "street",
    "sign",
    "table",
    "window",
    "light",
    "shadow",
    "left",
    "right",
    "behind",
    "front",
    "holding",
    "wearing",
    "bright",
    "small",
    "large",
    "two",
    "three",
    "four",
    "old",
    "new",
    "wooden",
    "metal",
    "glass",
)
SEARCHED = ("red", "red dog", "nowhere", "window light two", '"the red"', "rec-77", "")

_DRAWN = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
_SCROLL = f"""(async () => {{
  const list = document.getElementById("list"), took = [];
  for (let n = 1; n <= 60; n += 1) {{
    const begun = performance.now();
    list.scrollTop = (n * 104729 * 84) % list.scrollHeight;
    {_DRAWN};
    took.push(performance.now() - begun);
  }}
  return took;
}})()"""
_SEARCH = f"""(async () => {{
  const field = document.getElementById("search"), took = [];
  for (const text of {json.dumps(SEARCHED * 3)}) {{
    const begun = performance.now();
    field.value = text;
    field.dispatchEvent(new Event("input"));
    do {_DRAWN}; while (document.documentElement.dataset.searching);
    took.push(performance.now() - begun);
  }}
  return took;
}})()"""


def write_output(folder: Path, records: int, images: int) -> Path:
    """An output of so many records, with so many different images."""
    from vqa_async.api import run_sync
    from vqa_async.config import Config
    from vqa_async.journal import Journal

    (folder / "images").mkdir()
    for number in range(images):
        _photo(folder / "images" / f"{number:06}.jpg", number)

    async def main() -> None:
        config = Config.of(model="noise", fsync="never")
        async with Journal(folder / "out.jsonl", config, source=str(folder / "in.jsonl")) as journal:
            for result in _results(records, images):
                await journal.append(result)
            await journal.close("finished", "", {"elapsed_s": records / 100})

    run_sync(main)
    return folder / "out.jsonl"


def _photo(path: Path, seed: int) -> None:
    from PIL import Image

    noise = Image.frombytes("RGB", (40, 30), random.Random(seed).randbytes(40 * 30 * 3))
    noise.resize((640, 480), Image.Resampling.BICUBIC).save(path, "JPEG", quality=85)


def _results(records: int, images: int) -> Iterator[Any]:
    from vqa_async.models import Completion, QAPair, Record, Success, Usage

    draws = random.Random(7)

    def text(words: int) -> str:
        return " ".join(draws.choices(WORDS, k=words))

    ask = [{"from": "human", "value": "Look at the image, then write questions and answers about it."}]
    for n in range(records):
        row = {"id": f"rec-{n}", "image": [f"images/{n % images:06}.jpg"], "conversation": ask}
        pairs = tuple(
            QAPair(
                f"{text(9)}?", f"{text(draws.randint(4, 40))}.", ("length",) if draws.random() < 0.02 else ()
            )
            for _ in range(5)
        )
        yield Success(
            Record(row["id"], n, row, ()), Completion("as in the pairs", "noise", "stop", Usage(900, 150)),
            pairs, "http://models.example/v1", 1, draws.lognormvariate(0, 0.4), 1.7e9 + n / 100, "00",
        )  # fmt: skip


def build(output: Path, page: Path) -> dict[str, float]:
    """Make the page, in this process."""
    from vqa_async.report import write_report

    begun = time.perf_counter()
    summary = write_report(output, page)
    return {
        "build_s": time.perf_counter() - begun,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "megabytes": summary.bytes / 1e6,
        "images": summary.images,
        "beside": len(summary.files) - 1,
    }


async def look(page: Path, folder: Path) -> dict[str, float]:
    """Open the page and use it."""
    async with browser(folder) as tab:
        await tab.size(1400, 900)
        opens = []
        for _ in range(3):
            begun = time.perf_counter()
            await tab.go(page.as_uri())
            opens.append(time.perf_counter() - begun)
        return {"opens_s": statistics.median(opens), **await _used(tab)}


async def _used(tab: Tab) -> dict[str, float]:
    first, scroll = await tab.run(_SEARCH), await tab.run(_SCROLL)
    again = await tab.run(_SEARCH)
    if tab.complaints() or any(not url.startswith("file:") for url in tab.requests()):
        raise RuntimeError(f"the page complains or asks around: {tab.complaints()[:3]}")
    return {
        "first_search_ms": first[0],
        "search_ms": statistics.median(again),
        "slowest_search_ms": max(again),
        "scroll_ms": statistics.median(scroll),
        "slowest_scroll_ms": max(scroll),
        "heap_mb": (await tab.run("performance.memory.usedJSHeapSize")) / 1e6,
    }


def measure(quick: bool = False) -> dict[str, Any]:
    """All figures, by the number of records."""
    sizes = {1_000: 1_000} if quick else {10_000: 10_000, 50_000: 2_000}
    found: dict[str, Any] = {}
    for records, images in sizes.items():
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
            folder = Path(name)
            output = write_output(folder, records, images)
            built = run_module("benchmarks.report", "--build", output, folder / "page.html", pin=())
            used = asyncio.run(look(folder / "page.html", folder / "browser"))
            found[f"{records:,}"] = {**built, **used}
    return found


def checks(result: Mapping[str, Any]) -> list[tuple[str, float, str, float]]:
    """What was to be reached: what, measured, how they compare, target."""
    named = {name: figures for name, figures in result.items() if name in ("1,000", "10,000")}
    return [
        row
        for name, one in named.items()
        for row in (
            (f"report of {name}: opens, seconds", one["opens_s"], "<", 3.0),
            (f"report of {name}: search, ms", one["search_ms"], "<", 100.0),
            (f"report of {name}: scroll, ms", one["scroll_ms"], "<", 100.0),
            (f"report of {name}: MB", one["megabytes"], "<", 60.0),
        )
    ]


def main() -> None:
    """Measure, print the table, store the figures; or be the process that makes the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 records; nothing is stored")
    parser.add_argument("--build", nargs=2, type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.build:
        print(json.dumps(build(*a.build)))
        return
    if CHROMIUM is None:
        parser.error("no Chromium is installed: apt-get install chromium")
    result = measure(a.quick)
    names = list(next(iter(result.values())))
    rows = [[n, *(f"{result[size][n]:,.1f}" for size in result)] for n in names]
    print(table(["", *(f"{size} records" for size in result)], rows))
    for what, measured, _, target in checks(result):
        print(
            f"{'ok  ' if measured < target else 'MISS'} {what}: {measured:.1f} < {target:g}", file=sys.stderr
        )
    if not a.quick:
        store("report", {"records": result})


if __name__ == "__main__":
    main()
