"""What users pick instead of this engine, each doing the whole job as its documentation shows it.

One file a peer. Each reads image files, base64s them, asks the endpoint, and leaves the answers in a file. It
runs in the environment of the peers, so nothing here imports the engine or what the engine depends on.
"""

from __future__ import annotations

import base64
import json
import resource
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "benchmark"
API_KEY = "benchmark"
HELLO = [{"role": "user", "content": "Hello"}]  # what a client is warmed with, where it loads itself late
NO_LIMIT = 1_000_000_000  # for libraries whose own rate limit cannot be switched off


@dataclass(frozen=True)
class Peer:
    """How a peer is found and called.

    Args:
        title: its row in the table.
        runs: module and function in this package.
        packages: the distributions that it cannot do without; their versions are written down.
        note: what to know when its figures are read.
    """

    title: str
    runs: str
    packages: tuple[str, ...]
    note: str = ""


PEERS = {
    "threads": Peer("openai SDK + thread pool", "openai_sdk:threads", ("openai",)),
    "async": Peer("AsyncOpenAI + semaphore + gather", "openai_sdk:semaphore", ("openai",)),
    "aiohttp": Peer("AsyncOpenAI, its aiohttp transport", "openai_sdk:over_aiohttp", ("openai", "aiohttp")),
    "flexllm": Peer(
        "flexllm",
        "flexllm:documented",
        ("flexllm", "opencv-python"),
        "as documented; decodes and encodes each image, holds them all, repeats them in its output",
    ),
    "flexllm-inlined": Peer(
        "flexllm, images inlined by the caller",
        "flexllm:inlined",
        ("flexllm",),
        "told not to repeat its input in its output; holds every image of the run as base64",
    ),
    "async-batch-llm": Peer("async-batch-llm", "async_batch_llm:run", ("async-batch-llm", "openai")),
    "curator": Peer("bespokelabs-curator", "curator:run", ("bespokelabs-curator",)),
    "litellm": Peer("litellm + semaphore + gather", "litellm:run", ("litellm", "openai")),
    "oaib": Peer(
        "oaib",
        "oaib:run",
        ("oaib", "openai"),
        "holds every image of the run as base64; its workers do not bound what is in flight",
    ),
    "httpx": Peer("httpx + semaphore + gather", "httpx:run", ("httpx",)),
}


@dataclass(frozen=True)
class Job:
    """What every peer is given: ``records`` questions over ``images``, ``workers`` of them in flight."""

    url: str
    images: list[Path]
    records: int
    workers: int
    folder: Path

    @property
    def output(self) -> Path:
        """Where the answers go."""
        return self.folder / "out.jsonl"

    def items(self) -> Iterator[tuple[int, Path]]:
        """Records as (number, image)."""
        for number in range(self.records):
            yield number, self.images[number % len(self.images)]


def question(number: int) -> str:
    """What is asked about a record's image."""
    return f"Question {number}"


def messages(number: int, image: Path) -> list[dict[str, Any]]:
    """The chat of a record, its image read and inlined."""
    encoded = base64.b64encode(image.read_bytes()).decode()
    return [
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{encoded}"}},
                {"type": "text", "text": question(number)},
            ],
        }
    ]


def line(number: int, image: Path, answer: str) -> str:
    """A result line."""
    return json.dumps({"id": number, "image": str(image), "answer": answer}) + "\n"


_started = [0.0, 0.0]


def started(job: Job) -> None:
    """Call when everything is imported and the client is ready: counting and the clock begin here."""
    _endpoint(job, "reset")
    _started[:] = [time.perf_counter(), _cpu_s()]


def stopped(job: Job) -> dict[str, float]:
    """What the job took since ``started``, how many requests arrived, how many answers are in its files."""
    seconds, cpu_s = time.perf_counter() - _started[0], _cpu_s() - _started[1]
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "rss_mb": _peak_rss_mb(),
        "answered": _endpoint(job, "stats"),
        "written": job.output.read_bytes().count(b"A test pattern of many colours"),
    }


def _endpoint(job: Job, what: str) -> int:
    """The number of requests that the endpoint has answered."""
    with urllib.request.urlopen(f"{job.url.removesuffix('/v1')}/{what}", timeout=10) as reply:
        return int(json.load(reply)["answered"])


def _cpu_s() -> float:
    """CPU seconds of this process, its threads and its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def _peak_rss_mb() -> float:
    """Peak resident memory; Linux counts that of whoever started a process in ``ru_maxrss``, not in this."""
    with suppress(OSError):
        for field in Path("/proc/self/status").read_text().splitlines():
            if field.startswith("VmHWM:"):
                return int(field.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
