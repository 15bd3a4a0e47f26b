"""What all benchmarks share: images, the endpoint on its own core, interleaved rounds, medians, tables, JSON.

The machines that this runs on are shared and noisy. So every comparison runs its candidates in turn, round
after round, each in a fresh process on core 0 with the endpoint on core 1 (where there are two), and quotes
the median of each and the ratios of medians. Single figures from different runs mean nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("vqa-async", "aiohttp", "orjson", "pybase64", "pillow", "tenacity", "openai", "uvloop")


def cores() -> tuple[list[str], list[str]]:
    """Command prefixes that pin the client and the endpoint to a core each; empty with one core."""
    if (os.cpu_count() or 1) < 2 or platform.system() != "Linux":
        return [], []
    return ["taskset", "-c", "0"], ["taskset", "-c", "1"]


@contextlib.contextmanager
def endpoint(latency_s: float = 0.0) -> Iterator[str]:
    """The benchmark endpoint in a process of its own; gives its base URL."""
    command = [*cores()[1], sys.executable, "-m", "benchmarks.endpoint", "--latency", str(latency_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextlib.contextmanager
def images(size_bytes: int, count: int = 0) -> Iterator[Path]:
    """A folder with ``count`` different JPEGs of ``size_bytes`` each.

    By default so many that the engine's image cache (32 MiB) never has the one that is asked for next: the
    whole job is measured.
    """
    count = count or max(50, 48_000_000 // size_bytes)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(count):
            (Path(folder) / f"{number:04}.jpg").write_bytes(jpeg(size_bytes, number))
        yield Path(folder)


def jpeg(size_bytes: int, seed: int) -> bytes:
    """A JPEG of smooth noise, padded with comments to ``size_bytes``."""
    from PIL import Image

    noise = random.Random(seed).randbytes(48 * 48 * 3)
    side = max(64, int(size_bytes**0.5))
    picture = Image.frombytes("RGB", (48, 48), noise).resize((side, side), Image.Resampling.BICUBIC)
    for quality in (85, 60, 40, 20, 5):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= size_bytes:
            break
    data = buffer.getvalue()
    comments = b""
    while (missing := size_bytes - len(data) - len(comments)) > 4:
        length = min(missing - 2, 65_535)
        comments += b"\xff\xfe" + length.to_bytes(2, "big") + bytes(length - 2)
    return data[:2] + comments + data[2:]


def run_module(
    module: str,
    *arguments: object,
    interpreter: str = sys.executable,
    pin: Sequence[str] | None = None,
    timeout_s: float = 600,
) -> dict[str, Any]:
    """The JSON object that ``python -m MODULE ARGUMENTS`` prints last, from a fresh process.

    Args:
        module: what to run.
        arguments: its arguments.
        interpreter: the Python to run it with; peers live in an environment of their own.
        pin: command prefix; default: the client's core.
        timeout_s: seconds after which it is killed.

    Raises:
        RuntimeError: it failed or took too long; the message is its last line.
    """
    command = [*(cores()[0] if pin is None else pin), interpreter, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"not done after {timeout_s:.0f} s") from None
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no message")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def run_client(
    client: str,
    *,
    url: str,
    folder: Path,
    records: int,
    workers: int,
    options: Sequence[str] = (),
    timeout_s: float = 600,
) -> dict[str, float]:
    """One measurement of one of ``clients.py`` in a fresh process, pinned to the client's core."""
    measured = run_module(
        "benchmarks.clients", client, "--url", url, "--images", folder,
        "--records", records, "--workers", workers, *options, timeout_s=timeout_s,
    )  # fmt: skip
    rate = records / measured["seconds"]
    return measured | {"rate": rate, "cpu_ms": measured["cpu_s"] / records * 1000}


def interleaved(
    candidates: Mapping[str, Callable[[], Mapping[str, float]]], rounds: int
) -> dict[str, dict[str, float]]:
    """The medians of each candidate, all of them measured in turn, ``rounds`` times over."""
    found: dict[str, list[Mapping[str, float]]] = {name: [] for name in candidates}
    for number in range(rounds):
        for name, measure in candidates.items():
            _say(f"round {number + 1} of {rounds}: {name}")
            found[name].append(measure())
    _say("")
    return {name: median(measured) for name, measured in found.items()}


def _say(what: str) -> None:
    """One line of progress for whoever watches, over the last one."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def median(measured: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each figure."""
    return {name: statistics.median(m[name] for m in measured) for name in measured[0]}


def machine() -> dict[str, Any]:
    """Where and with what this was measured."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    versions = {}
    for name in LIBRARIES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "cpu_count": os.cpu_count(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit.stdout.strip(),
    }


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def store(name: str, result: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json`` with the machine beside the figures."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    return path
