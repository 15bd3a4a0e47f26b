"""Endpoints that refuse, fail and come back: R of the fault matrix, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from wire import Exchange, asked, asking, asking_over_sockets, http, in_virtual_time, serving

from vqa_async import open_engine
from vqa_async.models import Failure, Success
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Response


def rows(count: int) -> list[dict[str, Any]]:
    return [{"id": f"r{n}", "conversation": f"question {n}"} for n in range(count)]


def write(path: Path, count: int) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows(count)))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def answer_of(exchange: Exchange) -> bytes:
    return http(reply(f"answer to {asked(exchange.body)}").body)


async def echo(exchange: Exchange) -> None:
    await exchange.say(answer_of(exchange))


def header_of(exchange: Exchange, name: bytes) -> str:
    """The value of a header that was sent, "" where it was not; it must not be there twice."""
    found = [
        line.partition(b":")[2].strip().decode()
        for line in exchange.head.split(b"\r\n")
        if line.lower().startswith(name.lower() + b":")
    ]
    assert len(found) < 2
    return found[0] if found else ""


# --- R1: asked to wait -----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_429_with_retry_after_makes_everyone_wait() -> None:
    """429 twice with `Retry-After: 1`: nobody asks before the second is over, and every record is
    answered."""
    refused_at: list[float] = []
    asked_at: list[float] = []

    async def answer(exchange: Exchange) -> None:
        asked_at.append(time.monotonic())
        if exchange.number in (4, 5):
            refused_at.append(asked_at[-1])
            await exchange.say(http(b"", "Retry-After: 1", status="429 Too Many Requests"))
        else:
            await asyncio.sleep(0.02)
            await echo(exchange)

    async with serving(answer) as server, asking_over_sockets(server.url, max_workers=8) as asker:
        results = await asyncio.gather(*(asker.ask(f"question {n}") for n in range(40)))
    assert all(result.ok for result in results)
    assert len(refused_at) == 2
    waited = [at for at in asked_at if at > refused_at[-1] + 0.05]
    assert min(waited) - refused_at[-1] >= 0.95
    assert len(asked_at) == 42


# --- R2: whatever Retry-After says -----------------------------------------------------------------------

RETRY_AFTER: dict[str, tuple[str, ...]] = {
    "zero": ("Retry-After: 0",),
    "seconds": ("Retry-After: 20",),
    "fraction": ("Retry-After: 0.25",),
    "61": ("Retry-After: 61",),
    "121, above the cap": ("Retry-After: 121",),
    "negative": ("Retry-After: -10",),
    "empty": ("Retry-After:",),
    "nan": ("Retry-After: nan",),
    "inf": ("Retry-After: inf",),
    "10^35": ("Retry-After: 1" + "0" * 35,),
    "1e35": ("Retry-After: 1e35",),
    "400 digits": ("Retry-After: " + "9" * 400,),
    "word": ("Retry-After: soon",),
    "date": ("Retry-After: " + formatdate(time.time() + 5, usegmt=True),),
    "past date": ("Retry-After: Fri, 29 Sep 2023 16:26:57 GMT",),
    "year 9999": ("Retry-After: Fri, 31 Dec 9999 23:59:59 GMT",),
    "year 100000": ("Retry-After: Fri, 29 Sep 100000 16:26:57 GMT",),
    "no date": ("Retry-After: Fri, 99 Foo 2023 99:99:99 GMT",),
    "milliseconds": ("retry-after-ms: 250",),
    "milliseconds nan": ("retry-after-ms: nan", "Retry-After: 1"),
    "milliseconds inf": ("retry-after-ms: inf",),
    "milliseconds 1e300": ("retry-after-ms: 1e300",),
    "milliseconds negative": ("retry-after-ms: -1",),
    "two headers": ("Retry-After: 1", "Retry-After: 100000"),
    "two headers, other order": ("Retry-After: 100000", "Retry-After: 1"),
    "list": ("Retry-After: 5, 10",),
    "hexadecimal": ("Retry-After: 0x10",),
    "not ASCII": ("Retry-After: \u0661\u0662",),
    "nothing": (),
}


@pytest.mark.parametrize("headers", RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
async def test_wait_that_a_503_asks_for_is_finite_whatever_it_says(headers: tuple[str, ...]) -> None:
    """A 503 with Retry-After in every form that servers and proxies have sent: each wait is a number from 0
    to the cap, and the record ends."""

    async def answer(exchange: Exchange) -> None:
        head = ("HTTP/1.1 503 Busy", *headers, "Content-Length: 0", "", "")
        await exchange.say("\r\n".join(head).encode())

    async with serving(answer) as server, asking_over_sockets(server.url, max_attempts=3) as asker:
        async with asyncio.timeout(2):
            result = await asker.ask()
    assert isinstance(result, Failure)
    assert result.attempts in (1, 3)
    assert len(asker.waits) == result.attempts - 1
    assert all(math.isfinite(wait) and 0 <= wait <= 120 + 1 for wait in asker.waits)


@pytest.mark.parametrize("headers", RETRY_AFTER.values(), ids=RETRY_AFTER.keys())
def test_wait_that_a_429_asks_for_ends_whatever_it_says(headers: tuple[str, ...]) -> None:
    """A 429 with Retry-After in every form, for ever: within the longest outage the run is stopped or the
    record has failed; nobody sleeps for good."""
    said = {name: value.strip() for name, _, value in (one.partition(":") for one in headers[:1])}

    async def main() -> tuple[Any, float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        transport = FakeTransport([Response(429, said, b"")], latency_s=0.01)
        async with asking(transport, sleep=asyncio.sleep, max_outage=300, max_attempts=4) as asker:
            return await asker.ask(), loop.time() - began

    result, took_s = in_virtual_time(main())
    assert isinstance(result, Failure)
    assert took_s < 2 * 300 + 130


# --- R3, R4: storms and outages --------------------------------------------------------------------------


@pytest.mark.slow
async def test_storm_of_503_costs_few_requests_and_no_record(tmp_path: Path) -> None:
    """A second of nothing but 503, then all is well: every record is answered, at hardly more requests."""
    began = time.monotonic()

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.01)
        if 0.15 < time.monotonic() - began < 1.15:
            await exchange.say(http(b"", status="503 Service Unavailable"))
        else:
            await echo(exchange)

    source = write(tmp_path / "in.jsonl", 600)
    async with (
        serving(answer) as server,
        open_engine(base_url=server.url, model="m", api_key="", max_workers=16, backoff_base=0.2) as engine,
    ):
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
        requests = len(server.exchanges)
    assert summary.ok
    assert len(lines(tmp_path / "out.jsonl")) == 600
    assert requests <= 1.1 * 600 + 16 * 3


@contextlib.asynccontextmanager
async def again_at(port: int, answer: Callable[[Exchange], Awaitable[None]]) -> AsyncIterator[list[bytes]]:
    """A server that comes back at the port at which it was before."""
    bodies: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                bodies.append(body)
                await answer(Exchange(reader, writer, head, body, len(bodies)))
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", port, reuse_address=True)
    try:
        yield bodies
    finally:
        server.close()


@pytest.mark.slow
async def test_server_that_dies_in_the_middle_and_comes_back_costs_no_record(tmp_path: Path) -> None:
    """The server process is gone in the middle of a run and back a second later: probed meanwhile by one
    request at a time, then every record is answered."""

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.005)
        await echo(exchange)

    source = write(tmp_path / "in.jsonl", 200)
    async with contextlib.AsyncExitStack() as stack:
        first = contextlib.AsyncExitStack()
        server = await first.enter_async_context(serving(answer))
        engine = await stack.enter_async_context(
            open_engine(base_url=server.url, model="m", api_key="", max_workers=8, backoff_base=0.05)
        )
        run = asyncio.create_task(engine.run(source, str(tmp_path / "out.jsonl")))
        while engine.statistics().succeeded < 40:
            await asyncio.sleep(0.005)
        await first.aclose()
        await asyncio.sleep(0.9)
        assert not run.done()
        assert engine.statistics().endpoints[0].reason == "endpoint down"
        assert engine.statistics().in_flight <= 1
        async with again_at(server.port, answer):
            summary = await asyncio.wait_for(run, 5)
    assert summary.ok, summary.reason
    answered = Counter(line["id"] for line in lines(tmp_path / "out.jsonl"))
    assert len(answered) == answered.total() == 200


@pytest.mark.slow
async def test_outage_beyond_the_longest_stops_the_run_and_the_next_goes_on(tmp_path: Path) -> None:
    """The server dies and does not come back: after the longest outage the run stops, no record is marked
    failed, and the same call goes on when there is one again."""
    source, out = write(tmp_path / "in.jsonl", 60), str(tmp_path / "out.jsonl")
    ask = {"model": "m", "api_key": "", "max_workers": 4, "backoff_base": 0.05, "max_outage": 0.5}
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(serving(echo))
        async with open_engine(base_url=server.url, **ask) as engine:
            run = asyncio.create_task(engine.run(source, out))
            while engine.statistics().succeeded < 10:
                await asyncio.sleep(0)
            await stack.aclose()
            summary = await asyncio.wait_for(run, 8)
        assert (summary.state, summary.statistics.failed) == ("stopped", 0)
        assert "run the same command again" in summary.reason
    before = len(lines(tmp_path / "out.jsonl"))
    async with serving(echo) as server, open_engine(base_url=server.url, **ask) as engine:
        assert (await engine.run(source, out)).ok
        assert len(server.exchanges) == 60 - before


# --- R5 to R9: what a status means -----------------------------------------------------------------------

PAGE = b"<html><body><h1>Bad Gateway</h1></body></html>"


@pytest.mark.parametrize("body", [b"", PAGE, b"upstream timed out"], ids=["empty", "page", "text"])
@pytest.mark.parametrize("status", [408, 409, 425, 500, 502, 503, 504, 520, 529])
async def test_trouble_of_the_server_is_tried_again(status: int, body: bytes) -> None:
    """5xx, 408 and 409 of servers and the proxies before them, with pages for bodies: tried again,
    answered."""

    async def answer(exchange: Exchange) -> None:
        if exchange.number < 2:
            await exchange.say(http(body, "Content-Type: text/html", status=f"{status} Trouble"))
        else:
            await echo(exchange)

    async with serving(answer) as server, asking_over_sockets(server.url) as asker:
        result = await asker.ask("question 0")
    assert result.ok
    assert (result.text, result.attempts) == ("answer to question 0", 3)


REJECTIONS: dict[str, tuple[int, dict[str, Any], str]] = {
    "too long": (
        400,
        {"code": "context_length_exceeded", "message": "8192 tokens"},
        "context_length_exceeded",
    ),
    "filtered": (400, {"code": "content_filter", "message": "no"}, "content_filter"),
    "too large": (413, {"message": "too large"}, "rejected"),
    "not understood": (422, {"message": "bad image"}, "rejected"),
}


@pytest.mark.parametrize(("status", "error", "code"), REJECTIONS.values(), ids=REJECTIONS.keys())
async def test_rejected_record_is_asked_once_and_costs_no_other(
    status: int, error: dict[str, Any], code: str, tmp_path: Path
) -> None:
    """400, 413 or 422 for one record of ten: asked once, kept with the server's code, the others answered."""

    async def answer(exchange: Exchange) -> None:
        if asked(exchange.body) == "question 3":
            await exchange.say(http(json.dumps({"error": error}).encode(), status=f"{status} No"))
        else:
            await echo(exchange)

    source = write(tmp_path / "in.jsonl", 10)
    async with (
        serving(answer) as server,
        open_engine(base_url=server.url, model="m", api_key="") as engine,
    ):
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
        assert len(server.exchanges) == 10
    assert (summary.state, summary.statistics.failed) == ("finished", 1)
    [failed] = lines(tmp_path / "out.failures.jsonl")
    assert failed["id"] == "r3"
    assert (failed["error"]["code"], failed["error"]["status"], failed["error"]["attempts"]) == (
        code,
        status,
        1,
    )


STOPPING: dict[str, tuple[int, bytes, str]] = {
    "401": (401, b'{"error":"Unauthorized"}', "auth"),
    "403": (403, b"", "auth"),
    "no quota": (429, b'{"error":{"code":"insufficient_quota","message":"Pay"}}', "insufficient_quota"),
    "no model": (404, b'{"error":{"code":"model_not_found","message":"gone"}}', "model_not_found"),
}


@pytest.mark.parametrize("after", [0, 30], ids=["from the start", "in the middle"])
@pytest.mark.parametrize(("status", "body", "code"), STOPPING.values(), ids=STOPPING.keys())
async def test_endpoint_that_refuses_us_stops_the_run_before_the_queue_is_burnt(
    status: int, body: bytes, code: str, after: int, tmp_path: Path
) -> None:
    """A key, a quota or a model that is refused, at once or in the middle: at most one request for each
    worker more, what was answered is kept, nothing is marked failed, and the next run goes on."""
    workers = 8

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(0.002)
        if exchange.number >= after:
            await exchange.say(http(body, status=f"{status} No"))
        else:
            await echo(exchange)

    source, out = write(tmp_path / "in.jsonl", 200), str(tmp_path / "out.jsonl")
    ask = {"model": "m", "api_key": "", "max_workers": workers}
    async with serving(answer) as server, open_engine(base_url=server.url, **ask) as engine:
        summary = await engine.run(source, out)
        assert len(server.exchanges) <= after + workers
    assert summary.state == "stopped"
    assert summary.error is not None
    assert summary.error.code == code
    assert len(lines(tmp_path / "out.jsonl")) == after
    assert not (tmp_path / "out.failures.jsonl").exists()
    async with serving(echo) as server, open_engine(base_url=server.url, **ask) as engine:
        assert (await engine.run(source, out)).ok
        assert len(server.exchanges) == 200 - after


@pytest.mark.parametrize(
    ("status", "advice", "attempts"), [(400, "true", 3), (503, "false", 1), (429, "false", 1)]
)
async def test_advice_of_the_server_whether_to_try_again_is_followed(
    status: int, advice: str, attempts: int
) -> None:
    """`x-should-retry: true` on a 400, `false` on a 503: the server knows better than its status."""

    async def answer(exchange: Exchange) -> None:
        await exchange.say(http(b"", f"x-should-retry: {advice}", "Retry-After: 0", status=f"{status} So"))

    async with serving(answer) as server, asking_over_sockets(server.url, max_attempts=3) as asker:
        result = await asker.ask()
        assert len(server.exchanges) == attempts
    assert isinstance(result, Failure)
    assert result.attempts == attempts


# --- R10: everything at once -----------------------------------------------------------------------------


@pytest.mark.slow
async def test_three_tenths_of_all_requests_going_wrong_cost_no_record(tmp_path: Path) -> None:
    """30 % faults of nine kinds, drawn at random, over 1,500 records: each is answered once, with its own
    answer, or has used up all its attempts."""
    rng = random.Random(20)
    kinds: list[Callable[[Exchange], Awaitable[None]]] = []

    def kind(answer: Callable[[Exchange], Awaitable[None]]) -> None:
        kinds.append(answer)

    def saying(*pieces: bytes, close: bool = True) -> None:
        async def say(exchange: Exchange) -> None:
            await exchange.say(*pieces)
            if close:
                exchange.writer.close()

        kind(say)

    async def resetting(exchange: Exchange) -> None:
        exchange.reset()

    whole = http(reply("half").body)
    for status in ("500 Oops", "502 Bad Gateway", "503 Busy", "529 Overloaded", "408 Late"):
        saying(http(PAGE, status=status), close=False)
    saying(whole[: len(whole) // 2])
    saying(http(b"<html>"), close=False)
    saying(http(b'{"choices":[]}'), close=False)
    kind(resetting)

    async def answer(exchange: Exchange) -> None:
        await (rng.choice(kinds) if rng.random() < 0.3 else echo)(exchange)

    source = write(tmp_path / "in.jsonl", 1500)
    async with (
        serving(answer) as server,
        open_engine(
            base_url=server.url, model="m", api_key="", max_workers=32, backoff_base=0.01, backoff_max=0.1
        ) as engine,
    ):
        summary = await engine.run(source, str(tmp_path / "out.jsonl"))
    assert summary.state == "finished"
    done = lines(tmp_path / "out.jsonl")
    assert all(line["vqa"] == f"answer to {line['conversation']}" for line in done)
    failed = lines(tmp_path / "out.failures.jsonl")
    ids = Counter(line["id"] for line in (*done, *failed))
    assert len(ids) == ids.total() == 1500
    assert all(line["error"]["attempts"] == 8 for line in failed)
    assert len(failed) <= 3


# --- R11: the clock on the wall --------------------------------------------------------------------------

JUMPING_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long shift(void) {
    long seconds = 0;
    FILE *file = fopen(getenv("CLOCK_SHIFT"), "r");
    if (file) { if (fscanf(file, "%ld", &seconds) != 1) seconds = 0; fclose(file); }
    return seconds;
}
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}
"""

UNDER_THE_CLOCK = """
import asyncio, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1]]
from wire import Exchange, asked, asking_over_sockets, http, serving
from vqa_async.testing import reply

shift, jumps = Path(sys.argv[2]), [3600, -3600, 315_360_000, -315_360_000]
shift.write_text("0")
seen = []

async def answer(exchange):
    shift.write_text(str(jumps[exchange.number % 4]))
    seen.append(time.time())
    await asyncio.sleep(0.01)
    if exchange.number % 3:
        await exchange.say(http(reply("yes").body))
    else:
        await exchange.say(http(b"", "Retry-After: 0.1", status="503 Busy"))

async def main():
    began = time.monotonic()
    async with serving(answer) as server, asking_over_sockets(
        server.url, sleep=asyncio.sleep, timeout=5.0, max_workers=4
    ) as asker:
        results = [await asyncio.gather(*(asker.ask(str(n)) for n in range(4))) for _ in range(5)]
    print(all(one.ok for batch in results for one in batch), time.monotonic() - began, max(seen) - min(seen))

asyncio.run(main())
"""


@pytest.mark.slow
def test_jumps_of_the_wall_clock_change_no_wait(tmp_path: Path) -> None:
    """The clock is set back and forth by an hour and by ten years in the middle of a run: no deadline fires,
    no wait is longer or shorter for it."""
    (tmp_path / "clock.c").write_text(JUMPING_CLOCK)
    compiled = ["gcc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"]
    try:
        subprocess.run(compiled, cwd=tmp_path, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler to make a clock that jumps")
    done = subprocess.run(
        [sys.executable, "-c", UNDER_THE_CLOCK, Path(__file__).parents[1] / "client", tmp_path / "shift"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "LD_PRELOAD": str(tmp_path / "clock.so"), "CLOCK_SHIFT": str(tmp_path / "shift")},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    ok, took_s, jumped_s = done.stdout.split()
    assert float(jumped_s) > 600_000_000  # the clock did jump
    assert ok == "True"
    assert 0.1 < float(took_s) < 3


# --- R12: the same request twice -------------------------------------------------------------------------


async def test_all_attempts_at_a_record_carry_one_idempotency_key(tmp_path: Path) -> None:
    """A record is sent again after an error, after a cut reply, and by the next run after a kill: always with
    the same Idempotency-Key, so that a server that knows it does the work once."""
    keys: dict[str, set[str]] = {}
    sent: Counter[str] = Counter()
    unlucky = {"question 2", "question 5", "question 9"}
    killed = False

    async def answer(exchange: Exchange) -> None:
        question = asked(exchange.body)
        keys.setdefault(question, set()).add(header_of(exchange, b"Idempotency-Key"))
        sent[question] += 1
        if question not in unlucky:
            await echo(exchange)
        elif sent[question] == 1:
            await exchange.say(http(b"", status="503 Busy"))
        elif sent[question] == 2:
            await exchange.say(answer_of(exchange)[:-5])
            exchange.writer.close()
        elif sent[question] == 3 and not killed:
            stop.set()
            await asyncio.sleep(9)
        else:
            await echo(exchange)

    stop = asyncio.Event()
    source, out = write(tmp_path / "in.jsonl", 12), str(tmp_path / "out.jsonl")
    async with serving(answer) as server:
        ask = {"base_url": server.url, "model": "m", "api_key": "", "backoff_base": 0.01}
        async with open_engine(**ask) as engine:
            run = asyncio.create_task(engine.run(source, out))
            await stop.wait()
            run.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await run
        killed = True
        async with open_engine(**ask) as engine:
            assert (await engine.run(source, out)).ok
    assert len(keys) == 12
    assert all(len(found) == 1 for found in keys.values())
    found = {key for one in keys.values() for key in one}
    assert len(found) == 12
    assert all(0 < len(key) <= 64 and key.isalnum() for key in found)


async def test_repeats_of_a_question_have_keys_of_their_own() -> None:
    """Two records that ask the same are two records: a server that dedups answers each; and a key that the
    user gives by --header is left alone."""

    async def ask(**options: Any) -> list[str]:
        row = {"conversation": "the same"}
        async with serving(echo) as server:
            async with open_engine(base_url=server.url, model="m", api_key="", **options) as engine:
                async for result in engine.stream([row, row]):
                    assert isinstance(result, Success)
            return [header_of(exchange, b"Idempotency-Key") for exchange in server.exchanges]

    assert len(set(await ask())) == 2
    assert sorted(await ask()) == sorted(await ask())
    assert await ask(header=("idempotency-key: mine",)) == ["mine", "mine"]
