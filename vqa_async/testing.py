"""For tests of code that uses the engine: a transport that answers from a list, the endpoint as a fixture.

The endpoint is real (sockets, HTTP, decoded images), so what passes against it is not an artefact of a mock;
the fake transport is for tests of what cannot be ordered from a server.

    from vqa_async.testing import FakeTransport, reply, vqa_server  # vqa_server is a pytest fixture
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, TypeAlias

import orjson

from vqa_async.server import RunningServer, ServerOptions, running_server
from vqa_async.transport import Request, Response

try:
    import pytest_asyncio
except ImportError:  # without pytest the rest is as useful
    pytest_asyncio = None  # type: ignore[assignment]

__all__ = ["FakeTransport", "RunningServer", "ServerOptions", "reply", "running_server"]

Answer: TypeAlias = Response | Exception


class FakeTransport:
    """A transport that gives prepared answers and remembers what it was asked.

    Args:
        answers: replies in order, exceptions among them; or a function from a request to a reply. The last
            answer of a list is repeated.
        latency_s: seconds before each answer.

    Attributes:
        requests: every request, in the order of sending.
        in_flight: requests being answered now; ``most_in_flight`` is the largest that was.
    """

    def __init__(
        self, answers: Iterable[Answer] | Callable[[Request], Answer], *, latency_s: float = 0.0
    ) -> None:
        self._answer = answers if callable(answers) else _in_order(answers)
        self._latency_s = latency_s
        self.requests: list[Request] = []
        self.in_flight = 0
        self.most_in_flight = 0

    async def send(self, request: Request) -> Response:
        """Give the next answer."""
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self._latency_s)
            answer = self._answer(request)
        finally:
            self.in_flight -= 1
        if isinstance(answer, Exception):
            raise copy.copy(answer)  # the engine adds facts to an error, and this one may be asked for again
        return answer

    def bodies(self) -> list[Any]:
        """The JSON bodies of all requests."""
        return [orjson.loads(b"".join(request.body)) for request in self.requests]


def _in_order(answers: Iterable[Answer]) -> Callable[[Request], Answer]:
    left: Iterator[Answer] = iter(answers)
    last: Answer = RuntimeError("FakeTransport was given no answers")

    def next_answer(_: Request) -> Answer:
        nonlocal last
        last = next(left, last)
        return last

    return next_answer


def reply(
    text: str | None = "- Q: What is it?\n  A: A test.",
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    body: bytes | None = None,
    finish_reason: str = "stop",
    **message: Any,
) -> Response:
    """A reply as an endpoint would send it: a completion with ``text``, or any ``body``."""
    completion = {
        "id": "chatcmpl-test",
        "object": "chat.completion",
        "created": 0,
        "model": "test",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text, **message},
                "finish_reason": finish_reason,
            }
        ],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }
    return Response(status, headers or {}, orjson.dumps(completion) if body is None else body)


if pytest_asyncio is not None:

    @pytest_asyncio.fixture
    async def vqa_server() -> AsyncIterator[RunningServer]:
        """The embedded endpoint on a free port, for one test."""
        async with running_server() as server:
            yield server
