"""Runs that ask for structured answers: through the embedded endpoint, and with replies made for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from vqa_async import Config, Success, open_engine
from vqa_async.config import Limits
from vqa_async.errors import ConfigError, SettingsChanged
from vqa_async.events import Event, Notice
from vqa_async.models import AttemptFailed
from vqa_async.server import running_server
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

URL = "http://test.invalid/v1"
ROW = {"conversation": "What is there?"}
PAIRS = '{"qa_pairs": [{"question": "A?", "answer": "B"}]}'
TEXT = "- Q: A?\n  A: B"


class Scene(BaseModel):
    caption: str
    count: int
    tags: list[str]


class Watch:
    """Remembers events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        self.events.append(event)

    @property
    def notices(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Notice)]

    @property
    def failed(self) -> list[AttemptFailed]:
        return [event for event in self.events if isinstance(event, AttemptFailed)]


def written(folder: Path, count: int) -> str:
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps({"conversation": f"Question {n}?"}) + "\n" for n in range(count)))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cut_off(text: str) -> Response:
    return reply(text, finish_reason="length")


def refusal(message: str, status: int = 400) -> Response:
    return Response(status, {}, orjson.dumps({"error": {"message": message}}))


def kind_of(request: Request) -> str:
    body = orjson.loads(b"".join(request.body))
    return str(body.get("response_format", {"type": "words"})["type"])


# --- through the embedded endpoint ---------------------------------------------------------


async def test_pairs_are_asked_for_by_schema_and_kept_as_ever(tmp_path: Path) -> None:
    """The line has the guide's text form and the pairs, and nothing more."""
    output = tmp_path / "out.jsonl"
    async with (
        running_server() as server,
        open_engine(base_url=server.base_url, model="looks-1", structured=True) as engine,
    ):
        summary = await engine.run(written(tmp_path, 5), str(output))
        assert server.stats().received == 5
    assert summary.ok
    for line in lines(output):
        assert line["vqa"].startswith("- Q: How many images were sent?\n  A: None")
        assert len(line["qa_pairs"]) == 2
        assert "structured" not in line


@pytest.mark.parametrize(("refused", "most"), [("json_schema", 1), ("all", 2)])
async def test_an_endpoint_that_refuses_a_form_is_asked_in_another(
    tmp_path: Path, refused: Any, most: int
) -> None:
    """Only the first requests pay; it is said once, and is no failed attempt of any record."""
    watch, output = Watch(), tmp_path / "out.jsonl"
    options: dict[str, Any] = {"structured": True, "max_workers": 1, "schema": Scene}
    async with (
        running_server(refuse_response_format=refused) as server,
        open_engine(base_url=server.base_url, model="looks-1", observer=watch, **options) as engine,
    ):
        summary = await engine.run(written(tmp_path, 20), str(output))
        assert server.stats().received == 20 + most
    assert summary.ok
    assert (summary.statistics.retries, summary.statistics.requests) == (0, 20 + most)
    assert {line["_meta"]["attempts"] for line in lines(output)} == {1}
    assert len(watch.notices) == most
    assert all("does not take a response_format" in notice for notice in watch.notices)
    Scene.model_validate(lines(output)[0]["structured"])


async def test_the_first_requests_are_those_in_flight(tmp_path: Path) -> None:
    """A form is tried once by each of them at most, also where many begin at once."""
    async with (
        running_server(refuse_response_format="all", latency=0.01) as server,
        open_engine(base_url=server.base_url, model="looks-1", structured=True, max_workers=8) as engine,
    ):
        summary = await engine.run(written(tmp_path, 100), str(tmp_path / "out.jsonl"))
        assert 102 <= server.stats().received <= 116
    assert summary.ok


@pytest.mark.parametrize("rate", [0.5, 1.0])
async def test_an_answer_that_does_not_fit_is_asked_for_again(tmp_path: Path, rate: float) -> None:
    """Every record is answered; what both answers took is summed, and attempts are counted."""
    output = tmp_path / "out.jsonl"
    async with (
        running_server(wrong_json_rate=rate) as server,
        open_engine(base_url=server.base_url, model="looks-1", schema=Scene) as engine,
    ):
        summary = await engine.run(written(tmp_path, 20), str(output))
        received = server.stats().received
    assert summary.ok
    assert received == sum(line["_meta"]["attempts"] for line in lines(output))
    assert received == 20 + summary.statistics.retries > 20
    assert all(Scene.model_validate(line["structured"]) for line in lines(output))
    spent = [line["_meta"]["usage"]["prompt_tokens"] for line in lines(output)]
    assert (max(spent) > 2 * min(spent)) == (rate < 1)


async def test_a_resumed_run_must_ask_by_the_same_schema(tmp_path: Path) -> None:
    """The schema itself is among the settings, wherever it came from."""
    source, output = written(tmp_path, 1), str(tmp_path / "out.jsonl")
    async with running_server() as server:
        address = {"base_url": server.base_url, "model": "looks-1"}
        for options in ({"structured": True}, {"structured": True, "reasks": 3}):
            async with open_engine(**address, **options) as engine:  # type: ignore[arg-type]
                assert (await engine.run(source, output)).ok
        async with open_engine(**address, schema=Scene) as engine:  # type: ignore[arg-type]
            with pytest.raises(SettingsChanged, match="schema"):
                await engine.run(source, output)


async def test_cut_off_answers_are_asked_for_with_more_room(tmp_path: Path) -> None:
    """Twice as much, again and again, up to what is allowed."""
    output = tmp_path / "out.jsonl"
    options = {"max_tokens": 4, "max_tokens_ceiling": 1000, "structured": True}
    async with (
        running_server() as server,
        open_engine(base_url=server.base_url, model="looks-1", **options) as engine,  # type: ignore[arg-type]
    ):
        summary = await engine.run(written(tmp_path, 3), str(output))
    assert summary.ok
    assert summary.statistics.truncated == 0
    assert {line["_meta"]["finish_reason"] for line in lines(output)} == {"stop"}
    assert min(line["_meta"]["attempts"] for line in lines(output)) > 3


# --- the forms of requests ---------------------------------------------------------


def by_form(taken: str, message: str) -> Callable[[Request], Response]:
    return lambda request: reply(PAIRS) if kind_of(request) == taken else refusal(message)


async def test_each_form_says_what_the_others_say() -> None:
    """A schema in the parameters; or in the words below the question, in the place of the last user turn."""
    transport = FakeTransport(by_form("words", "response_format is unknown"))
    row = {
        "conversation": [
            {"from": "human", "value": "One?"},
            {"from": "gpt", "value": "1"},
            {"from": "human", "value": "Two?"},
        ]
    }
    async with open_engine(base_url=URL, model="m", transport=transport, structured=True) as engine:
        result = await engine.generate({**row, "image": "http://example.com/a.png"})
        assert isinstance(result, Success)
        assert (result.text, result.structured, result.attempts) == (TEXT, None, 1)
        assert (await engine.generate(row)).ok
    bodies = transport.bodies()
    assert [body.get("response_format", {}).get("type") for body in bodies] == [
        "json_schema",
        "json_object",
        None,
        None,
    ]
    assert bodies[0]["response_format"]["json_schema"]["strict"] is True
    parts = [body["messages"][-1]["content"] for body in bodies]
    assert not any("schema" in part.get("text", "") for part in parts[0])
    for part in (parts[1][-1]["text"], parts[2][-1]["text"], parts[3]):
        assert part.startswith("Two?\n\nAnswer with JSON only")
    assert len({request.headers["Idempotency-Key"] for request in transport.requests}) == 4


async def test_a_vague_refusal_counts_for_others_once_it_is_proven() -> None:
    """The record's own other form was answered; else nobody would learn from it."""
    watch = Watch()
    transport = FakeTransport(by_form("words", "Extra inputs are not permitted"))
    options: dict[str, Any] = {"structured": True, "observer": watch}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        assert (await engine.generate(ROW)).ok
        assert (await engine.generate(ROW)).ok
    assert [kind_of(request) for request in transport.requests] == [
        "json_schema",
        "json_object",
        "words",
        "words",
    ]
    assert len(watch.notices) == 1


async def test_a_record_that_is_refused_in_every_form_changes_nothing_for_others() -> None:
    """It may have been to blame."""
    watch = Watch()
    transport = FakeTransport(
        lambda request: refusal("not supported") if b"Bad" in b"".join(request.body) else reply(PAIRS)
    )
    options: dict[str, Any] = {"structured": True, "observer": watch}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        bad = await engine.generate({"conversation": "Bad?"})
        assert (await engine.generate(ROW)).ok
    assert not bad.ok
    assert bad.error.code == "rejected"
    assert kind_of(transport.requests[-1]) == "json_schema"
    assert watch.notices == []


async def test_endpoints_are_asked_in_the_form_that_each_takes() -> None:
    """One of two knows schemas."""

    def answer(request: Request) -> Response:
        if "//old." in request.url and kind_of(request) != "words":
            return refusal("guided decoding is off", 422)
        return reply(PAIRS)

    transport = FakeTransport(answer, latency_s=0.001)
    urls = ("http://old.invalid/v1", "http://new.invalid/v1")
    async with open_engine(base_url=urls, model="m", transport=transport, structured=True) as engine:
        results = [r async for r in engine.stream([{"conversation": f"{n}?"} for n in range(60)])]
    assert all(result.ok for result in results)
    late = [(r.url.split(".")[0], kind_of(r)) for r in transport.requests[30:]]
    assert set(late) == {("http://old", "words"), ("http://new", "json_schema")}


async def test_parameters_of_a_record_do_not_change_the_form() -> None:
    """They are its own otherwise."""
    transport = FakeTransport([reply(PAIRS)])
    async with open_engine(base_url=URL, model="m", transport=transport, structured=True) as engine:
        row = {**ROW, "_params": {"temperature": 0.5, "response_format": {"type": "text"}}}
        assert (await engine.generate(row)).ok
    (body,) = transport.bodies()
    assert body["temperature"] == 0.5
    assert body["response_format"]["type"] == "json_schema"


# --- asking again ---------------------------------------------------------


async def test_the_reason_is_told_with_the_answer() -> None:
    """Two turns are added; only the last answer is shown."""
    watch = Watch()
    transport = FakeTransport([reply('{"count": "many"}'), reply(" "), reply("{}"), reply('{"count": 3}')])
    schema = {"type": "object", "properties": {"count": {"type": "integer"}}, "required": ["count"]}
    options: dict[str, Any] = {"schema": schema, "reasks": 2, "observer": watch, "backoff_base": 0.0}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        first = await engine.generate(ROW)
        result = await engine.generate(ROW)
    assert not first.ok  # an empty answer is none, and no reason is given for that
    assert first.attempts == 2
    assert isinstance(result, Success)
    assert (result.structured, result.attempts, result.text) == ({"count": 3}, 2, '{"count": 3}')
    assert result.completion.usage.prompt_tokens == 20
    turns = transport.bodies()[-1]["messages"]
    assert [turn["role"] for turn in turns] == ["system", "user", "assistant", "user"]
    assert turns[-2]["content"] == "{}"
    assert turns[-1]["content"].startswith(
        "That answer cannot be used: at $: 'count' is a required property."
    )
    assert [event.error.code for event in watch.failed] == ["invalid_structure", "invalid_structure"]
    assert watch.failed[0].wait_s == 0


@pytest.mark.parametrize("reasks", [0, 1, 3])
async def test_an_answer_that_never_fits_is_a_failure(tmp_path: Path, reasks: int) -> None:
    """After so many more; nothing of it is saved, and the next run may try again."""
    transport = FakeTransport([reply("I see a cat.")])
    options: dict[str, Any] = {"structured": True, "reasks": reasks}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        summary = await engine.run(written(tmp_path, 2), str(tmp_path / "out.jsonl"))
    assert len(transport.requests) == 2 * (1 + reasks)
    assert summary.statistics.failures_by_type == {"invalid_structure": 2}
    assert summary.statistics.failed_retryable == 2
    assert lines(tmp_path / "out.jsonl") == []
    (failure, _) = lines(tmp_path / "out.failures.jsonl")
    assert failure["error"]["endpoint"] == URL
    assert failure["error"]["attempts"] == 1 + reasks
    assert "no question-answer pairs" in failure["error"]["message"]


async def test_asking_again_must_fit_the_budget(tmp_path: Path) -> None:
    """The record stays open where it does not."""
    transport = FakeTransport([reply("I see a cat.")])
    options: dict[str, Any] = {"structured": True, "max_requests": 1}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        summary = await engine.run(written(tmp_path, 1), str(tmp_path / "out.jsonl"))
    assert summary.state == "stopped"
    assert "--max-requests" in summary.reason
    assert (summary.statistics.requests, summary.statistics.failed) == (1, 0)


async def test_a_run_that_stops_asks_no_more(tmp_path: Path) -> None:
    """The record is left for the next run, not failed."""

    def answer(request: Request) -> Response:
        engine.stop()
        return reply("I see a cat.")

    transport = FakeTransport(answer)
    async with open_engine(base_url=URL, model="m", transport=transport, structured=True) as engine:
        summary = await engine.run(written(tmp_path, 1), str(tmp_path / "out.jsonl"))
    assert (summary.state, len(transport.requests)) == ("interrupted", 1)
    assert not (tmp_path / "out.failures.jsonl").exists() or not lines(tmp_path / "out.failures.jsonl")


async def test_hedged_requests_ask_and_ask_again_alike(tmp_path: Path) -> None:
    """Whichever of two answers came first."""
    options: dict[str, Any] = {"structured": True, "hedge": "p50", "max_workers": 8}
    async with (
        running_server(wrong_json_rate=0.5, refuse_response_format="json_schema", latency=0.01) as server,
        open_engine(base_url=server.base_url, model="looks-1", **options) as engine,
    ):
        summary = await engine.run(written(tmp_path, 60), str(tmp_path / "out.jsonl"))
    assert summary.ok
    assert summary.statistics.succeeded == 60


# --- answers that are cut off ---------------------------------------------------------


def rooms(transport: FakeTransport, name: str = "max_tokens") -> list[int | None]:
    return [body.get(name) for body in transport.bodies()]


async def test_room_is_doubled_up_to_the_ceiling() -> None:
    """What is cut off there is kept as it is, and marked; all that it took is counted."""
    transport = FakeTransport([cut_off("- Q: A?\n  A: Half an ans")])
    options: dict[str, Any] = {"max_tokens": 100, "max_tokens_ceiling": 300}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        result = await engine.generate(ROW)
    assert rooms(transport) == [100, 200, 300]
    assert isinstance(result, Success)
    assert (result.completion.finish_reason, result.completion.usage.prompt_tokens) == ("length", 30)
    assert result.pairs[0].answer == "Half an ans"


async def test_room_follows_the_record_and_the_newer_name() -> None:
    """Where a record or the settings bound the length otherwise; 5 tokens were told where nothing does."""
    transport = FakeTransport([cut_off("Half"), reply("Whole."), cut_off("Half"), reply("Whole.")])
    options: dict[str, Any] = {"max_tokens_ceiling": 300}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        assert (await engine.generate({**ROW, "_params": {"max_completion_tokens": 40}})).ok
        assert (await engine.generate(ROW)).ok
    assert rooms(transport) == [None, None, None, 10]
    assert rooms(transport, "max_completion_tokens") == [40, 80, None, None]


async def test_an_answer_that_was_all_thought_gets_more_room() -> None:
    """A model that reasons may use up its tokens before it says a word."""
    transport = FakeTransport([cut_off(""), reply()])
    options: dict[str, Any] = {"max_tokens": 100, "max_tokens_ceiling": 300}
    async with open_engine(base_url=URL, model="m", transport=transport, **options) as engine:
        result = await engine.generate(ROW)
    assert rooms(transport) == [100, 200]
    assert isinstance(result, Success)
    assert result.completion.usage.prompt_tokens == 20


async def test_without_a_ceiling_cut_off_answers_are_kept_and_said(tmp_path: Path) -> None:
    """Marked in their lines, counted in the summary, told once."""
    watch = Watch()
    transport = FakeTransport([cut_off("Half an ans")])
    async with open_engine(base_url=URL, model="m", transport=transport, observer=watch) as engine:
        summary = await engine.run(written(tmp_path, 3), str(tmp_path / "out.jsonl"))
    assert summary.ok
    assert summary.statistics.truncated == 3
    assert [line["_meta"]["truncated"] for line in lines(tmp_path / "out.jsonl")] == [True] * 3
    (notice,) = watch.notices
    assert "--max-tokens-ceiling" in notice


@pytest.mark.parametrize(("text", "pairs"), [(PAIRS[:-2] + ', {"question": "C?", "answ', 1), (PAIRS[:20], 0)])
async def test_of_a_structured_answer_that_was_cut_off_whole_pairs_are_kept(text: str, pairs: int) -> None:
    """Where there are none it is a failure, at once: the same would be cut off again."""
    transport = FakeTransport([cut_off(text)])
    async with open_engine(base_url=URL, model="m", transport=transport, structured=True) as engine:
        result = await engine.generate(ROW)
    assert len(transport.requests) == 1
    if pairs:
        assert isinstance(result, Success)
        assert (result.text, result.completion.finish_reason) == (TEXT, "length")
    else:
        assert not result.ok
        assert result.error.code == "invalid_structure"
        assert "--max-tokens-ceiling" in result.error.message


# --- before anything is asked ---------------------------------------------------------


async def test_a_schema_that_cannot_be_used_is_refused_before_the_first_request() -> None:
    """By who opens an engine."""
    transport = FakeTransport([reply(PAIRS)])
    with pytest.raises(ConfigError, match="no valid JSON schema"):
        async with open_engine(base_url=URL, model="m", transport=transport, schema={"type": "objekt"}):
            pass
    assert transport.requests == []


async def test_plain_runs_ask_as_before() -> None:
    """No machinery, and not a byte more in the request."""
    transport = FakeTransport([reply()])
    async with open_engine(Config.of(base_url=URL, model="m"), transport=transport) as engine:
        assert (await engine.generate(ROW)).ok
        assert engine._client._reasks is None
    (body,) = transport.bodies()
    assert body.keys() == {"model", "messages"}
    assert Limits() == engine.config.limits
