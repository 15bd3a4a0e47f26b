"""One measured job in a process of its own: N records over a folder of images, W in flight; prints JSON.

    python -m benchmarks.clients engine --url http://127.0.0.1:PORT/v1 --images DIR --records 5000 --workers 9

Each client does the whole job: read a file, base64, chat request, reply, JSONL. `engine` does it through the
public API with all that is on by default (ids, journal, retry, gates, statistics); `minimal` is the least
that aiohttp needs; `raw` speaks HTTP by hand over asyncio protocols and is the ceiling for Python.
`--prebuilt` gives `minimal` and `raw` bodies that were built beforehand: what is left is the wire.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pybase64

HEAD = (
    b'{"model":"benchmark","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":'
    b'"data:image/jpeg;base64,'
)
TAIL = b'"}},{"type":"text","text":"Question %d"}]}]}'


@dataclass(frozen=True)
class Job:
    """What every client is given."""

    url: str
    images: list[Path]
    records: int
    workers: int
    folder: Path
    bodies: dict[Path, tuple[bytes, bytes]] = field(default_factory=dict)
    """The first two pieces of each body, where they are built beforehand."""

    def prebuild(self) -> None:
        """Build them."""
        for image in self.images:
            self.bodies[image] = HEAD, pybase64.b64encode(image.read_bytes())

    def body(self, number: int, image: Path) -> tuple[bytes, bytes, bytes]:
        """A request body in pieces."""
        head, encoded = self.bodies.get(image) or (HEAD, pybase64.b64encode(image.read_bytes()))
        return head, encoded, TAIL % number

    def items(self) -> Iterator[tuple[int, Path]]:
        """Records as (number, image)."""
        for number in range(self.records):
            yield number, self.images[number % len(self.images)]


def line(number: int, image: Path, reply: bytes) -> bytes:
    """A result line."""
    text = orjson.loads(reply)["choices"][0]["message"]["content"]
    return orjson.dumps({"id": number, "image": [str(image)], "vqa": text}) + b"\n"


async def engine(job: Job) -> None:
    """The engine, through its public API, on a JSONL file."""
    from vqa_async import open_engine

    source = job.folder / "in.jsonl"
    with source.open("wb") as file:
        for number, image in job.items():
            turn = {"from": "human", "value": f"Question {number}"}
            file.write(orjson.dumps({"image": [str(image)], "conversation": [turn]}) + b"\n")
    options = {"base_url": job.url, "model": "benchmark", "max_workers": job.workers, "api_key": "benchmark"}
    async with open_engine(**options) as opened:
        started()
        summary = await opened.run(str(source), str(job.folder / "out.jsonl"))
    assert summary.statistics.succeeded == job.records, summary


async def minimal(job: Job) -> None:
    """The least that aiohttp needs: workers over one iterator, body in pieces, one write a line."""
    import aiohttp
    from aiohttp import payload

    class Pieces(payload.Payload):
        def __init__(self, pieces: tuple[bytes, ...]) -> None:
            super().__init__(pieces, content_type="application/json")
            self._size = sum(map(len, pieces))

        def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
            return b"".join(self._value).decode()

        async def write(self, writer: object) -> None:
            for piece in self._value:
                await writer.write(piece)  # type: ignore[attr-defined]

    items = job.items()
    headers = {"Authorization": "Bearer benchmark"}
    with (job.folder / "out.jsonl").open("ab", buffering=0) as out:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def work() -> None:
                for number, image in items:
                    data = Pieces(job.body(number, image))
                    async with session.post(
                        f"{job.url}/chat/completions", data=data, headers=headers
                    ) as reply:
                        out.write(line(number, image, await reply.read()))

            started()
            await asyncio.gather(*(work() for _ in range(job.workers)))


class _Raw(asyncio.Protocol):
    """One connection of the raw client: a request out, the next when its reply is whole."""

    def __init__(
        self, next_request: Callable[[], tuple[bytes, ...] | None], keep: Callable[[bytes], None]
    ) -> None:
        self._next_request = next_request
        self._keep = keep
        self._buffer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        pieces = self._next_request()
        if pieces is None:
            self.done.set_result(None)
            self._transport.close()
            return
        for piece in pieces:
            self._transport.write(piece)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(rest) >= length:
            self._keep(rest[:length])
            self._buffer = rest[length:]
            self._send()


async def raw(job: Job) -> None:
    """HTTP by hand over asyncio protocols: the ceiling."""
    items = job.items()
    address = urlsplit(job.url)
    loop = asyncio.get_running_loop()
    with (job.folder / "out.jsonl").open("ab", buffering=0) as out:

        def connection() -> _Raw:
            current: list[tuple[int, Path]] = []

            def next_request() -> tuple[bytes, ...] | None:
                item = next(items, None)
                if item is None:
                    return None
                current[:] = [item]
                pieces = job.body(*item)
                head = (
                    f"POST {address.path}/chat/completions HTTP/1.1\r\nHost: {address.netloc}\r\n"
                    "Content-Type: application/json\r\nAuthorization: Bearer benchmark\r\n"
                    f"Content-Length: {sum(map(len, pieces))}\r\n\r\n"
                )
                return head.encode() + pieces[0], pieces[1], pieces[2]

            return _Raw(next_request, lambda reply: out.write(line(*current[0], reply)) and None)

        started()
        made = [
            await loop.create_connection(connection, address.hostname, address.port)
            for _ in range(job.workers)
        ]
        await asyncio.gather(*(protocol.done for _, protocol in made))


CLIENTS: dict[str, Callable[[Job], Awaitable[None]]] = {"engine": engine, "minimal": minimal, "raw": raw}

_started = [0.0, 0.0]


def started() -> None:
    """Call when everything is imported and open: the clock of the measurement begins here."""
    _started[:] = [time.perf_counter(), time.process_time()]


def measure(client: Callable[[Job], Awaitable[None]], job: Job, *, uvloop: bool = False) -> dict[str, float]:
    """Run ``client`` and say what it took: seconds, CPU seconds (both since ``started``), peak RSS."""
    if uvloop:
        import uvloop as loops
    else:
        loops = asyncio
    loops.run(client(job))
    seconds, cpu = time.perf_counter() - _started[0], time.process_time() - _started[1]
    return {"seconds": seconds, "cpu_s": cpu, "rss_mb": peak_rss_mb()}


def peak_rss_mb() -> float:
    """Peak of resident memory of this program; ``ru_maxrss`` would be its starter's, if that was larger."""
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split(maxsplit=1)[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure one client, print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("--url", required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--records", type=int, required=True)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--prebuilt", action="store_true")
    arguments = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory() as folder:
        job = Job(
            arguments.url,
            sorted(arguments.images.iterdir()),
            arguments.records,
            arguments.workers,
            Path(folder),
        )
        if arguments.prebuilt:
            job.prebuild()
        print(json.dumps(measure(CLIENTS[arguments.client], job, uvloop=arguments.uvloop)))


if __name__ == "__main__":
    main()
