"""Replies that are no answers: P of the fault matrix, from a server of raw bytes into the files of a run."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
import zlib
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from wire import GOOD, Exchange, asked, http, serving

from vqa_async import RunSummary, open_engine
from vqa_async.testing import reply


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]] if path.exists() else []


def write(path: Path, count: int) -> str:
    rows = [{"id": f"r{n}", "conversation": f"question {n}"} for n in range(count)]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


Say = Callable[[Exchange], Awaitable[None]]


async def run(folder: Path, answer: Say, count: int = 4, **options: Any) -> RunSummary:
    """A run of a few records against a server that answers so."""
    async with (
        serving(answer) as server,
        open_engine(
            **{"base_url": server.url, "model": "m", "api_key": "", "backoff_base": 0.01} | options
        ) as engine,
    ):
        return await engine.run(write(folder / "in.jsonl", count), str(folder / "out.jsonl"))


def choice(**message: Any) -> bytes:
    return json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]}).encode()


def finished(content: Any, reason: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": content}, "finish_reason": reason}]}).encode()


TRANSIENT, FINAL = 3, 1

# name: (what is on the wire, code of the failure, attempts of the three that are allowed)
BROKEN: dict[str, tuple[bytes, str, int]] = {
    "P1 choices empty": (http(b'{"choices":[]}'), "malformed_response", TRANSIENT),
    "P1 choices null": (http(b'{"choices":null}'), "malformed_response", TRANSIENT),
    "P1 choice null": (http(b'{"choices":[null]}'), "malformed_response", TRANSIENT),
    "P1 message missing": (http(b'{"choices":[{}]}'), "malformed_response", TRANSIENT),
    "P1 body null": (http(b"null"), "malformed_response", TRANSIENT),
    "P1 body empty": (http(b""), "malformed_response", TRANSIENT),
    "P1 no content": (http(b"", status="204 No Content", length=False), "malformed_response", TRANSIENT),
    "P2 content null": (http(choice(content=None)), "empty_response", FINAL),
    "P2 content empty": (http(choice(content="")), "empty_response", FINAL),
    "P2 content blank": (http(choice(content=" \n\t")), "empty_response", FINAL),
    "P3 refusal": (http(choice(content=None, refusal="I cannot.")), "refused", FINAL),
    "P4 tool call": (http(choice(content=None, tool_calls=[{}])), "unexpected_tool_call", FINAL),
    "P5 part not text": (http(choice(content=[{"type": "image_url"}])), "malformed_content", FINAL),
    "P6 content a number": (http(choice(content=42)), "malformed_content", FINAL),
    "P6 content an object": (http(choice(content={"text": "x"})), "malformed_content", FINAL),
    "P8 filtered": (http(finished("half an", "content_filter")), "content_filter", FINAL),
    "P9 error with 200": (http(b'{"error":{"message":"busy"}}'), "malformed_response", TRANSIENT),
    "P9 503 with 200": (http(b'{"error":{"code":503,"message":"x"}}'), "server_error", TRANSIENT),
    "P10 JSON cut": (http(GOOD[:-1]), "malformed_response", TRANSIENT),
    "P10 bad UTF-8": (http(GOOD.replace(b"red", b"r\xff")), "malformed_response", TRANSIENT),
    "P10 NaN": (http(b'{"choices":[NaN]}'), "malformed_response", TRANSIENT),
    "P10 nesting": (http(b"[" * 100_000), "malformed_response", TRANSIENT),
    "P10 digits": (http(b'{"a":' + b"7" * 5000 + b"}"), "malformed_response", TRANSIENT),
    "P12 stream": (http(b'data: {"choices":[]}\n\ndata: [DONE]\n\n'), "unexpected_stream", TRANSIENT),
    "P13 bad gzip": (http(b"\x1f\x8bxx", "Content-Encoding: gzip"), "protocol", TRANSIENT),
    "P13 gzip cut": (http(gzip.compress(GOOD)[:-9], "Content-Encoding: gzip"), "protocol", TRANSIENT),
    "P13 unknown encoding": (http(GOOD, "Content-Encoding: zzz"), "protocol", TRANSIENT),
    "P15 length too long": (http(GOOD).replace(b"Length: ", b"Length: 9"), "reset", TRANSIENT),
    "P15 length negative": (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n" + GOOD, "protocol", TRANSIENT),
    "P15 length twice": (http(GOOD, "Content-Length: 3"), "protocol", TRANSIENT),
    "P15 bad chunk": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + GOOD,
        "protocol",
        TRANSIENT,
    ),
    "P15 not HTTP": (b"220 mail.example ESMTP\r\n", "protocol", TRANSIENT),
    "P15 status 999": (http(b"", status="999 Odd"), "server_error", TRANSIENT),
}


@pytest.mark.parametrize("where", ["from the first", "as the last"])
@pytest.mark.parametrize(("raw", "code", "attempts"), BROKEN.values(), ids=BROKEN.keys())
async def test_reply_that_is_no_answer_is_never_kept_as_one(
    raw: bytes, code: str, attempts: int, where: str, tmp_path: Path
) -> None:
    """A reply that is malformed, empty, refused, cut, or not HTTP, from the first attempt on or as the last
    one: that record ends as one failure of its kind after the attempts it is worth; no raw exception, no
    success; the records beside it are answered."""
    tries: Counter[str] = Counter()

    async def answer(exchange: Exchange) -> None:
        question = asked(exchange.body)
        tries[question] += 1
        if question != "question 2":
            await exchange.say(http(reply(f"answer to {question}").body))
        elif where == "as the last" and tries[question] < 3:
            await exchange.say(http(b"", status="503 Busy"))
        else:
            await exchange.say(raw)
            exchange.writer.close()

    summary = await run(tmp_path, answer, max_attempts=3)
    assert (summary.state, summary.statistics.succeeded) == ("finished", 3)
    assert sorted(line["vqa"] for line in lines(tmp_path / "out.jsonl")) == [
        f"answer to question {n}" for n in (0, 1, 3)
    ]
    [failed] = lines(tmp_path / "out.failures.jsonl")
    assert failed["id"] == "r2"
    allowed = {code, "reset"} if code == "protocol" else {code}
    assert failed["error"]["code"] in allowed
    assert failed["error"]["attempts"] == (3 if where == "as the last" else attempts)
    assert failed["error"]["message"].isprintable()
    assert len(failed["error"]["message"]) <= 500
    assert "vqa" not in failed


ODD: dict[str, tuple[bytes, str]] = {
    "P5 parts": (http(choice(content=[{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])), "ab"),
    "P7 cut off": (http(finished("half", "length")), "half"),
    "P11 as text": (http(choice(content="x"), "Content-Type: text/plain"), "x"),
    "P11 as bytes": (http(choice(content="x"), "Content-Type: application/octet-stream"), "x"),
    "P13 gzip unasked": (http(gzip.compress(choice(content="x")), "Content-Encoding: gzip"), "x"),
    "P17 NUL": (http(choice(content="a\0b")), "a\0b"),
    "P17 separators": (http(choice(content="a\u2028b\u2029c\u0085d\x1ce")), "a\u2028b\u2029c\u0085d\x1ce"),
    "P17 surrogate pair": (http(GOOD.replace(b"A red square.", b"\\ud83d\\ude00")), "\U0001f600"),
    "P17 line ends": (http(choice(content="a\r\nb\nc")), "a\r\nb\nc"),
}


@pytest.mark.parametrize(("raw", "text"), ODD.values(), ids=ODD.keys())
async def test_odd_answer_is_kept_as_it_is_in_one_line(raw: bytes, text: str, tmp_path: Path) -> None:
    """An answer in parts, cut off, of another type, packed, or with NULs and line separators in it: kept
    character by character, in one physical line of strict UTF-8."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(raw)

    assert (await run(tmp_path, answer, count=1)).ok
    written = (tmp_path / "out.jsonl").read_bytes()
    assert written.count(b"\n") == 1
    [line] = [json.loads(one) for one in written.decode("utf-8", "strict").removesuffix("\n").split("\n")]
    assert line["vqa"] == text
    assert line["_meta"].get("truncated", False) is (text == "half")


async def test_half_a_surrogate_pair_in_an_answer_is_a_broken_reply(tmp_path: Path) -> None:
    """Half a surrogate pair, which no file can hold: a broken reply, tried again, never written."""

    async def answer(exchange: Exchange) -> None:
        broken = exchange.number == 0
        await exchange.say(http(GOOD.replace(b"red", b"\\ud800") if broken else GOOD))

    assert (await run(tmp_path, answer, count=1)).ok
    [line] = lines(tmp_path / "out.jsonl")
    assert (line["vqa"], line["_meta"]["attempts"]) == ("A red square.", 2)


async def test_page_where_an_answer_should_be_is_tried_again_and_shown(tmp_path: Path) -> None:
    """A web page with status 200, now and then: tried again; for good: the failure shows how it begins."""

    async def now_and_then(exchange: Exchange) -> None:
        page = exchange.number == 1
        body = b"<html><title>Sign in</title></html>" if page else reply("yes").body
        await exchange.say(http(body, "Content-Type: text/html" if page else "X: y"))

    assert (await run(tmp_path, now_and_then)).ok

    async def for_one(exchange: Exchange) -> None:
        page = asked(exchange.body) == "question 2"
        await exchange.say(http(b"<html><title>Sign in</title></html>" if page else reply("yes").body))

    (tmp_path / "b").mkdir()
    summary = await run(tmp_path / "b", for_one, max_attempts=3)
    assert (summary.statistics.succeeded, summary.statistics.failed) == (3, 1)
    [failed] = lines(tmp_path / "b/out.failures.jsonl")
    assert (failed["error"]["code"], failed["error"]["attempts"]) == ("html_response", 3)
    assert "Sign in" in failed["error"]["message"]


# --- P13, P14: too much, and for ever --------------------------------------------------------------------


async def test_reply_that_unpacks_to_more_than_the_cap_fails_its_record_alone(tmp_path: Path) -> None:
    """64 MiB that are 64 KB on the wire: reading stops at the cap, once, and the records beside it are
    answered."""
    bomb = http(zlib.compress(bytes(64 << 20), 9), "Content-Encoding: deflate")

    async def answer(exchange: Exchange) -> None:
        bad = asked(exchange.body) == "question 1"
        await exchange.say(bomb if bad else GOOD_REPLY)

    summary = await run(tmp_path, answer, max_response_bytes=1 << 20)
    assert (summary.statistics.succeeded, summary.statistics.failed) == (3, 1)
    [failed] = lines(tmp_path / "out.failures.jsonl")
    assert (failed["error"]["code"], failed["error"]["attempts"]) == ("too_large", 1)


GOOD_REPLY = http(GOOD)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: dict[str, tuple[bytes, bytes, float]] = {
    "chunks": (CHUNKED, b"1\r\n \r\n", 0.01),
    "a byte now and then": (b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n", b" ", 0.05),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X-Pad: y\r\n", 0.02),
    "informational replies": (b"", b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0.01),
    "a header of 200 KB": (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000, b"y", 0.02),
    "50,000 headers": (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 50_000, b"X: y\r\n", 0.02),
}


@pytest.mark.parametrize(("start", "again", "pause_s"), ENDLESS.values(), ids=ENDLESS.keys())
async def test_reply_without_end_is_given_up_at_the_deadline(
    start: bytes, again: bytes, pause_s: float, tmp_path: Path
) -> None:
    """Chunks, bytes, headers or hints for ever: given up within half a second of the deadline, and tried
    again, with success."""
    tries = 0

    async def answer(exchange: Exchange) -> None:
        nonlocal tries
        tries += 1
        if tries > 1:
            await exchange.say(GOOD_REPLY)
            return
        await exchange.say(start)
        while True:
            await exchange.say(again, pause_s=pause_s)

    began = time.monotonic()
    summary = await run(tmp_path, answer, count=1, timeout=0.3)
    assert time.monotonic() - began < 0.3 + 0.5
    assert summary.ok
    [line] = lines(tmp_path / "out.jsonl")
    assert line["_meta"]["attempts"] == 2


# --- P16: whose answer is it -----------------------------------------------------------------------------


@pytest.mark.slow
async def test_no_record_gets_the_answer_of_another(tmp_path: Path) -> None:
    """3,000 records with a number of their own, over shared connections that close, reset, and say too much,
    answered out of order, retried and resumed: each has the answer to its own number."""
    rng = random.Random(16)

    async def answer(exchange: Exchange) -> None:
        question = asked(exchange.body)
        await asyncio.sleep(rng.random() * 0.01)
        whole = http(reply(f"answer to {question}").body)
        kind = rng.random()
        if kind < 0.02:
            await exchange.say(whole[: rng.randrange(len(whole))])
            exchange.writer.close()
        elif kind < 0.04:
            exchange.reset()
        elif kind < 0.06:
            await exchange.say(whole + http(reply("answer to nobody").body))
        elif kind < 0.08:
            await exchange.say(http(b"", status="503 Busy"))
        elif kind < 0.1:
            await exchange.say(whole)
            exchange.writer.close()
        else:
            await exchange.say(whole)

    source, out = write(tmp_path / "in.jsonl", 3000), str(tmp_path / "out.jsonl")
    async with serving(answer) as server:
        ask = {"base_url": server.url, "model": "m", "api_key": "", "max_workers": 64, "backoff_base": 0.01}
        async with open_engine(**ask) as engine:
            task = asyncio.create_task(engine.run(source, out))
            while engine.statistics().succeeded < 1000:
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with open_engine(**ask) as engine:
            summary = await engine.run(source, out)
    assert summary.ok
    found = lines(tmp_path / "out.jsonl")
    assert len(found) == 3000
    assert [line["id"] for line in found if line["vqa"] != f"answer to {line['conversation']}"] == []
