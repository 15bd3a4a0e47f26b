"""One record through the client: its facts, its attempts, and what is left behind when it is cut short."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from aioresponses import aioresponses
from wire import (
    Asker,
    Exchange,
    asked,
    asking,
    asking_over_sockets,
    http,
    in_virtual_time,
    now,
    record,
    serving,
)

from vqa_async.chat import Body
from vqa_async.errors import (
    AuthError,
    DiskError,
    EndpointNotFound,
    ImageError,
    JournalError,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    RecordError,
    Rejected,
    RequestError,
    ServerError,
    TransportError,
    VQAError,
)
from vqa_async.models import AttemptFailed, Failure, ImageRef, Message, Record, Result, Success
from vqa_async.server import running_server
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

URL = "http://test.invalid/v1"
CHAT = f"{URL}/chat/completions"


def busy(**headers: str) -> Response:
    return reply(status=503, body=b"busy", headers=headers)


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


# --- facts -----------------------------------------------------------------------------------------------


async def test_success_carries_its_facts() -> None:
    """Text, pairs, usage, endpoint, attempts, times and the digest of what was asked."""
    before = time.time()
    transport = FakeTransport([busy(), reply("- Q: What?\n  A: Red.")], latency_s=0.01)
    async with asking(transport) as asker:
        result = await asker.ask("Look.")
    assert isinstance(result, Success)
    assert (result.text, result.id, result.ok) == ("- Q: What?\n  A: Red.", "Look.", True)
    assert [(pair.question, pair.answer) for pair in result.pairs] == [("What?", "Red.")]
    assert (result.completion.usage.prompt_tokens, result.completion.usage.completion_tokens) == (10, 5)
    assert (result.completion.model, result.completion.finish_reason) == ("test", "stop")
    assert (result.endpoint, result.attempts) == (URL, 2)
    assert 0.01 <= result.latency_s < 0.5
    assert before <= result.finished_at <= time.time()
    assert len(result.request_digest) == 32


def test_latency_is_that_of_the_last_attempt() -> None:
    """Neither waiting for a permit nor earlier attempts count as the model's time."""

    async def main() -> list[float]:
        transport = FakeTransport([busy(), reply()], latency_s=2.0)
        async with asking(transport, max_workers=1, sleep=asyncio.sleep) as asker:
            results = await asyncio.gather(*(asker.ask(str(n)) for n in range(4)))
        return [result.latency_s for result in results if isinstance(result, Success)]

    assert in_virtual_time(main()) == pytest.approx([2.0] * 4, abs=0.1)


async def test_digest_is_stable_over_attempts_clients_and_time() -> None:
    """The same question has the same digest, another question another."""
    digests = []
    for answers in ([reply()], [busy(), busy(), reply("other answer")]):
        async with asking(FakeTransport(answers)) as asker:
            results = [await asker.ask("a"), await asker.ask("a"), await asker.ask("b")]
        digests.append([result.request_digest for result in results if isinstance(result, Success)])
    assert digests[0] == digests[1]
    assert digests[0][0] == digests[0][1] != digests[0][2]


async def test_every_attempt_sends_the_same_request() -> None:
    """Body, headers and deadline, to the endpoint's chat address."""
    transport = FakeTransport([busy(), busy(), reply()])
    async with asking(transport, key="sk-1234567890", timeout=7, connect_timeout=3) as asker:
        await asker.ask()
    first, *others = transport.requests
    assert others == [first, first]
    assert first.url == CHAT
    assert first.headers["Authorization"] == "Bearer sk-1234567890"
    assert (first.timeout_s, first.connect_timeout_s) == (7, 3)
    assert first.size == sum(map(len, first.body))


async def test_failure_carries_its_facts() -> None:
    """The error, how often it was tried and for how long, and where."""
    transport = FakeTransport([busy()], latency_s=0.01)
    async with asking(transport, max_attempts=3) as asker:
        result = await asker.ask("x")
    assert isinstance(result, Failure)
    assert isinstance(result.error, ServerError)
    assert (result.id, result.attempts, result.error.attempts) == ("x", 3, 3)
    assert (result.error.status, result.error.endpoint, result.error.excerpt) == (503, URL, "busy")
    assert 0.03 <= result.error.elapsed_s < 0.5
    assert result.error.retryable


async def test_record_that_cannot_be_sent_is_a_failure_without_attempts() -> None:
    """A missing image or a broken text: the server hears nothing of it."""
    transport = FakeTransport([reply()])
    async with asking(transport) as asker:
        missing = await asker.ask("x", ImageRef("path", "/no/such/image.png"))
        broken = await asker.ask("\ud800")
    for result, kind in ((missing, ImageError), (broken, RecordError)):
        assert isinstance(result, Failure)
        assert isinstance(result.error, kind)
        assert result.attempts == 0
    assert transport.requests == []
    assert asker.pool.in_flight == 0


async def test_real_image_is_answered_by_the_real_endpoint(red_image: str) -> None:
    """Over sockets, decoded by the server: it sees the colour."""
    async with running_server(model="m") as server, asking_over_sockets(server.base_url) as asker:
        result = await asker.ask("What colour is it?", ImageRef("path", red_image))
    assert isinstance(result, Success), result.error
    assert "red" in result.text.lower()


async def test_each_record_gets_its_own_answer() -> None:
    """300 records over shared connections, answered out of order: none gets another's."""
    rng = random.Random(5)

    async def answer(exchange: Exchange) -> None:
        await asyncio.sleep(rng.random() * 0.01)
        await exchange.say(http(reply(f"answer to {asked(exchange.body)}").body))

    async with serving(answer) as server, asking_over_sockets(server.url, max_workers=32) as asker:
        results = await asyncio.gather(*(asker.ask(str(n)) for n in range(300)))
        assert server.connections <= 32
    assert [result.ok and result.text for result in results] == [f"answer to {n}" for n in range(300)]


# --- statuses, over the real transport -------------------------------------------------------------------

# (status, body, headers): (class, attempts of the three allowed)
STATUSES: list[tuple[int, bytes, dict[str, str], type[RequestError], int]] = [
    (400, b'{"error":{"message":"Too long","code":"context_length_exceeded"}}', {}, Rejected, 1),
    (400, b'{"error":{"message":"No","code":"content_filter"}}', {}, Rejected, 1),
    (400, b'{"error":"bad image"}', {}, Rejected, 1),
    (413, b"", {}, Rejected, 1),
    (415, b"", {}, Rejected, 1),
    (422, b'{"detail":[]}', {}, Rejected, 1),
    (401, b'{"error":"Unauthorized"}', {}, AuthError, 1),
    (403, b"", {}, AuthError, 1),
    (402, b"", {}, QuotaExceeded, 1),
    (429, b'{"error":{"code":"insufficient_quota"}}', {}, QuotaExceeded, 1),
    (404, b'{"error":{"message":"The model `m` does not exist"}}', {}, ModelNotFound, 1),
    (404, b'{"detail":"Not Found"}', {}, EndpointNotFound, 1),
    (405, b"", {}, EndpointNotFound, 1),
    (302, b"", {"Location": "http://elsewhere.invalid/"}, EndpointNotFound, 1),
    (408, b"", {}, ServerError, 3),
    (409, b"", {}, ServerError, 3),
    (425, b"", {}, ServerError, 3),
    (429, b"", {"Retry-After": "0"}, RateLimited, 3),
    (500, b"<html>", {}, ServerError, 3),
    (502, b"", {}, ServerError, 3),
    (503, b"", {"Retry-After": "0"}, ServerError, 3),
    (504, b"", {}, ServerError, 3),
    (529, b'{"type":"error"}', {}, ServerError, 3),
    (400, b"", {"x-should-retry": "true"}, Rejected, 3),
    (503, b"", {"x-should-retry": "false"}, ServerError, 1),
    (401, b"", {"x-should-retry": "true"}, AuthError, 1),
    (503, b"", {"Retry-After": "121"}, ServerError, 1),
]


@pytest.mark.parametrize(("status", "body", "headers", "kind", "attempts"), STATUSES)
async def test_status_decides_whether_to_try_again(
    status: int, body: bytes, headers: dict[str, str], kind: type[RequestError], attempts: int
) -> None:
    """Once where more is of no use, up to the bound where it is; and the header that decides is obeyed."""
    with aioresponses() as server:
        server.post(CHAT, status=status, body=body, headers=headers, repeat=True)
        async with asking_over_sockets(URL, max_attempts=3) as asker:
            result = await asker.ask()
        sent = sum(map(len, server.requests.values()))
    assert isinstance(result, Failure)
    assert type(result.error) is kind
    assert result.attempts == sent == attempts


async def test_answer_after_errors_is_a_success() -> None:
    """The retries end with the first answer."""
    with aioresponses() as server:
        for status in (500, 429, 408):
            server.post(CHAT, status=status, headers={"Retry-After": "0"})
        server.post(CHAT, body=reply("yes").body)
        async with asking_over_sockets(URL, max_attempts=8) as asker:
            result = await asker.ask()
    assert (result.ok, result.attempts) == (True, 4)


async def test_advice_of_a_server_does_not_change_what_stops_the_run() -> None:
    """A refused key may be put right before the next run, whatever the header says of this one."""
    denied = reply(status=401, body=b"", headers={"x-should-retry": "false"})
    async with asking(FakeTransport([denied])) as asker:
        result = await asker.ask()
    assert isinstance(result, Failure)
    assert (result.error.stops_run, result.error.retryable) == (True, True)


async def test_refused_key_says_where_the_key_came_from() -> None:
    """Once, however often the same answer comes."""
    async with asking(FakeTransport([reply(status=401, body=b'{"error":"Unauthorized"}')])) as asker:
        for _ in range(2):
            result = await asker.ask()
            assert isinstance(result, Failure)
            assert result.error.message == (
                "The endpoint refuses the API key (401): Unauthorized. Look at MY_KEY."
            )
            assert str(result.error) == result.error.message


# --- waits -----------------------------------------------------------------------------------------------


async def test_waits_are_at_least_what_the_server_asks() -> None:
    """And spread a little beyond, so that two records told the same do not come back together."""
    answers = [busy(**{"Retry-After": "20"}), busy(**{"retry-after-ms": "1500"}), reply()]
    waits = []
    async with asking(FakeTransport(answers)) as asker:
        await asker.ask()
        waits = asker.waits
    assert 20 <= waits[0] <= 21
    assert 1.5 <= waits[1] <= 1.875


async def test_waits_of_our_own_grow_and_are_spread() -> None:
    """Within bounds that double; no two of 200 records in lock step."""
    async with asking(FakeTransport([busy()]), max_attempts=4, max_outage=1e5) as asker:
        results = await asyncio.gather(*(asker.ask(str(n)) for n in range(3)))
        assert [result.attempts for result in results] == [4] * 3
        bounds = sorted(asker.waits)
    assert len(set(bounds)) == 9
    assert max(bounds) <= 2.0


async def test_permit_is_given_back_while_waiting_to_retry() -> None:
    """Waiting is not being on the wire: others use the permit meanwhile."""
    seen = []

    async def sleep(seconds: float) -> None:
        other = await asker.ask("other")
        seen.append((asker.pool.in_flight, other.ok))

    transport = FakeTransport([busy(), reply()])
    async with asking(transport, max_workers=1, sleep=sleep) as asker:
        result = await asker.ask("first")
    assert seen == [(0, True)]
    assert result.ok


def test_record_is_given_up_when_its_time_is_used_up() -> None:
    """Attempts and time are both bounded: 10 s a try and at most 25 s are three tries."""

    async def main() -> Result:
        transport = FakeTransport([busy()], latency_s=10)
        async with asking(transport, max_attempts=50, max_retry_time=25, sleep=asyncio.sleep) as asker:
            return await asker.ask()

    result = in_virtual_time(main())
    assert isinstance(result, Failure)
    assert result.attempts == 3
    assert isinstance(result.error, RequestError)
    assert 30 <= result.error.elapsed_s <= 35


async def test_attempts_that_will_be_repeated_are_told() -> None:
    """With the error, the number of the attempt and the wait; the last failure is the result itself."""
    events: list[AttemptFailed] = []
    answers = [busy(), reply(body=b"{"), TransportError("gone", code="reset")]
    async with asking(FakeTransport(answers), max_attempts=3) as asker:
        result = await asker.ask("x", notify=events.append)
        assert [event.wait_s for event in events] == asker.waits
    assert isinstance(result, Failure)
    assert [(event.record_id, event.attempt, type(event.error).__name__) for event in events] == [
        ("x", 1, "ServerError"),
        ("x", 2, "ResponseError"),
    ]
    assert all(event.error.__traceback__ is None for event in events)


async def test_other_endpoint_is_asked_after_a_failure() -> None:
    """A record does not try its luck again where it just failed, if there is a choice."""
    transport = FakeTransport(lambda request: busy() if "//a." in request.url else reply())
    urls = ["http://a.invalid/v1", "http://b.invalid/v1"]
    async with asking(transport, urls) as asker:
        results = [await asker.ask(str(n)) for n in range(6)]
    assert {result.attempts for result in results} <= {1, 2}
    assert {result.endpoint for result in results if isinstance(result, Success)} == {urls[1]}


# --- saving ----------------------------------------------------------------------------------------------


async def test_answer_is_saved_while_its_permit_is_held() -> None:
    """What is paid for and not yet safe never exceeds the permits."""
    saved = []

    async def save(result: Result) -> None:
        task = asyncio.current_task()
        assert task is not None
        saved.append((result.ok, asker.pool.in_flight, asker.client.is_on_wire(task)))

    transport = FakeTransport([reply(), reply(status=400, body=b"no")])
    async with asking(transport) as asker:
        await asker.ask("good", save=save)
        await asker.ask("bad", save=save)
    assert saved == [(True, 1, True), (False, 0, False)]


@pytest.mark.parametrize("error", [JournalError("locked"), DiskError("full")])
async def test_journal_that_cannot_be_written_passes_through(error: JournalError) -> None:
    """It is not one record's failure."""

    async def save(_: Result) -> None:
        raise error

    for answer in (reply(), reply(status=400, body=b"no")):
        async with asking(FakeTransport([answer])) as asker:
            with pytest.raises(JournalError) as caught:
                await asker.ask(save=save)
            assert caught.value is error
            assert asker.pool.in_flight == 0


async def test_error_that_stops_the_run_is_not_saved() -> None:
    """Its record stays open for the next run."""
    saved: list[Result] = []

    async def save(result: Result) -> None:
        saved.append(result)

    async with asking(FakeTransport([reply(status=401, body=b"")])) as asker:
        result = await asker.ask(save=save)
    assert not result.ok
    assert saved == []


@pytest.mark.parametrize(("status", "kept"), [(503, 0), (400, 1)])
async def test_stopping_run_tries_nothing_again(status: int, kept: int) -> None:
    """A transient failure then stays open for the next run; a permanent one is settled."""
    saved: list[Result] = []

    async def save(result: Result) -> None:
        saved.append(result)

    async with asking(FakeTransport([reply(status=status, body=b"")])) as asker:
        result = await asker.ask(may_retry=lambda: False, save=save)
        assert asker.waits == []
    assert result.attempts == 1
    assert len(saved) == kept


# --- defects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [ValueError("boom"), KeyError("x"), OSError(5, "x"), RecursionError("deep")]
)
async def test_defect_of_a_transport_costs_one_record(error: Exception) -> None:
    """It becomes a Failure that says where it was raised; the others are answered, and no permit is lost."""

    def answer(request: Request) -> Response:
        if asked(b"".join(request.body)) == "3":
            raise error
        return reply()

    async with asking(FakeTransport(answer), max_workers=2) as asker:
        results = await asyncio.gather(*(asker.ask(str(n)) for n in range(6)))
        assert asker.pool.in_flight == 0
    assert Counter(result.ok for result in results) == {True: 5, False: 1}
    failure = results[3]
    assert isinstance(failure, Failure)
    assert (type(failure.error), failure.error.code, failure.attempts) == (VQAError, "internal", 1)
    assert failure.error.message.startswith(f"Unexpected {type(error).__name__} at test_client.py:")


async def test_secret_in_the_text_of_a_defect_is_taken_out() -> None:
    """A transport of one's own may put the headers into its exceptions."""
    key = "sk-0123456789abcdef"
    async with asking(FakeTransport([ValueError(f"Authorization: Bearer {key}")]), key=key) as asker:
        result = await asker.ask()
    assert isinstance(result, Failure)
    assert key not in result.error.message
    assert "[removed]" in result.error.message


async def test_failure_holds_no_image(red_image: str) -> None:
    """Neither by its error nor by a traceback: kept failures do not keep what was sent."""
    async with asking(FakeTransport([reply(status=400, body=b"no"), ValueError("x")])) as asker:
        failures = [await asker.ask(str(n), ImageRef("path", red_image)) for n in range(2)]
        assert asker.images.statistics().bytes_in_use == 0
    for failure in failures:
        assert isinstance(failure, Failure)
        assert failure.error.__traceback__ is None
        assert failure.error.__context__ is None
        assert failure.error.__cause__ is None


async def test_what_was_sent_is_freed_with_its_record(red_image: str) -> None:
    """Answered or failed, at once or after retries: without waiting for the garbage collector."""
    answers = [busy(), reply(), reply(status=400, body=b"no"), ValueError("x"), busy()]
    gc.disable()
    gc.freeze()  # what other tests left is not looked at
    try:
        async with asking(FakeTransport(answers), max_attempts=2) as asker:
            results = [await asker.ask(str(n), ImageRef("path", red_image)) for n in range(4)]
            left = [thing for thing in gc.get_objects() if isinstance(thing, Body)]
    finally:
        gc.unfreeze()
        gc.enable()
    assert [result.ok for result in results] == [True, False, False, False]
    assert left == []


# --- cancellation ----------------------------------------------------------------------------------------


async def hanging(asker: Asker, *images: ImageRef) -> asyncio.Task[Result]:
    task = asyncio.create_task(asker.client.complete(record("hanging", *images)))
    await settled()
    return task


async def cancelled(task: asyncio.Task[Result]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def assert_nothing_is_left(asker: Asker) -> None:
    """No permit, no task, no bytes of images."""
    assert asker.pool.in_flight == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}
    statistics = asker.images.statistics()
    assert (statistics.bytes_in_use, statistics.waiting) == (0, 0)
    assert not asker.client._on_wire


async def test_cancelled_while_its_images_wait_for_memory(red_image: str) -> None:
    """One record holds all the bytes that there are, the next one waits for them and is cancelled."""
    image = ImageRef("path", red_image)
    async with asking(FakeTransport([reply()], latency_s=60), encoded_bytes=1) as asker:
        first = asyncio.create_task(asker.ask("first", image))
        while not asker.pool.in_flight:
            await asyncio.sleep(0.001)
        second = await hanging(asker, image)
        assert asker.images.statistics().waiting == 1
        await cancelled(second)
        assert asker.images.statistics().waiting == 0
        await cancelled(first)
        assert_nothing_is_left(asker)


async def test_cancelled_while_it_waits_for_a_permit() -> None:
    """The line closes up behind it."""
    transport = FakeTransport([reply()], latency_s=0.05)
    async with asking(transport, max_workers=1) as asker:
        first = asyncio.create_task(asker.ask("first"))
        await settled()
        await cancelled(await hanging(asker))
        assert (await first).ok
        assert_nothing_is_left(asker)
    assert len(transport.requests) == 1


async def test_cancelled_on_the_wire() -> None:
    """The permit comes back, and the client knows that nothing is on the wire any more."""
    transport = FakeTransport([reply()], latency_s=60)
    async with asking(transport) as asker:
        task = await hanging(asker)
        assert asker.client.is_on_wire(task)  # type: ignore[arg-type]
        await cancelled(task)
        assert_nothing_is_left(asker)
    assert transport.in_flight == 0


async def test_cancelled_while_waiting_to_retry() -> None:
    """Out of the back-off, with all given back."""
    sleeping = asyncio.Event()

    async def sleep(_: float) -> None:
        sleeping.set()
        await asyncio.sleep(60)

    async with asking(FakeTransport([busy()]), sleep=sleep) as asker:
        task = await hanging(asker)
        assert sleeping.is_set()
        await cancelled(task)
        assert_nothing_is_left(asker)


async def test_cancelled_while_its_answer_is_saved() -> None:
    """Whoever saves decides what became of it; the permit comes back."""

    async def save(_: Result) -> None:
        await asyncio.sleep(60)

    async with asking(FakeTransport([reply()])) as asker:
        task = asyncio.create_task(asker.ask(save=save))
        await settled()
        assert asker.pool.in_flight == 1
        await cancelled(task)
        assert_nothing_is_left(asker)


async def test_cancelled_at_any_step_leaves_nothing(red_image: str) -> None:
    """Step by step through a record that fails once and is then answered: at none does anything stay."""

    async def sleep(_: float) -> None:
        await asyncio.sleep(0)

    image = ImageRef("path", red_image)
    for steps in range(40):
        async with asking(FakeTransport([busy(), reply()]), max_workers=1, sleep=sleep) as asker:
            task = asyncio.create_task(asker.ask("x", image))
            for _ in range(steps):
                await asyncio.sleep(0 if steps < 30 else 0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert_nothing_is_left(asker)


# --- many at once ----------------------------------------------------------------------------------------


def test_faults_of_all_kinds_cost_no_record() -> None:
    """30 % random faults over 500 records: all answered in the end, or failed with all attempts used up."""
    rng = random.Random(11)
    faults: list[Callable[[], Any]] = [
        busy,
        lambda: reply(status=429, body=b"", headers={"Retry-After": str(rng.randint(0, 2))}),
        lambda: reply(status=500, body=b"<html>"),
        lambda: reply(body=b'{"choices":'),
        lambda: reply(body=b""),
        lambda: TransportError("reset", code="reset"),
        lambda: TransportError("timeout", code="timeout"),
    ]

    def answer(request: Request) -> Response:
        if rng.random() < 0.3:
            fault = rng.choice(faults)()
            if isinstance(fault, Exception):
                raise fault
            return fault
        return reply(asked(b"".join(request.body)))

    async def main() -> list[Result]:
        transport = FakeTransport(answer, latency_s=0.3)
        async with asking(transport, max_workers=32, sleep=asyncio.sleep) as asker:
            return await asyncio.gather(*(asker.ask(str(n)) for n in range(500)))

    results = in_virtual_time(main())
    assert all(result.text == result.id for result in results if result.ok)
    assert all(result.attempts == 8 for result in results if not result.ok)
    assert sum(result.ok for result in results) >= 498


def test_one_client_serves_many_records_that_retry_at_once() -> None:
    """Each keeps its own count of attempts and its own waits, however they interleave."""

    async def main() -> list[Result]:
        seen: Counter[str] = Counter()

        def answer(request: Request) -> Response:
            question = asked(b"".join(request.body))
            seen[question] += 1
            return reply(question) if seen[question] > int(question) % 5 else busy()

        transport = FakeTransport(answer, latency_s=0.01)
        async with asking(transport, max_workers=64, sleep=asyncio.sleep, max_outage=1e5) as asker:
            return await asyncio.gather(*(asker.ask(str(n)) for n in range(100)))

    results = in_virtual_time(main())
    assert [(result.ok, result.attempts) for result in results] == [(True, n % 5 + 1) for n in range(100)]


def test_time_in_the_client_is_the_loops_own() -> None:
    """A jump of the wall clock changes no wait: only dates in Retry-After are measured by it."""

    async def main() -> float:
        began = now()
        answers = [busy(**{"Retry-After": "3"}), reply()]
        async with asking(FakeTransport(answers), sleep=asyncio.sleep) as asker:
            original = time.time
            time.time = lambda: original() + 3600 * random.choice([-1, 1])
            try:
                assert (await asker.ask()).ok
            finally:
                time.time = original
        return now() - began

    assert 3.0 <= in_virtual_time(main()) <= 4.0


async def test_record_without_user_text_is_asked_as_it_stands() -> None:
    """Records made by hand go out as they are."""
    transport = FakeTransport([reply()])
    async with asking(transport, system_prompt="s") as asker:
        made = Record(
            "id", 0, {}, (Message("user", ("a",)), Message("assistant", ("b",)), Message("user", ("c",)))
        )
        assert (await asker.client.complete(made)).ok
    assert [m["content"] for m in transport.bodies()[0]["messages"]] == ["s", "a", "b", "c"]
