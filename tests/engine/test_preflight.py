"""The look at the endpoint before the first record: what is odd about its list of models stops nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vqa_async import open_engine
from vqa_async.errors import AuthError, TransportError
from vqa_async.preflight import EndpointCheck
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

URL = "http://test.invalid/v1"
REFUSED = reply(status=401, body=b'{"error":"Unauthorized"}')


def broken(code: str) -> TransportError:
    return TransportError("It broke.", code=code)


def endpoint(models: Response | Exception, chat: Response | Exception) -> FakeTransport:
    return FakeTransport(lambda request: models if request.method == "GET" else chat)


async def look(transport: Any, *, thorough: bool) -> EndpointCheck:
    async with open_engine(base_url=URL, model="m", transport=transport) as engine:
        (check,) = await engine.check_endpoints(thorough=thorough)
    return check


@pytest.mark.parametrize("thorough", [False, True])
@pytest.mark.parametrize(
    "models",
    [
        REFUSED,
        reply(status=403, body=b""),
        reply(status=302, body=b"", headers={"Location": "http://elsewhere.invalid/"}),
        reply(status=500, body=b""),
        reply(body=b'{"data":[]}'),
        reply(body=b'{"data":{"a":[1]}}'),
        reply(body=b'{"data":[{"id":null},5]}'),
        reply(body=b"<html>"),
        reply(body=b"[" * 100_000),
        broken("timeout"),
        broken("too_large"),
        broken("reset"),
        broken("protocol"),
    ],
)
async def test_list_of_models_that_is_none_stops_nothing_where_the_chat_works(
    models: Response | Exception, thorough: bool
) -> None:
    """Keys that may not see the list, lists that hang or have no end, redirects, web pages."""
    check = await look(endpoint(models, reply()), thorough=thorough)
    assert check.error is None
    assert check.called or not thorough


@pytest.mark.parametrize("thorough", [False, True])
async def test_key_that_neither_may_see_the_list_nor_ask_is_refused(thorough: bool) -> None:
    """One small call settles it."""
    transport = endpoint(REFUSED, REFUSED)
    check = await look(transport, thorough=thorough)
    assert isinstance(check.error, AuthError)
    assert check.error.stops_run
    assert [request.method for request in transport.requests] == ["GET", "POST"]


@pytest.mark.parametrize("code", ["timeout", "connect"])
async def test_endpoint_that_does_not_answer_at_all_cannot_be_used(code: str) -> None:
    """Neither the list nor the small call; a run finds out by itself, a check says so."""
    transport = endpoint(broken(code), broken(code))
    check = await look(transport, thorough=True)
    assert check.error is not None
    assert check.error.code == code
    assert (await look(transport, thorough=False)).error is None


async def test_look_that_hangs_ends_with_the_run_that_it_is_for() -> None:
    """Whoever stops a run need not wait for it."""

    class Hangs:
        async def send(self, request: Request) -> Response:
            await asyncio.sleep(60)
            return reply()

    async with open_engine(base_url=URL, model="m", transport=Hangs()) as engine, asyncio.timeout(5):
        task = asyncio.create_task(engine.check_endpoints(thorough=True))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
