"""Replies that are no answers: each ends as one error of ours, never as an answer or a raw exception."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from wire import GOOD, Exchange, asked, asking, asking_over_sockets, http, in_turn, in_virtual_time, serving

from vqa_async.chat import read_completion, read_error
from vqa_async.errors import (
    AuthError,
    EndpointNotFound,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    Rejected,
    RequestError,
    ResponseError,
    ServerError,
    StatusError,
    TransportError,
)
from vqa_async.models import Failure, Success
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import AiohttpTransport, Request


def completion(content: Any = "yes", finish_reason: Any = "stop", **message: Any) -> bytes:
    """The body of a completion whose message is to be spoilt."""
    return reply(content, finish_reason=finish_reason, **message).body


def choices(value: Any) -> bytes:
    return orjson.dumps({"choices": value})


# name: (body, code of the error)
BODIES: dict[str, tuple[bytes, str]] = {
    # no choices
    "choices empty": (choices([]), "malformed_response"),
    "choices null": (choices(None), "malformed_response"),
    "choices object": (choices({}), "malformed_response"),
    "choices of null": (choices([None]), "malformed_response"),
    "choices of text": (choices(["yes"]), "malformed_response"),
    "choices missing": (b'{"id":"x"}', "malformed_response"),
    "message missing": (choices([{}]), "malformed_response"),
    "message null": (choices([{"message": None}]), "malformed_response"),
    "message a list": (choices([{"message": []}]), "malformed_response"),
    "body null": (b"null", "malformed_response"),
    "body a list": (b"[]", "malformed_response"),
    "body a string": (b'"hi"', "malformed_response"),
    "body a number": (b"42", "malformed_response"),
    "body empty": (b"", "malformed_response"),
    "body blank": (b" \r\n\t ", "malformed_response"),
    "body NUL": (b"\0" * 64, "malformed_response"),
    # no text
    "content missing": (choices([{"message": {}}]), "empty_response"),
    "content null": (completion(None), "empty_response"),
    "content empty": (completion(""), "empty_response"),
    "content blank": (completion(" \n\t\u2028\u00a0"), "empty_response"),
    "content invisible": (completion("\u200b\ufeff\0"), "empty_response"),
    "content empty list": (completion([]), "empty_response"),
    "reasoning only": (completion(None, reasoning_content="hm"), "empty_response"),
    "cut before any text": (completion("", "length"), "empty_response"),
    "refusal": (completion(None, refusal="I cannot."), "refused"),
    "refusal and text": (completion("x", refusal="I cannot."), "refused"),
    "tool call": (completion(None, "tool_calls", tool_calls=[{}]), "unexpected_tool_call"),
    "tool call and text": (completion("Wait.", "tool_calls", tool_calls=[{}]), "unexpected_tool_call"),
    "function call": (completion("", function_call={"name": "f"}), "unexpected_tool_call"),
    "filtered": (completion("half an ans", "content_filter"), "content_filter"),
    "filtered, empty": (completion(None, "content_filter"), "content_filter"),
    "content number": (completion(42), "malformed_content"),
    "content true": (completion(True), "malformed_content"),
    "content object": (completion({"text": "yes"}), "malformed_content"),
    "part not text": (completion([{"text": "a"}, {"type": "image_url"}]), "malformed_content"),
    "part a string": (completion(["a"]), "malformed_content"),
    "part of a number": (completion([{"type": "text", "text": 5}]), "malformed_content"),
    # an error with status 200
    "error object": (b'{"error":{"message":"busy"}}', "malformed_response"),
    "error string": (b'{"error":"Unauthorized"}', "malformed_response"),
    "error list": (b'{"error":[{"msg":"x"}]}', "malformed_response"),
    "error true": (b'{"error":true}', "malformed_response"),
    "error and null choices": (b'{"error":"x","choices":null}', "malformed_response"),
    "error 503": (b'{"error":{"code":503,"message":"x"}}', "server_error"),
    "error '503'": (b'{"error":{"code":"503","message":"x"}}', "server_error"),
    "error 429": (b'{"error":{"code":429,"message":"x"}}', "rate_limited"),
    "error by word": (b'{"error":{"code":"rate_limit_exceeded","message":"x"}}', "rate_limited"),
    "error code 7": (b'{"error":{"code":7}}', "malformed_response"),
    "error code true": (b'{"error":{"code":true}}', "malformed_response"),
    "error in the choice": (choices([{"message": {"content": "a"}, "error": {"code": 502}}]), "server_error"),
    "broken off": (completion("half", "error"), "malformed_response"),
    # not JSON
    "JSON cut": (GOOD[:-1], "malformed_response"),
    "JSON twice": (GOOD * 2, "malformed_response"),
    "bad UTF-8": (GOOD.replace(b"red", b"r\xffd"), "malformed_response"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "malformed_response"),
    "NaN": (b'{"choices":[NaN]}', "malformed_response"),
    "Infinity": (b'{"choices":[-Infinity]}', "malformed_response"),
    "overflow": (b'{"choices":[1e999]}', "malformed_response"),
    "5,000 digits": (b'{"a":' + b"7" * 5000 + b"}", "malformed_response"),
    "100,000 levels": (b'{"a":' + b"[" * 100_000, "malformed_response"),
    "100,000 closed levels": (b"[" * 10**5 + b"]" * 10**5, "malformed_response"),
    "unpaired surrogate": (GOOD.replace(b"red", b"\\ud800"), "malformed_response"),
    "raw control": (GOOD.replace(b"red", b"r\x01d"), "malformed_response"),
    "page": (b"<!DOCTYPE html><html>Welcome</html>", "html_response"),
    "page after a line": (b"\r\n  <HTML><body>", "html_response"),
    "XML": (b"<?xml version='1.0'?><a/>", "html_response"),
    "text": (b"upstream connect error", "malformed_response"),
    "stream": (b'data: {"choices":[]}\n\ndata: [DONE]', "unexpected_stream"),
    "stream comment": (b": keep-alive\n\ndata: {}", "unexpected_stream"),
}  # fmt: skip
BY_NAME = pytest.mark.parametrize(("body", "code"), BODIES.values(), ids=BODIES.keys())

NO_TEXT = {
    "empty_response",
    "refused",
    "unexpected_tool_call",
    "content_filter",
    "malformed_content",
}
"""Codes of replies in which the model did answer, only not with text: asking again is of no use."""

CLASSES: dict[str, type[StatusError]] = {
    "auth": AuthError,
    "insufficient_quota": QuotaExceeded,
    "rate_limited": RateLimited,
    "server_error": ServerError,
    "model_not_found": ModelNotFound,
    "endpoint_not_found": EndpointNotFound,
    "unexpected_redirect": EndpointNotFound,
}


# --- reading -----------------------------------------------------------------------------------------------


@BY_NAME
def test_body_that_is_no_answer_is_an_error_of_its_kind(body: bytes, code: str) -> None:
    """With a short code, a sentence of bounded length on one line, and nothing foreign hanging on it."""
    with pytest.raises(RequestError) as caught:
        read_completion(body)
    error = caught.value
    assert type(error) is CLASSES.get(code, ResponseError)
    assert (error.code, error.retryable) == (code, code not in NO_TEXT)
    assert len(error.message) <= 600
    assert error.message.isprintable()
    assert error.__context__ is None


ANSWERS: dict[str, tuple[bytes, str, str]] = {
    "plain": (completion("yes"), "yes", "stop"),
    "parts": (completion([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), "ab", "stop"),
    "cut off": (completion("half", "length"), "half", "length"),
    "no finish reason": (completion("yes", None), "yes", ""),
    "odd finish reason": (completion("yes", 7), "yes", ""),
    "tool calls empty": (completion("yes", tool_calls=[]), "yes", "stop"),
    "refusal null": (completion("yes", refusal=None), "yes", "stop"),
    "NUL inside": (completion("a\0b"), "a\0b", "stop"),
    "line separators": (completion("a\u2028b\u0085c"), "a\u2028b\u0085c", "stop"),
    "escaped pair": (GOOD.replace(b"A red square.", b"\\ud83d\\ude00"), "\U0001f600", "stop"),
    "spaces around": (b" \n" * 500 + completion("yes") + b"\n", "yes", "stop"),
    "key twice": (completion("no").replace(b':"no"', b':"no","content":"yes"'), "yes", "stop"),
    "error null": (completion("yes")[:-1] + b',"error":null}', "yes", "stop"),
}  # fmt: skip


@pytest.mark.parametrize(("body", "text", "finish_reason"), ANSWERS.values(), ids=ANSWERS.keys())
def test_odd_but_whole_answers_are_answers(body: bytes, text: str, finish_reason: str) -> None:
    """Character by character, with the reason why it ended."""
    read = read_completion(body)
    assert (read.text, read.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4)),
        ({"prompt_tokens": 3.0}, (3, 0)),
        ({"prompt_tokens": -1, "completion_tokens": "4"}, (0, 0)),
        ({"prompt_tokens": 1e300, "completion_tokens": None}, (0, 0)),
        (None, (0, 0)),
        ([], (0, 0)),
    ],
)
def test_usage_is_counted_where_it_can_be(usage: Any, counted: tuple[int, int]) -> None:
    """A count that makes no sense is 0, and never costs the answer."""
    read = read_completion(orjson.dumps(orjson.loads(GOOD) | {"usage": usage}))
    assert (read.usage.prompt_tokens, read.usage.completion_tokens) == counted


@pytest.mark.parametrize("model", [None, 5, [], {}])
def test_name_of_the_model_may_be_missing(model: Any) -> None:
    """It is said where the reply says it."""
    assert read_completion(GOOD).model == "test"
    assert read_completion(orjson.dumps(orjson.loads(GOOD) | {"model": model})).model == ""


def test_answer_cut_before_any_text_says_what_to_raise() -> None:
    """Reasoning models spend max_tokens before they begin to answer."""
    with pytest.raises(ResponseError, match="--max-tokens"):
        read_completion(completion("", "length"))


def test_page_is_shown_by_its_beginning() -> None:
    """What a captive portal or a login page says tells what is wrong."""
    with pytest.raises(ResponseError, match="Sign in to the hotel network"):
        read_completion(b"<html><title>Sign in to the hotel network</title>" + b"x" * 9999)


def test_reply_cut_at_any_byte_is_no_answer() -> None:
    """Not one prefix of a real reply is taken for the whole."""
    for end in range(len(GOOD)):
        with pytest.raises(ResponseError):
            read_completion(GOOD[:end])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    "choices",
    "message",
    "content",
    "finish_reason",
    "error",
    "code",
    "type",
    "detail",
    "refusal",
    "tool_calls",
    "usage",
    "model",
    "text",
    "status",
    "prompt_tokens",
    "completion_tokens",
    "param",
]
LIKE_REPLIES = st.recursive(
    JSON
    | st.sampled_from([401, 429, "429", "insufficient_quota", "content_filter", "stop", "model_not_found"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5),
    max_leaves=12,
)


def dumped(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Any bytes, any JSON, and above all JSON that is nearly a reply."""
    if draw(st.booleans()):
        return draw(st.binary())
    try:
        return dumped(draw(LIKE_REPLIES))
    except orjson.JSONEncodeError:  # an integer or a surrogate that JSON has no place for
        return b"{}"


@given(bodies())
def test_any_bytes_read_as_a_completion_give_an_answer_or_our_error(body: bytes) -> None:
    """Nothing else comes out, and an answer always has text."""
    with contextlib.suppress(ResponseError, StatusError):
        assert read_completion(body).text.strip()


@given(bodies(), st.integers(100, 999).filter(lambda status: status != 200), st.text())
def test_any_bytes_read_as_an_error_give_our_error(body: bytes, status: int, location: str) -> None:
    """With the status, and a sentence of bounded length that can be printed."""
    error = read_error(status, body, retry_after_s=None, location=location)
    assert error.status == status
    assert error.message.isprintable()
    assert len(error.message) < 800
    assert len(error.excerpt) <= 300


# --- through the client ------------------------------------------------------------------------------------


@BY_NAME
def test_broken_reply_costs_its_record_only(body: bytes, code: str) -> None:
    """Transient ones are tried again within the bounds, others not; records beside it are answered."""

    def answer(request: Any) -> Any:
        return reply(body=body) if asked(b"".join(request.body)) == "broken" else reply("fine")

    async def ask_all() -> list[Any]:
        async with asking(transport, max_attempts=3, max_workers=2) as asker:
            whole = (asker.ask(f"whole {n}") for n in range(5))
            return await asyncio.gather(asker.ask("broken"), *whole)

    transport = FakeTransport(answer)
    broken, *others = in_virtual_time(ask_all())
    assert isinstance(broken, Failure)
    assert broken.error.code == code
    assert broken.attempts == (1 if code in NO_TEXT else 3)
    assert [other.ok and other.text for other in others] == ["fine"] * 5
    assert len(transport.requests) == broken.attempts + 5


@pytest.mark.parametrize("how", ["first attempts", "final attempt"])
async def test_transient_reply_is_forgotten_once_an_answer_comes(how: str) -> None:
    """Two broken replies and a whole one are a success after three attempts, if three are allowed."""
    allowed = 3 if how == "first attempts" else 2
    transport = FakeTransport([reply(body=b"{"), reply(body=b""), reply("yes")])
    async with asking(transport, max_attempts=allowed) as asker:
        result = await asker.ask()
    assert result.ok is (allowed == 3)
    assert result.attempts == allowed


@pytest.mark.parametrize("status", [201, 202, 204, 206])
async def test_other_success_without_a_body_is_malformed(status: int) -> None:
    """Only a completion is an answer, whatever the status says."""
    async with asking(FakeTransport([reply(status=status, body=b"")]), max_attempts=1) as asker:
        result = await asker.ask()
    assert isinstance(result, Failure)
    assert result.error.code == "malformed_response"


# --- on the wire -------------------------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
CLOSED = HEAD + b"Connection: close\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


WHOLE = {
    "with a length": http(),
    "chunked": CHUNKED + chunk(GOOD[:9]) + chunk(GOOD[9:]) + chunk(b""),
    "up to the close": CLOSED + GOOD,
    "as text": http(GOOD, "Content-Type: text/plain"),
    "as bytes": http(GOOD, "Content-Type: application/octet-stream"),
    "without a type": http(GOOD),
    "with a nonsense type": http(GOOD, "Content-Type: ;;;"),
    "gzip": http(gzip.compress(GOOD), "Content-Encoding: gzip"),
    "deflate": http(zlib.compress(GOOD), "Content-Encoding: deflate"),
    "identity": http(GOOD, "Content-Encoding: identity"),
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(),
    "with a cookie": http(GOOD, "Set-Cookie: a=b"),
    "HTTP/1.0": http().replace(b"HTTP/1.1", b"HTTP/1.0"),
}


@pytest.mark.parametrize("raw", WHOLE.values(), ids=WHOLE.keys())
async def test_whole_reply_is_an_answer_in_every_form(raw: bytes) -> None:
    """Types and encodings that were not asked for do not matter while the body is whole."""
    async with serving(in_turn(raw)) as server, asking_over_sockets(server.url, max_attempts=1) as asker:
        result = await asker.ask()
    assert isinstance(result, Success), result.error
    assert result.text == "A red square."


LONG = http().replace(b"Content-Length: ", b"Content-Length: 9")
SHORT = HEAD + b"Content-Length: 20\r\n\r\n" + GOOD

BROKEN: dict[str, tuple[bytes, set[str]]] = {
    "nothing": (b"", {"reset"}),
    "half a status line": (b"HTTP/1.1 2", {"reset", "protocol"}),
    "half a header": (HEAD + b"Content-Le", {"reset", "protocol", "malformed_response"}),
    "length too long": (LONG, {"reset"}),
    "length too short": (SHORT, {"malformed_response", "protocol"}),
    "length negative": (HEAD + b"Content-Length: -5\r\n\r\n" + GOOD, {"protocol"}),
    "length no number": (HEAD + b"Content-Length: many\r\n\r\n" + GOOD, {"protocol"}),
    "length twice": (HEAD + b"Content-Length: 9\r\nContent-Length: 400\r\n\r\n" + GOOD, {"protocol"}),
    "length and chunks": (CHUNKED[:-2] + b"Content-Length: 9\r\n\r\n0\r\n\r\n", {"protocol"}),
    "chunk size no number": (CHUNKED + b"zz\r\n" + GOOD, {"protocol", "reset"}),
    "chunk size negative": (CHUNKED + b"-1\r\n" + GOOD, {"protocol", "reset"}),
    "chunk size endless": (CHUNKED + b"f" * 5000 + b"\r\n" + GOOD, {"protocol", "reset"}),
    "chunk longer than told": (CHUNKED + b"5\r\n" + GOOD + b"\r\n0\r\n\r\n", {"protocol", "reset"}),
    "chunks without an end": (CHUNKED + chunk(GOOD), {"reset"}),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", {"protocol"}),
    "TLS alert": (b"\x15\x03\x03\x00\x02\x02\x16", {"protocol", "reset"}),
    "HTTP/9": (http().replace(b"1.1", b"9.9"), {"protocol"}),
    "status no number": (http(status="abc what"), {"protocol"}),
    "status of four digits": (http(status="2000 OK"), {"protocol"}),
    "status 999": (http(status="999 Odd"), {"server_error"}),
    "switching protocols": (
        http(b"", "Upgrade: x", "Connection: Upgrade", status="101 Go"),
        {"server_error", "reset", "protocol"},
    ),
    "no content": (http(b"", status="204 No Content", length=False), {"malformed_response"}),
    "header of 200 KB": (HEAD + b"X: " + b"y" * 200_000 + b"\r\n\r\n", {"protocol", "reset"}),
    "50,000 headers": (HEAD + b"X: y\r\n" * 50_000 + b"\r\n", {"protocol", "reset"}),
    "NUL in a header": (HEAD + b"X: a\0b\r\nContent-Length: 2\r\n\r\n{}", {"protocol"}),
    "gzip cut": (http(gzip.compress(GOOD)[:-9], "Content-Encoding: gzip"), {"protocol"}),
    "gzip damaged": (http(gzip.compress(GOOD)[:30] + b"\0" * 60, "Content-Encoding: gzip"), {"protocol"}),
    "gzip in name only": (http(GOOD, "Content-Encoding: gzip"), {"protocol"}),
    "gzip empty": (http(b"", "Content-Encoding: gzip"), {"protocol"}),
    "encoding unknown": (http(GOOD, "Content-Encoding: br"), {"protocol"}),
    "encoding twice": (http(gzip.compress(GOOD), "Content-Encoding: gzip, gzip"), {"protocol"}),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "codes"), BROKEN.values(), ids=BROKEN.keys())
async def test_reply_broken_on_the_wire_is_tried_again_and_then_given_up(raw: bytes, codes: set[str]) -> None:
    """Every attempt on a connection of its own; the error is ours, and it says what came."""
    async with serving(in_turn(raw)) as server, asking_over_sockets(server.url, max_attempts=2) as asker:
        result = await asker.ask()
        assert isinstance(result, Failure)
        assert result.error.code in codes, result.error
        assert isinstance(result.error, RequestError)
        assert result.error.retryable
        assert result.attempts == len(server.exchanges) == server.connections == 2


@pytest.mark.parametrize("raw", [value[0] for value in BROKEN.values()], ids=BROKEN.keys())
async def test_whole_reply_after_a_broken_one_is_an_answer(raw: bytes) -> None:
    """Nothing of the broken reply is left over for the next one to stumble on."""
    async with serving(in_turn(raw, http())) as server, asking_over_sockets(server.url) as asker:
        result = await asker.ask()
    assert isinstance(result, Success)
    assert (result.text, result.attempts) == ("A red square.", 2)


async def test_what_follows_a_reply_is_not_the_answer_to_the_next_request() -> None:
    """A server that says too much loses its connection; the next record gets its own answer."""
    extra = http() + http(completion("somebody else's"))
    async with (
        serving(in_turn(extra, http(), keep=True)) as server,
        asking_over_sockets(server.url, max_workers=1) as asker,
    ):
        texts = [result.ok and result.text for result in [await asker.ask() for _ in range(4)]]
    assert texts == ["A red square."] * 4


@pytest.mark.parametrize("form", ["with a length", "chunked"])
async def test_reply_cut_at_any_byte_on_the_wire_is_no_answer(form: str) -> None:
    """At each byte, by an orderly close: an error of ours every time."""
    raw = WHOLE[form]
    # The empty line after the last chunk may be missing: the body is whole without it.
    ends = range(len(raw) - (2 if form == "chunked" else 0))
    async with serving(cut_by_question(raw)) as server, AiohttpTransport() as transport:
        outcomes = await asyncio.gather(*(outcome(transport, server.url, end) for end in ends))
    assert [end for end, read in zip(ends, outcomes, strict=True) if not isinstance(read, RequestError)] == []


async def outcome(transport: AiohttpTransport, url: str, end: int) -> object:
    """What comes of a reply that is cut after ``end`` bytes."""
    body = orjson.dumps({"messages": [{"content": str(end)}]})
    try:
        response = await transport.send(Request(url=url, headers={}, body=(body,), size=len(body)))
        return read_completion(response.body)
    except RequestError as error:
        return error


def cut_by_question(raw: bytes) -> Callable[[Exchange], Awaitable[None]]:
    """Send as many bytes of ``raw`` as the question says, and close."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(raw[: int(asked(exchange.body))])
        exchange.writer.close()

    return answer


async def test_reply_cut_by_a_reset_is_no_answer() -> None:
    """Wherever the connection breaks: before the headers, in them, in the body."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(http()[: int(asked(exchange.body))], pause_s=0.002)
        exchange.reset()

    ends = [0, 1, 15, 17, 30, 45, len(http()) - len(GOOD), len(http()) - 1]
    async with serving(answer) as server, asking_over_sockets(server.url, max_attempts=1) as asker:
        results = await asyncio.gather(*(asker.ask(str(end)) for end in ends))
    assert {result.ok or result.error.code for result in results} == {"reset"}


# --- without end -------------------------------------------------------------------------------------------


def endless(start: bytes, again: bytes, pause_s: float) -> Callable[[Exchange], Awaitable[None]]:
    async def answer(exchange: Exchange) -> None:
        await exchange.say(start)
        while True:
            await exchange.say(again, pause_s=pause_s)

    return answer


ENDLESS = {
    "silence": (b"", b"", 1.0),
    "silence after the headers": (HEAD + b"Content-Length: 500\r\n\r\n", b"", 1.0),
    "a byte at a time": (HEAD + b"Content-Length: 500000\r\n\r\n", b" ", 0.02),
    "chunks": (CHUNKED, chunk(b" "), 0.005),
    "a header that never ends": (HEAD + b"X: ", b"y", 0.02),
    "headers that never end": (HEAD, b"X: y\r\n", 0.02),
    "100 Continue for ever": (b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.0),
    "early hints for ever": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0.001),
}


@pytest.mark.parametrize(("start", "again", "pause_s"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_reply_without_end_is_ended_by_the_deadline(start: bytes, again: bytes, pause_s: float) -> None:
    """However busily the server keeps the connection alive."""
    loop = asyncio.get_running_loop()
    async with (
        serving(endless(start, again, pause_s)) as server,
        asking_over_sockets(server.url, max_attempts=1, timeout=0.3) as asker,
    ):
        began = loop.time()
        result = await asker.ask()
        took_s = loop.time() - began
    assert isinstance(result, Failure)
    assert result.error.code in ("timeout", "protocol")
    assert took_s < 0.8


async def test_reply_larger_than_the_cap_is_not_read_to_its_end() -> None:
    """Reading stops at the cap, and there is no second attempt at the same flood."""
    async with (
        serving(endless(CHUNKED, chunk(b" " * 60_000), 0.0)) as server,
        asking_over_sockets(server.url, max_response_bytes=200_000) as asker,
    ):
        result = await asker.ask()
    assert isinstance(result, Failure)
    assert (result.error.code, result.attempts) == ("too_large", 1)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_decompression_bomb_is_stopped_at_the_cap(encoding: str) -> None:
    """64 MiB that take 64 KB on the wire: the cap counts what comes out, and memory stays near it."""
    bomb = (gzip.compress if encoding == "gzip" else zlib.compress)(b" " * (64 << 20), 9)
    tracemalloc.start()
    async with (
        serving(in_turn(http(bomb, f"Content-Encoding: {encoding}"))) as server,
        asking_over_sockets(server.url, max_response_bytes=8 << 20) as asker,
    ):
        result = await asker.ask()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(result, Failure)
    assert (result.error.code, result.attempts) == ("too_large", 1)
    assert peak < 32 << 20


# --- errors ------------------------------------------------------------------------------------------------


def err(message: Any, **fields: Any) -> bytes:
    return flat(error={"message": message, **fields})


def flat(**fields: Any) -> bytes:
    return orjson.dumps(fields)


LITELLM_MODEL = "/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view them."

# name: (status, body, code of the error, what the sentence must show)
ERRORS: dict[str, tuple[int, bytes, str, str]] = {
    "OpenAI": (400, err("Bad size", type="invalid_request_error", code=None), "rejected", "Bad size"),
    "vLLM": (400, flat(object="error", message="Bad size", code=400), "rejected", "Bad size"),
    "vLLM 401": (401, flat(error="Unauthorized"), "auth", "Unauthorized"),
    "detail": (422, flat(detail="Bad size"), "rejected", "Bad size"),
    "detail list": (422, flat(detail=[{"loc": ["body"], "msg": "Bad size"}]), "rejected", "Bad size"),
    "Portkey": (400, flat(status="failure", message="Bad size"), "rejected", "Bad size"),
    "LiteLLM": (400, err("Bad size", type="None", code="400"), "rejected", "Bad size"),
    "message object": (400, err({"why": "Bad size"}), "rejected", "Bad size"),
    "other field": (400, flat(reason="Bad size"), "rejected", "Bad size"),
    "list": (400, b'["Bad size"]', "rejected", "Bad size"),
    "text": (500, b"Bad size", "server_error", "Bad size"),
    "page": (502, b"<html><h1>502 Bad Gateway</h1>", "server_error", "502 Bad Gateway"),
    "empty": (500, b"", "server_error", "no message"),
    "binary": (500, b"\xff\xfe\0Bad size", "server_error", "Bad size"),
    "LiteLLM timeout": (408, err("Timed out", type="None", code="408"), "server_error", "Timed out"),
    "too long": (400, err("Cut", code="context_length_exceeded"), "context_length_exceeded", "Cut"),
    "filter": (400, err("No", code="content_filter", status=400), "content_filter", "No"),
    "filter by 403": (403, err("No", code="content_policy_violation"), "content_policy_violation", "No"),
    "bad image": (400, err("No", code="invalid_image_format"), "invalid_image_format", "No"),
    "too large": (413, b"Payload Too Large", "rejected", "Payload Too Large"),
    "OpenAI 401": (401, err("Incorrect API key", code="invalid_api_key"), "auth", "Incorrect API key"),
    "forbidden": (403, err("Country not supported"), "auth", "Country"),
    "payment": (402, err("Insufficient Balance"), "insufficient_quota", "Insufficient Balance"),
    "quota": (429, err("Pay", code="insufficient_quota"), "insufficient_quota", "Pay"),
    "quota by type": (429, err("Pay", type="insufficient_quota", code=429), "insufficient_quota", "Pay"),
    "rate": (429, err("Slow", code="rate_limit_exceeded"), "rate_limited", "Slow"),
    "rate, no body": (429, b"", "rate_limited", "no message"),
    "OpenAI model": (404, err("Not `x`", code="model_not_found"), "model_not_found", "--model"),
    "vLLM model": (404, flat(message="The model `x` does not exist."), "model_not_found", "--model"),
    "Ollama model": (404, err('model "x" not found, try pulling it first'), "model_not_found", "--model"),
    "LiteLLM model": (400, err(LITELLM_MODEL, type="None", code="400"), "model_not_found", "--model"),
    "LiteLLM model, as repr": (400, err(str({"error": LITELLM_MODEL})), "model_not_found", "--model"),
    "Mistral model": (400, flat(message="No", type="invalid_model"), "model_not_found", "--model"),
    "Mistral sentence": (400, flat(message="Invalid model: mistral-x"), "model_not_found", "--model"),
    "OpenRouter model": (400, err("acme/x-1 is not a valid model ID"), "model_not_found", "--model"),
    "DeepSeek model": (400, err("Model Not Exist"), "model_not_found", "--model"),
    "OpenAI sentence": (400, err("The model `x-1` does not exist"), "model_not_found", "--model"),
    "path": (404, flat(detail="Not Found"), "endpoint_not_found", "--base-url"),
    "path, page": (404, b"404 page not found", "endpoint_not_found", "--base-url"),
    "no such method": (501, b"<html><h1>Unsupported method</h1>", "endpoint_not_found", "Unsupported method"),
    "method": (405, flat(detail="Method Not Allowed"), "endpoint_not_found", "--base-url"),
    "redirect": (307, b"", "unexpected_redirect", "--base-url"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "body", "code", "shown"), ERRORS.values(), ids=ERRORS.keys())
def test_error_body_is_understood_in_every_form(status: int, body: bytes, code: str, shown: str) -> None:
    """The class by status and words, the server's own word where a record is rejected, its message shown."""
    error = read_error(status, body, retry_after_s=None)
    assert type(error) is CLASSES.get(code, Rejected)
    assert error.code == code
    assert shown in error.message


@pytest.mark.parametrize(
    "message",
    [
        "The requested model of car was not found in the picture",
        "Image too small: the model could not read it, text not found",
        "Invalid prompt: 'The model `x` does not exist'",
        "messages[0].content: model not found is no question",
        "This model's maximum context length is 4096 tokens. A shorter prompt does not exist",
        "The model airplane does not exist in this image",
        "could not decode image: model T not found.jpg",
        "Invalid value: 'unknown model'. Supported values are: 'text', 'image_url'",
        "model output not found",
        "",
    ],
)
def test_a_400_that_only_mentions_models_ends_its_record_and_not_the_run(message: str) -> None:
    """The text may quote the record, and records say anything."""
    body = orjson.dumps({"error": {"message": message, "type": "invalid_request_error", "code": None}})
    error = read_error(400, body, retry_after_s=None)
    assert (error.code, error.stops_run, error.retryable) == ("rejected", False, False)


@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 520, 529, 599, 999])
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"error":{"message":"x","code":"%d"}}', b"\xff"])
def test_server_errors_are_transient_whatever_their_body(status: int, body: bytes) -> None:
    """Proxies put pages into them, engines plain text, gateways JSON."""
    error = read_error(status, body, retry_after_s=3.0)
    assert type(error) is ServerError
    assert (error.retryable, error.retry_after_s) == (True, 3.0)


def test_long_error_message_is_cut() -> None:
    """8 MiB of message cost neither time nor log."""
    body = orjson.dumps({"error": {"message": "x" * (8 << 20)}})
    began = time.process_time()
    error = read_error(400, body, retry_after_s=None)
    assert time.process_time() - began < 0.2
    assert len(error.message) < 400


def test_error_message_cannot_break_a_line_or_turn_a_terminal() -> None:
    """Escapes, line breaks and bidirectional overrides are taken out."""
    body = orjson.dumps({"error": {"message": "a\x1b[31mb\r\nc\u202ed\u2028e"}})
    error = read_error(400, body, retry_after_s=None)
    assert error.excerpt == "a [31mb c d e"
    redirect = read_error(302, b"", retry_after_s=None, location="http://x/\x1b[2J\n")
    assert redirect.message.isprintable()


async def test_transport_error_of_a_user_is_an_ordinary_failure() -> None:
    """A transport of one's own raises TransportError, and it is tried again like one of ours."""
    async with asking(FakeTransport([TransportError("gone"), reply("yes")])) as asker:
        result = await asker.ask()
    assert (result.ok, result.attempts) == (True, 2)
