"""The provider's files and batches: one function for each HTTP call, retried by the policy of the run.

What the provider says is searched for secrets before it is read. A call that makes something is not simply
sent again: where a first try may have arrived, whatever it made is looked for first.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar
from urllib.parse import quote, urlencode

import orjson
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from vqa_async.batches.filling import ENDPOINT
from vqa_async.client import VLMClient
from vqa_async.config import RetryPolicy, Timeouts
from vqa_async.endpoints import IDEMPOTENCY_KEY, EndpointState
from vqa_async.errors import (
    AuthError,
    EndpointNotFound,
    ModelNotFound,
    Rejected,
    RequestError,
    ResponseError,
    TransportError,
)
from vqa_async.journal.replacing import open_fresh
from vqa_async.journal.writer import disk_error
from vqa_async.retry import next_wait
from vqa_async.transport import FileBody, Request, Transport

MARK = "vqa_async_part"
"""Name under which the metadata of a batch hold our key for it."""

_FILE_TIMEOUT_S = 6 * 3600.0
"""For a whole file. That it goes on at all is what ``stall_timeout`` sees to."""

_MOST_RESULTS = 8 << 30
"""Bytes of a file of results. Only so that a broken server cannot fill the disk."""

_PAGE = 100
_SKEW_S = 86_400.0
"""How far our clock and the provider's may be apart. Batches older than what is looked for are not read."""

_SETTLES_S = 2.0
"""Seconds after which a request that was cut off at our end is worked on at the other, or never will be."""

OVER = frozenset(["completed", "failed", "expired", "cancelled", "lost"])

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class BatchState:
    """One batch, as the provider shows it."""

    id: str
    status: str
    total: int
    completed: int
    failed: int
    files: tuple[str, ...]
    trouble: str
    created_at: float
    ended_at: float

    @classmethod
    def lost(cls, id: str) -> BatchState:
        """A batch that the provider does not know any more."""
        return cls(id, "lost", 0, 0, 0, (), "", 0.0, 0.0)

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in OVER


class Provider:
    """The batch API at one endpoint.

    Args:
        endpoint: address and headers.
        transport: carries the requests.
        client: reads errors, and takes the secrets out of them.
        timeouts, retry: the bounds.
        sleep: how to wait between attempts.
    """

    def __init__(
        self,
        endpoint: EndpointState,
        transport: Transport,
        client: VLMClient,
        timeouts: Timeouts,
        retry: RetryPolicy,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._client = client
        self._timeouts = timeouts
        self._retry = retry
        self._sleep = sleep
        self._rng = random.Random()

    # --- calls that make something ------------------------------------------------------------------------

    async def upload(self, path: Path, name: str, *, is_first: bool) -> str:
        """The id of the uploaded file.

        Args:
            path: the file.
            name: the name that it gets there, which no other has.
            is_first: whether it is certain that it was not tried before.
        """
        size = (await asyncio.to_thread(path.stat)).st_size

        async def upload() -> str:
            boundary = f"vqa-async-{random.randbytes(16).hex()}"
            body = _multipart(path, size, name, boundary)
            headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
            request = self._request("POST", "files", headers, file=body, timeout_s=_FILE_TIMEOUT_S)
            return _id(await self._json(request))

        return await self._once(upload, lambda: self._find_file(name, size), is_first)

    async def create(self, file_id: str, key: str, *, is_first: bool, since: float) -> str:
        """The id of the batch that was made of an uploaded file.

        Args:
            file_id: the file.
            key: marks the batch, and no other.
            is_first: whether it is certain that it was not tried before.
            since: Unix time before which it cannot have been made.
        """
        wanted = {
            "input_file_id": file_id,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": {MARK: key},
        }
        body = orjson.dumps(wanted)

        async def create() -> str:
            request = self._request("POST", "batches", {IDEMPOTENCY_KEY: key}, body=(body,), size=len(body))
            return _id(await self._json(request))

        return await self._once(create, lambda: self._find_batch(key, since), is_first)

    async def _once(
        self, make: Callable[[], Awaitable[str]], find: Callable[[], Awaitable[str | None]], is_first: bool
    ) -> str:
        """What ``make`` gives, unless an earlier try has made it already."""
        if not is_first and (found := await self._settled(find)):
            return found
        tries = 0

        async def attempt() -> str:
            nonlocal tries
            tries += 1
            if tries > 1 and (found := await find()):
                return found
            return await make()

        return await self._retried(attempt)

    async def _settled(self, find: Callable[[], Awaitable[str | None]]) -> str | None:
        """What ``find`` gives; asked again a little later where it gives nothing."""
        found = await self._retried(find)
        if found is None:
            await self._sleep(_SETTLES_S)
            found = await self._retried(find)
        return found

    async def _find_file(self, name: str, size: int) -> str | None:
        async for file in self._pages("files", {"purpose": "batch"}):
            if file.get("filename") == name and file.get("bytes") == size:
                return _id(file)
        return None

    async def _find_batch(self, key: str, since: float) -> str | None:
        async for batch in self._pages("batches", {}):
            metadata = batch.get("metadata")
            if isinstance(metadata, dict) and metadata.get(MARK) == key:
                return _id(batch)
            if _number(batch.get("created_at"), since) < since - _SKEW_S:
                return None  # the newest come first
        return None

    async def _pages(self, what: str, query: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """All items of a list, page by page."""
        after: dict[str, str] = {}
        while True:
            text = urlencode({**query, "limit": str(_PAGE), **after})
            page = await self._json(self._request("GET", f"{what}?{text}", {}))
            items = [item for item in page.get("data") or () if isinstance(item, dict)]
            for item in items:
                yield item
            last = str(items[-1].get("id", "")) if items else ""
            if not page.get("has_more") or not last or after.get("after") == last:
                return
            after = {"after": last}

    # --- calls that only look -----------------------------------------------------------------------------

    async def state(self, batch_id: str) -> BatchState:
        """How a batch stands."""

        async def look() -> BatchState:
            request = self._request("GET", f"batches/{quote(batch_id, safe='')}", {})
            return _state(await self._json(request), batch_id)

        return await self._retried(look)

    async def cancel(self, batch_id: str) -> None:
        """Let a batch end where it is; one that is over stays as it is."""

        async def cancel() -> None:
            request = self._request("POST", f"batches/{quote(batch_id, safe='')}/cancel", {})
            await self._json(request)

        try:
            await self._retried(cancel)
        except RequestError:
            if not (await self.state(batch_id)).is_over:
                raise

    async def download(self, file_id: str, path: Path) -> None:
        """Write the content of a file to ``path``.

        Raises:
            DiskError, OSError: it cannot be written there.
        """

        async def download() -> None:
            with open_fresh(path) as file:
                request = self._request(
                    "GET",
                    f"files/{quote(file_id, safe='')}/content",
                    {},
                    into=_kept_in(file, path),
                    timeout_s=_FILE_TIMEOUT_S,
                    max_response_bytes=_MOST_RESULTS,
                )
                await self._ok(request)

        await self._retried(download)

    # --- one call -----------------------------------------------------------------------------------------

    def _request(
        self, method: Literal["GET", "POST"], path: str, headers: Mapping[str, str], **how: Any
    ) -> Request:
        limits: dict[str, Any] = {
            "timeout_s": self._timeouts.timeout,
            "connect_timeout_s": self._timeouts.connect_timeout,
            "stall_timeout_s": self._timeouts.stall_timeout,
            "max_response_bytes": 32 << 20,
        }
        own = {name.lower() for name in headers}
        kept = {name: value for name, value in self.endpoint.headers.items() if name.lower() not in own}
        url = f"{self.endpoint.url}/{path}"
        return Request(url=url, method=method, headers={**kept, **headers}, **{**limits, **how})

    async def _json(self, request: Request) -> dict[str, Any]:
        body = await self._ok(request)
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            raise ResponseError(f"The batch API at {self.endpoint.url} replied with no JSON object.")
        return value

    async def _ok(self, request: Request) -> bytes:
        """The body of a reply that is no error."""
        response = await self._transport.send(request)
        if response.status < 300:
            return response.body
        self._client.read(response)  # raises: it is no completion
        raise AssertionError("a status of 300 or more was read as an answer")

    async def _retried(self, call: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()

        def wait(state: RetryCallState) -> float:
            assert state.outcome is not None
            error = state.outcome.exception()
            assert error is not None
            elapsed_s = time.monotonic() - began
            seconds = next_wait(
                error, attempt=state.attempt_number, elapsed_s=elapsed_s, policy=self._retry, rng=self._rng
            )
            return math.inf if seconds is None else seconds

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(RequestError),
            wait=wait,
            stop=lambda state: state.upcoming_sleep == math.inf,
            sleep=self._sleep,
            reraise=True,
        )

        async def called() -> T:  # tenacity awaits coroutine functions only, not all that gives one
            return await call()

        try:
            return await retrying(called)
        except RequestError as error:
            raise self._told(error) from None

    def _told(self, error: RequestError) -> RequestError:
        """``error`` in the words of a batch API, without secrets."""
        error.endpoint = self.endpoint.url
        if isinstance(error, AuthError) and self.endpoint.key_hint:
            error.message = f"{error.message.rstrip('. ')}. {self.endpoint.key_hint}"
        if isinstance(error, EndpointNotFound | ModelNotFound):
            said = f" It says: {error.excerpt.rstrip('. ')}." if error.excerpt else ""
            error.message = (
                f"{self.endpoint.url} has no batch API, or has lost what was handed to it ({error.status})."
                f"{said} 'vqa-async run' needs no batch API; 'batch fetch --give-up' frees the records of "
                "lost batches."
            )
        if not isinstance(error, TransportError | AuthError | EndpointNotFound | ModelNotFound):
            error.message = f"Batch API: {error.message}"
        self._client.redact(error)
        return error


def is_refused(error: RequestError) -> bool:
    """Whether a call that failed in this way has certainly made nothing."""
    return isinstance(error, Rejected | EndpointNotFound | ModelNotFound | AuthError)


def _multipart(path: Path, size: int, name: str, boundary: str) -> FileBody:
    before = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/jsonl\r\n\r\n"
    ).encode()
    after = f"\r\n--{boundary}--\r\n".encode()
    return FileBody(before, path, after, len(before) + size + len(after))


def _kept_in(file: BinaryIO, path: Path) -> Callable[[bytes], None]:
    def keep(piece: bytes) -> None:
        try:
            file.write(piece)
        except OSError as error:
            raise disk_error(path, error) from None

    return keep


def _id(value: Mapping[str, Any]) -> str:
    id = value.get("id")
    if not isinstance(id, str) or not id:
        raise ResponseError("The batch API gave no id for what it made.")
    return id


def _state(batch: Mapping[str, Any], id: str) -> BatchState:
    counts = batch.get("request_counts")
    counts = counts if isinstance(counts, dict) else {}
    status = str(batch.get("status", ""))
    created = _number(batch.get("created_at"), 0.0)
    return BatchState(
        id=id,
        status=status,
        total=int(_number(counts.get("total"), 0)),
        completed=int(_number(counts.get("completed"), 0)),
        failed=int(_number(counts.get("failed"), 0)),
        files=tuple(filter(None, (batch.get("output_file_id"), batch.get("error_file_id")))),
        trouble=_trouble(batch.get("errors")),
        created_at=created,
        ended_at=_number(batch.get(f"{status}_at"), created),
    )


def _trouble(errors: object) -> str:
    """The first of the errors of a batch that failed, in words."""
    data = errors.get("data") if isinstance(errors, dict) else None
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, dict):
        return ""
    line = f" (line {first['line']})" if first.get("line") else ""
    return f"{first.get('code') or 'error'}: {first.get('message') or 'no message'}{line}"


def _number(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default
