"""Before the first record: is the endpoint there, does it take the key, does it know the model?

Asked through the API's list of models, which costs nothing; where that is not offered or does not name the
model, through one small call. Whatever is odd about the list is no reason to stop: many servers that answer
well have none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from vqa_async.client import VLMClient
from vqa_async.endpoints import EndpointState
from vqa_async.errors import (
    AuthError,
    ModelNotFound,
    Rejected,
    RequestError,
    ResponseError,
    StatusError,
    TransportError,
)
from vqa_async.spending import Spending
from vqa_async.transport import Request, Response, Transport

LONGEST_S = 5.0
"""Seconds that the list of models may take."""

_MOST_BYTES = 4 << 20
_UNREACHABLE = ("connect", "dns", "tls", "bad_url")
_SHOWN_MODELS = 8


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """What a look at one endpoint has shown.

    Attributes:
        url: its base URL.
        model: its name for the model.
        models: the models that it lists; None where it does not say.
        called: whether a small call was made and answered.
        error: why it cannot be used; None where it can, as far as is known.
    """

    url: str
    model: str
    models: tuple[str, ...] | None
    called: bool
    error: RequestError | None

    @property
    def is_listed(self) -> bool:
        """Whether the endpoint lists the model."""
        return self.model in (self.models or ())


async def check_endpoints(
    endpoints: Sequence[EndpointState],
    client: VLMClient,
    transport: Transport,
    spending: Spending,
    *,
    thorough: bool,
) -> list[EndpointCheck]:
    """Look at all endpoints at once.

    Args:
        endpoints: whom to ask.
        client: reads replies, and takes secrets out of errors.
        transport: carries the requests.
        spending: counts the small calls, of which none is made where it would be the last request.
        thorough: make the small call also where there is no list of models; else it is only made where there
            is one that does not name the model, or that is refused to us.
    """
    checks = (_check(endpoint, client, transport, spending, thorough) for endpoint in endpoints)
    return list(await asyncio.gather(*checks))


async def _check(
    endpoint: EndpointState, client: VLMClient, transport: Transport, spending: Spending, thorough: bool
) -> EndpointCheck:
    models: tuple[str, ...] | None = None
    called = False
    try:
        response, trouble = await _list(endpoint, transport)
        models = _listed(response)
        # Some keys may ask the model and not see the list: whether a key is good, only a call can tell.
        is_refused = response is not None and response.status == 401
        if trouble is not None and (not thorough or trouble.code in _UNREACHABLE):
            raise trouble
        if endpoint.model not in (models or ()) and (thorough or models or is_refused):
            called = spending.reserve_look() and await _call(endpoint, client, transport, spending)
        if trouble is not None and not called:
            raise trouble
    except RequestError as error:
        if isinstance(error, StatusError) or thorough:
            told = _told(error, models or (), endpoint, client)
            return EndpointCheck(endpoint.url, endpoint.model, models, called, told)
        # Who cannot be reached now is asked by the run itself, which tries more than once.
    return EndpointCheck(endpoint.url, endpoint.model, models, called, None)


def _told(
    error: RequestError, models: Sequence[str], endpoint: EndpointState, client: VLMClient
) -> RequestError:
    """``error`` with what helps to mend it, and without secrets."""
    error.endpoint = endpoint.url
    if isinstance(error, ModelNotFound) and models and not any(name in error.message for name in models):
        error.message = f"{error.message.rstrip('. ')}. The endpoint lists {_some(models)}."
    if isinstance(error, AuthError) and endpoint.key_hint:
        error.message = f"{error.message.rstrip('. ')}. {endpoint.key_hint}"
    client.redact(error)
    return error


def _some(models: Sequence[str]) -> str:
    shown, more = ", ".join(models[:_SHOWN_MODELS]), len(models) - _SHOWN_MODELS
    return f"{shown} and {more:,} more" if more > 0 else shown


def _list_request(endpoint: EndpointState) -> Request:
    return Request(
        url=f"{endpoint.url}/models",
        headers=endpoint.headers,
        method="GET",
        timeout_s=LONGEST_S,
        connect_timeout_s=LONGEST_S,
        max_response_bytes=_MOST_BYTES,
    )


async def _list(
    endpoint: EndpointState, transport: Transport
) -> tuple[Response | None, TransportError | None]:
    try:
        return await transport.send(_list_request(endpoint)), None
    except TransportError as error:
        return None, error


def _listed(response: Response | None) -> tuple[str, ...] | None:
    """The names in a list of models; None where the reply is none."""
    if response is None or response.status != 200:
        return None
    try:
        data = orjson.loads(response.body)["data"]
        names = tuple(str(model["id"]) for model in data)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return names or None


async def _call(endpoint: EndpointState, client: VLMClient, transport: Transport, spending: Spending) -> bool:
    """One small call: whether it was answered. A server that rejects it for what it says, or has no text to
    say, has let us in, and knows the model."""
    message = {"role": "user", "content": "Reply with the word ok."}
    body = orjson.dumps({"model": endpoint.model, "messages": [message], "max_tokens": 16})
    request = Request(
        url=endpoint.completions_url, headers=endpoint.headers, body=(body,), size=len(body), timeout_s=60.0
    )
    try:
        spending.settle(None, client.read(await transport.send(request)).usage)
    except RequestError as error:
        if error.stops_run or error.code in _UNREACHABLE:
            raise
        return isinstance(error, Rejected) or (isinstance(error, ResponseError) and not error.retryable)
    return True
