"""Batches, as OpenAI's /v1/batches works through them: validated, worked on, two files of results.

Each line is answered by the very code that answers a live request, outside of its rates. Lines are read and
results written one small group at a time, in another order than they came in: clients must not rely on it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import orjson

from vqa_async.server.files import FileStore, StoredFile
from vqa_async.server.options import ServerOptions
from vqa_async.server.refusals import Refusal

CHAT_PATH = "/v1/chat/completions"

_WINDOW_S = 24 * 3600
_GROUP = 8
"""Lines in memory at once."""

_OVER = ("completed", "failed", "expired", "cancelled")

Answer = Callable[[bytes], Awaitable[tuple[int, bytes]]]
"""A request body -> HTTP status and body."""


@dataclass(slots=True)
class Batch:
    """One batch as it stands; ``times`` are when it came into its states."""

    id: str
    file: StoredFile
    metadata: dict[str, str] | None
    created_at: int
    status: str = "validating"
    total: int = 0
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None
    errors: list[dict[str, Any]] = field(default_factory=list)
    times: dict[str, int] = field(default_factory=dict)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def become(self, status: str) -> None:
        self.status = status
        self.times[status] = int(time.time())

    def form(self) -> dict[str, Any]:
        """The batch as the API shows it."""
        states = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        return {
            "id": self.id,
            "object": "batch",
            "endpoint": CHAT_PATH,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "input_file_id": self.file.id,
            "completion_window": "24h",
            "status": self.status,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "expires_at": self.created_at + _WINDOW_S,
            **{f"{state}_at": self.times.get(state) for state in states},
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": self.metadata,
        }


class BatchRoom:
    """The batches of one server, and the tasks that work on them."""

    def __init__(self, options: ServerOptions, files: FileStore, answer: Answer) -> None:
        self._options = options
        self._files = files
        self._answer = answer
        self._batches: dict[str, Batch] = {}
        self._by_key: dict[str, Batch] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._random = Random(f"batch {options.seed}")

    async def close(self) -> None:
        """End all work."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def create(self, body: bytes, key: str = "") -> Batch:
        """A new batch, on which work begins; the one that was made before under the same idempotency key.

        Raises:
            Refusal: the request is wrong, or there is no such file.
        """
        if key and key in self._by_key:
            return self._by_key[key]
        wanted = _read_wanted(body)
        file = self._files.get(wanted["input_file_id"])
        batch = Batch(f"batch_{uuid.uuid4().hex}", file, wanted.get("metadata"), int(time.time()))
        self._batches[batch.id] = batch
        if key:
            self._by_key[key] = batch
        self._tasks[batch.id] = asyncio.create_task(self._work(batch), name=batch.id)
        return batch

    def get(self, id: str) -> Batch:
        """The batch with this id.

        Raises:
            Refusal: 404, there is none.
        """
        if id not in self._batches:
            raise Refusal(404, f"No batch found with id '{id[:100]}'.", param="batch_id")
        return self._batches[id]

    def newest_first(self) -> list[Batch]:
        """All batches."""
        return list(reversed(self._batches.values()))

    def cancel(self, id: str) -> Batch:
        """Let a batch end where it is.

        Raises:
            Refusal: there is none, or it is over.
        """
        batch = self.get(id)
        if batch.status in _OVER:
            said = f"A batch that is {batch.status} cannot be cancelled."
            raise Refusal(409, said, code="invalid_status")
        if batch.status != "cancelling":
            batch.become("cancelling")
            batch.cancelled.set()
        return batch

    async def _work(self, batch: Batch) -> None:
        # Who made the batch sees it in its first state.
        await asyncio.sleep(0)
        if batch.status == "validating":
            batch.errors = self._faults_of(batch)
            if batch.errors:
                batch.become("failed")
                return
            batch.become("in_progress")
        await self._wait(batch)
        output, errors = self._files.place(), self._files.place()
        with output.open("wb") as good, errors.open("wb") as bad:
            ending = await self._answer_lines(batch, good, bad)
        if batch.status == "in_progress":
            batch.become("finalizing")
        batch.output_file_id = self._keep(output, f"{batch.id}_output.jsonl")
        batch.error_file_id = self._keep(errors, f"{batch.id}_error.jsonl")
        batch.become(ending)

    async def _wait(self, batch: Batch) -> None:
        """As long as was ordered, or until somebody cancels it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(batch.cancelled.wait(), self._options.batch_delay)

    def _keep(self, path: Path, name: str) -> str | None:
        if path.stat().st_size:
            return self._files.add(path, name, "batch_output").id
        path.unlink()
        return None

    async def _answer_lines(self, batch: Batch, good: BinaryIO, bad: BinaryIO) -> str:
        """Write a result for each line; returns the state in which the batch ends."""
        reach = round(batch.total * (1 - self._options.batch_expiry))
        ending, done = "completed", 0
        with batch.file.path.open("rb") as lines:
            while group := [line for _, line in zip(range(_GROUP), lines, strict=False)]:
                for line in reversed(group):
                    if batch.status == "cancelling":
                        ending = "cancelled"
                    elif done >= reach:
                        ending = "expired"
                    if ending == "completed":
                        await self._answer_line(batch, orjson.loads(line), good, bad)
                    else:
                        _write_unanswered(batch, orjson.loads(line), ending, bad)
                    done += 1
                await asyncio.sleep(0)
        return ending

    async def _answer_line(self, batch: Batch, line: dict[str, Any], good: BinaryIO, bad: BinaryIO) -> None:
        if self._random.random() < self._options.batch_missing_rate:
            return
        status, body = await self._answer(orjson.dumps(line["body"]))
        reply = {"status_code": status, "request_id": f"req_{uuid.uuid4().hex}", "body": orjson.loads(body)}
        batch.completed += status == 200
        batch.failed += status != 200
        _write(good if status == 200 else bad, line["custom_id"], reply, None)

    def _faults_of(self, batch: Batch) -> list[dict[str, Any]]:
        """What is wrong with the input file; nothing is answered if anything is."""
        try:
            for number, fault in _check(batch, self._options.batch_max_requests):
                code, said = fault
                return [{"code": code, "line": number, "message": said, "param": None}]
        except FileNotFoundError:
            return [_gone()]
        return []


def _gone() -> dict[str, Any]:
    return {"code": "file_not_found", "line": None, "message": "The input file was deleted.", "param": None}


def _check(batch: Batch, most: int) -> Iterator[tuple[int, tuple[str, str]]]:
    """The faults of the input file, by line."""
    seen: set[str] = set()
    models: set[object] = set()
    number = 0
    with batch.file.path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number > most:
                yield number, ("too_many_requests", f"The file has more than {most} requests.")
            fault = _fault_of(line, seen, models)
            if fault is not None:
                yield number, fault
    if not number:
        yield 1, ("empty_file", "The input file is empty.")
    batch.total = number


def _fault_of(line: bytes, seen: set[str], models: set[object]) -> tuple[str, str] | None:
    try:
        request = orjson.loads(line)
    except orjson.JSONDecodeError:
        return "invalid_json_line", "This line is not parseable as valid JSON."
    if not isinstance(request, dict) or not isinstance(request.get("body"), dict):
        return "invalid_request", "The line is no object with a 'body'."
    id = request.get("custom_id")
    if not isinstance(id, str) or not 0 < len(id) <= 64:
        return "invalid_custom_id", "The custom_id must be a text of 1 to 64 characters."
    if request.get("method") != "POST" or request.get("url") != CHAT_PATH:
        return "invalid_url", f"Each request of this batch must be a POST to {CHAT_PATH}."
    if id in seen:
        return "duplicate_custom_id", f"The custom_id for this request is a duplicate: {id}."
    seen.add(id)
    models.add(request["body"].get("model"))
    return ("mismatched_model", "All requests must ask for one model.") if len(models) > 1 else None


def _read_wanted(body: bytes) -> dict[str, Any]:
    try:
        wanted = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(400, "The request body is not JSON.") from None
    if not isinstance(wanted, dict) or not isinstance(wanted.get("input_file_id"), str):
        raise Refusal(400, "The request must name an input_file_id.", param="input_file_id")
    if wanted.get("endpoint") != CHAT_PATH:
        raise Refusal(400, f"The endpoint of a batch must be {CHAT_PATH} here.", param="endpoint")
    if wanted.get("completion_window") != "24h":
        raise Refusal(400, "The completion_window must be 24h.", param="completion_window")
    metadata = wanted.get("metadata")
    if metadata is not None and not _is_metadata(metadata):
        said = "The metadata must be at most 16 texts of 512 characters, under names of 64."
        raise Refusal(400, said, param="metadata")
    return wanted


def _is_metadata(value: object) -> bool:
    return (
        isinstance(value, dict)
        and len(value) <= 16
        and all(isinstance(text, str) and len(text) <= 512 for text in value.values())
        and all(len(name) <= 64 for name in value)
    )


def _write_unanswered(batch: Batch, line: dict[str, Any], ending: str, bad: BinaryIO) -> None:
    batch.failed += 1
    said = "This request could not be executed before the completion window expired."
    if ending == "cancelled":
        said = "This request was not executed because the batch was cancelled."
    _write(bad, line["custom_id"], None, {"code": f"batch_{ending}", "message": said})


def _write(file: BinaryIO, id: str, response: dict[str, Any] | None, error: dict[str, str] | None) -> None:
    line = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": id, "response": response, "error": error}
    file.write(orjson.dumps(line) + b"\n")
