"""Whole runs over a few records, with prepared answers, kills and damage between them; and what must hold."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from vqa_async import open_engine
from vqa_async.engine import RunSummary
from vqa_async.journal import JournalPaths
from vqa_async.journal.codec import decode_meta
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

RECORDS = 6
"""Rows that are asked about; two more in the input cannot be."""

ROWS = [{"id": f"r{n}", "image": [], "conversation": f"Question {n} é🖼️"} for n in range(RECORDS)]
INPUT = b"".join(orjson.dumps(row) + b"\n" for row in ROWS) + b'{"id": "bad", "image": "a.png"}\n{"id": "torn'
UNASKED = 2

ANSWERED, LOST, BUSY, REJECTED, REFUSED, STOPPED = (
    "answered",
    "lost",
    "busy",
    "rejected",
    "refused",
    "stopped",
)
OUTCOMES = (ANSWERED, LOST, BUSY, REJECTED, REFUSED, STOPPED)
"""How asking can end: an answer, a retryable failure (2), one for good (2), the end of the run."""

FOR_GOOD = (REJECTED, REFUSED)


def answer(number: int, outcome: str) -> Response:
    """The reply to question ``number``."""
    match outcome:
        case "answered":
            return reply(f"- Q: Question {number}\n  A: Answer {number} é\u2028")
        case "lost":
            return reply(body=b"upstream connect error")
        case "busy":
            return reply(status=503, body=b"busy")
        case "rejected":
            return reply(status=400, body=b'{"error":{"message":"no","code":"context_length_exceeded"}}')
        case "refused":
            return reply(None, refusal="I cannot help with that.")
        case _:
            return reply(status=401, body=b'{"error":"Unauthorized"}')


def asked(request: Request) -> int:
    """Which question a request is."""
    content = orjson.loads(b"".join(request.body))["messages"][-1]["content"]
    return int(content.split()[1])


class Output:
    """One output and the runs into it, each in a loop and an engine of its own."""

    def __init__(self, folder: Path) -> None:
        self.input = folder / "in.jsonl"
        self.input.write_bytes(INPUT)
        (folder / "out").mkdir()
        self.paths = JournalPaths.of(folder / "out" / "out.jsonl")
        self.requests: list[int] = []
        """The questions that the last run sent."""

    def run(self, outcomes: Sequence[str], *, killed_at: int | None = None, **options: Any) -> RunSummary:
        """One run in which question n ends like ``outcomes[n]``.

        Args:
            killed_at: number of the request at which the process is killed: the files are afterwards as
                they were at that moment.
        """
        self.requests = []
        snapshot: dict[str, bytes] | None = None

        def answered(request: Request) -> Response:
            nonlocal snapshot
            if len(self.requests) == killed_at:
                snapshot = self.contents()
            number = asked(request)
            self.requests.append(number)
            return answer(number, outcomes[number])

        summary = asyncio.run(self._run(FakeTransport(answered), options))
        if snapshot is not None:
            self.put_back(snapshot)
        return summary

    async def _run(self, transport: FakeTransport, options: dict[str, Any]) -> RunSummary:
        how = {"max_workers": 3, "max_attempts": 1, "fsync": "never", "api_key": "", **options}
        async with open_engine(
            base_url="http://test.invalid/v1", model="m", transport=transport, **how
        ) as engine:
            return await engine.run(str(self.input), str(self.paths.successes))

    def contents(self) -> dict[str, bytes]:
        """Every file of the output but the lock, which says who asked last."""
        folder = self.paths.successes.parent
        return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.suffix != ".lock"}

    def put_back(self, contents: dict[str, bytes]) -> None:
        """Make the output what it was."""
        folder = self.paths.successes.parent
        for path in folder.iterdir():
            path.unlink()
        for name, data in contents.items():
            (folder / name).write_bytes(data)

    def finished(self) -> set[str]:
        """The ids whose line says that they need no other request."""
        found = set()
        for path in (self.paths.successes, self.paths.failures):
            for line in whole_lines(path):
                meta = decode_meta(line)
                if meta is not None and not meta.retryable:
                    found.add(meta.id)
        return found

    def check(self, outcomes: Sequence[str] | None = None) -> None:
        """Every record has one line, and it is the right one.

        Args:
            outcomes: how each question must have ended, if that is known.
        """
        successes, failures = (objects(path) for path in (self.paths.successes, self.paths.failures))
        ids = [line["_meta"]["id"] for line in successes + failures]
        asked_about = {f"r{n}" for n in range(RECORDS)}
        assert len(ids) == len(set(ids)) == RECORDS + UNASKED
        assert asked_about <= set(ids)
        for line in successes:
            number = line["_meta"]["id"].removeprefix("r")
            assert line["vqa"] == f"- Q: Question {number}\n  A: Answer {number} é\u2028"
            (pair,) = line["qa_pairs"]
            assert (pair["question"], pair["answer"]) == (f"Question {number}", f"Answer {number} é")
            assert line["conversation"] == f"Question {number} é🖼️"
        assert all("vqa" not in line and line["error"]["message"] for line in failures)
        if outcomes is not None:
            answered = {f"r{n}" for n, outcome in enumerate(outcomes) if outcome == ANSWERED}
            assert {line["_meta"]["id"] for line in successes} == answered


def whole_lines(path: Path) -> list[bytes]:
    """The lines of a file that have their newline; none if there is no file."""
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def objects(path: Path) -> list[dict[str, Any]]:
    """The lines of a file, each strict UTF-8 and JSON as any reader takes it, and with the right checksum."""
    data = path.read_bytes() if path.exists() else b""
    assert data[-1:] in (b"", b"\n")
    found = []
    for line in whole_lines(path):
        assert decode_meta(line) is not None
        found.append(json.loads(line.decode("utf-8", "strict")))
    return found


@contextmanager
def new_output() -> Iterator[Output]:
    """An output that does not exist yet, in a folder that goes with the block."""
    with tempfile.TemporaryDirectory(prefix="vqa-runs-") as name:
        yield Output(Path(name))
