"""The calls of a batch API: pages, odd replies, retries, what is looked for before it is made again."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from vqa_async.api import open_batches
from vqa_async.batches import Provider
from vqa_async.config import Config
from vqa_async.errors import EndpointNotFound, RequestError, ResponseError, ServerError
from vqa_async.testing import FakeTransport
from vqa_async.transport import Request, Response


@asynccontextmanager
async def provider_of(
    answer: Callable[[Request], Response | Exception],
) -> AsyncIterator[tuple[Provider, FakeTransport]]:
    """A provider that answers so."""
    transport = FakeTransport(answer)
    config = Config.of(model="m", base_url="http://a/v1", backoff_base=0.0, max_attempts=3)
    async with open_batches(config, transport=transport) as batches:
        yield batches._desk.provider, transport


def good(**value: Any) -> Response:
    return Response(200, {}, json.dumps(value).encode())


def listed(ids: range, has_more: bool) -> Response:
    items = [{"id": f"b{n}", "created_at": 1e6, "metadata": {"vqa_async_part": f"k{n}"}} for n in ids]
    return good(data=[*items, "odd"], has_more=has_more)


async def test_a_batch_is_found_on_a_later_page() -> None:
    """And nothing is made then."""

    def answer(request: Request) -> Response:
        assert request.method == "GET"
        return listed(range(100, 105), False) if "after=b99" in request.url else listed(range(100), True)

    async with provider_of(answer) as (provider, transport):
        assert await provider.create("f", "k103", is_first=False, since=1e6) == "b103"
        assert len(transport.requests) == 2


async def test_batches_of_long_ago_are_not_read() -> None:
    """The newest come first, so what is older than a day before ours is not ours."""

    def answer(request: Request) -> Response:
        return listed(range(100), True) if request.method == "GET" else good(id="new")

    async with provider_of(answer) as (provider, transport):
        assert await provider.create("f", "none", is_first=False, since=1e6 + 90_000) == "new"
        assert [request.method for request in transport.requests] == ["GET", "GET", "POST"]


@pytest.mark.parametrize("page", [good(data=None), good(), listed(range(0), True)])
async def test_an_odd_list_is_an_empty_one(page: Response) -> None:
    """It does not go on for ever either."""

    def answer(request: Request) -> Response:
        return page if request.method == "GET" else good(id="new")

    async with provider_of(answer) as (provider, _):
        assert await provider.create("f", "k", is_first=False, since=0.0) == "new"


async def test_a_list_that_repeats_itself_ends() -> None:
    """A server that knows no ``after``."""

    def answer(request: Request) -> Response:
        return listed(range(3), True) if request.method == "GET" else good(id="new")

    async with provider_of(answer) as (provider, transport):
        assert await provider.create("f", "k", is_first=False, since=0.0) == "new"
        assert len(transport.requests) < 10


async def test_a_call_that_may_have_arrived_is_looked_for_before_it_is_made_again(tmp_path: Path) -> None:
    """By name and length: a file of another length is another."""
    path = tmp_path / "requests"
    path.write_bytes(b"12345")
    tries: list[str] = []

    def answer(request: Request) -> Response:
        tries.append(request.method)
        if request.method == "GET":
            files = [
                {"id": "f1", "filename": "other", "bytes": 5},
                {"id": "f2", "filename": "mine", "bytes": 4},
                {"id": "f3", "filename": "mine", "bytes": 5},
            ]
            return good(data=files, has_more=False)
        return Response(503, {}, b"")

    async with provider_of(answer) as (provider, _):
        assert await provider.upload(path, "mine", is_first=True) == "f3"
    assert tries == ["POST", "GET"]


async def test_attempts_are_bounded() -> None:
    """As those of a record are."""

    async with provider_of(lambda _: Response(503, {}, b"")) as (provider, transport):
        with pytest.raises(ServerError, match="Batch API"):
            await provider.state("b")
        assert len(transport.requests) == 3


@pytest.mark.parametrize("reply", [good(), good(id=3), Response(200, {}, b"[]"), Response(200, {}, b"no")])
async def test_a_reply_without_an_id_is_no_batch(reply: Response) -> None:
    """It is asked again, and then said."""
    listing = good(data=[])

    async with provider_of(lambda r: listing if r.method == "GET" else reply) as (provider, _):
        with pytest.raises(ResponseError):
            await provider.create("f", "k", is_first=True, since=0.0)


async def test_a_batch_that_ended_meanwhile_needs_no_cancelling() -> None:
    """One that did not is an error."""
    status = {"now": "completed"}

    def answer(request: Request) -> Response:
        if request.method == "POST":
            return Response(400, {}, b'{"error": {"message": "cannot be cancelled"}}')
        return good(id="b", status=status["now"])

    async with provider_of(answer) as (provider, _):
        await provider.cancel("b")
        status["now"] = "in_progress"
        with pytest.raises(RequestError, match="cannot be cancelled"):
            await provider.cancel("b")


async def test_an_id_cannot_lead_elsewhere() -> None:
    """Whatever a provider calls its batches."""

    def answer(request: Request) -> Response:
        assert request.url == "http://a/v1/batches/..%2F..%2Fx%3Fy"
        return Response(404, {}, b"")

    async with provider_of(answer) as (provider, _):
        with pytest.raises(EndpointNotFound):
            await provider.state("../../x?y")
