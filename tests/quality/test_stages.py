"""Generation, verification and review as one command: resumed, stopped, ended by a goal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image

import vqa_async
from vqa_async import Config, QAPair, open_engine
from vqa_async.cli.app import run_command
from vqa_async.engine import Engine
from vqa_async.engine.goal import Goal
from vqa_async.errors import InputError, JournalDamaged
from vqa_async.events import Event, RecordFinished
from vqa_async.keytable import RecordTable
from vqa_async.models import Failure, Record
from vqa_async.review import pairs_source, review
from vqa_async.sources.locations import folder_of
from vqa_async.stages import Stages, has_stages, verifying_config
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

GENERATED = (
    "- Q: What colour is it?\n  A: Red\n\n- Q: Is it round?\n  A: Yes\n\n- Q: Who?\n  A: I'm sorry, I can't."
)


def body_of(request: Request) -> Any:
    return orjson.loads(b"".join(request.body))


def text_of(request: Request) -> str:
    content = body_of(request)["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def answering(request: Request) -> Response:
    """Red is right, round is wrong."""
    asked = text_of(request)
    return reply({"What colour is it?": "It is red.", "Is it round?": "No."}.get(asked, GENERATED))


def written(folder: Path, count: int = 3) -> str:
    """An input of ``count`` records with an image each, in a folder of its own."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(count):
        Image.new("RGB", (8, 8 + number), (255, 0, 0)).save(folder / f"{number}.png")
        rows.append({"id": f"r{number}", "image": [f"{number}.png"], "conversation": f"Ask {number}."})
    path = folder / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config_of(**options: Any) -> Config:
    return Config.of(base_url="http://h/v1", model="m", max_workers=2, **options)


def stages_of(transport: FakeTransport, **options: Any) -> Stages:
    return Stages(config_of(**options), open_engine, transport=transport)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_flags_stand_on_the_pairs_that_have_some(tmp_path: Path) -> None:
    """Others look as they always did."""
    transport = FakeTransport(answering)
    async with open_engine(config_of(), transport=transport) as engine:
        await engine.run(written(tmp_path, 1), str(tmp_path / "out.jsonl"))
    (line,) = lines_of(tmp_path / "out.jsonl")
    assert line["qa_pairs"] == [
        {"question": "What colour is it?", "answer": "Red"},
        {"question": "Is it round?", "answer": "Yes"},
        {"question": "Who?", "answer": "I'm sorry, I can't.", "flags": ["refusal"]},
    ]


async def test_each_pair_without_flags_is_verified_once_with_its_image(tmp_path: Path) -> None:
    """The second command asks nothing; what disagrees is dropped, and why is counted."""
    transport = FakeTransport(answering)
    input, output = written(tmp_path / "data"), str(tmp_path / "out.jsonl")
    summary = await stages_of(transport, verify=True).run(input, output)
    assert summary.ok
    assert summary.verification is not None
    assert summary.verification.statistics.succeeded == 6
    asked = [body for body in transport.bodies() if "Ask" not in body["messages"][-1]["content"][-1]["text"]]
    assert len(asked) == 6
    assert all(body["messages"][-1]["content"][0]["type"] == "image_url" for body in asked)
    assert "as few words" in asked[0]["messages"][0]["content"]
    checks = lines_of(tmp_path / "out.checks.jsonl")
    assert sorted((line["record"], line["pair"], line["agreement"]) for line in checks) == [
        (f"r{number}", pair, float(pair == 1)) for number in range(3) for pair in (1, 2)
    ]
    assert not any("image" in line for line in checks)
    assert summary.review is not None
    assert (summary.review.accepted, summary.review.kept, summary.review.verified) == (3, 3, 6)
    assert summary.review.reasons == {"disagreement": 3, "refusal": 3}
    sent = len(transport.requests)
    again = await stages_of(transport, verify=True).run(input, output)
    assert again.ok
    assert len(transport.requests) == sent
    assert again.review == summary.review


async def test_a_stop_between_the_stages_pays_nothing_twice(tmp_path: Path) -> None:
    """Stage by stage, and record by record within one, the same command goes on."""
    transport = FakeTransport(answering)
    input, output = written(tmp_path), str(tmp_path / "out.jsonl")
    async with open_engine(config_of(), transport=transport) as engine:
        await engine.run(input, output)  # killed here, before the second stage
    first = await stages_of(transport, verify=True, max_requests=2).verify(output)
    assert first.state == "stopped"
    summary = await stages_of(transport, verify=True).run(input, output)
    assert summary.ok
    assert len(transport.requests) == 3 + 6
    assert len(lines_of(tmp_path / "out.checks.jsonl")) == 6


async def test_an_edited_pair_is_verified_again(tmp_path: Path) -> None:
    """Its old score does not count for it."""
    transport = FakeTransport(answering)
    input, output = written(tmp_path, 1), tmp_path / "out.jsonl"
    await stages_of(transport, verify=True).run(input, str(output))
    output.unlink()
    changed = FakeTransport(
        lambda request: (
            reply(text_of(request)) if "Ask" not in text_of(request) else reply("Q: Is it red?\nA: Yes")
        )
    )
    summary = await stages_of(changed, verify=True).run(input, str(output))
    assert [text_of(request) for request in changed.requests] == ["Ask 0.", "Is it red?"]
    assert summary.review is not None
    assert summary.review.verified == 1


async def test_a_judge_is_another_model_at_another_address(tmp_path: Path) -> None:
    """It is told the answer, and its mark is the score; what it does not say is unknown."""
    marks = iter(['{"score": 2}', "Hm."])

    def judged(request: Request) -> Response:
        return reply(GENERATED if "Ask" in text_of(request) else next(marks))

    transport = FakeTransport(judged)
    summary = await stages_of(
        transport, verify=True, verify_mode="judge", verify_model="j", verify_base_url="http://j/v1"
    ).run(written(tmp_path, 1), str(tmp_path / "out.jsonl"))
    asked = transport.requests[-1]
    assert asked.url.startswith("http://j/v1")
    assert body_of(asked)["model"] == "j"
    assert "Answer: " in text_of(asked)
    assert sorted(str(line["agreement"]) for line in lines_of(tmp_path / "out.checks.jsonl")) == [
        "0.25",
        "None",
    ]
    assert summary.review is not None
    assert summary.review.reasons["disagreement"] == 1
    assert summary.review.verified == 1


async def test_enough_accepted_records_end_the_run(tmp_path: Path) -> None:
    """With at most as many more as were in flight; the same command then asks nothing."""
    transport = FakeTransport(answering)
    input, output = written(tmp_path, 12), str(tmp_path / "out.jsonl")
    summary = await stages_of(transport, accept=4).run(input, output)
    assert summary.ok
    assert "--accept" in summary.reason
    assert 4 <= len(lines_of(tmp_path / "out.jsonl")) == len(transport.requests) <= 4 + 2
    sent = len(transport.requests)
    assert (await stages_of(transport, accept=4).run(input, output)).ok
    assert len(transport.requests) == sent


async def test_what_verification_drops_is_made_good_by_more_records(tmp_path: Path) -> None:
    """Generation and verification take turns until enough is left, or the input is used up."""

    def half(request: Request) -> Response:
        asked = text_of(request)
        if asked.startswith("Ask"):
            return reply(f"Q: Is number {asked[4:-1]} even?\nA: Yes")
        return reply("Yes" if int(asked.split()[2]) % 2 == 0 else "No")

    transport = FakeTransport(half)
    input, output = written(tmp_path, 12), str(tmp_path / "out.jsonl")
    summary = await stages_of(transport, accept=4, verify=True).run(input, output)
    assert summary.review is not None
    assert summary.review.accepted >= 4
    assert len(lines_of(tmp_path / "out.jsonl")) < 12
    summary = await stages_of(transport, accept=9, verify=True).run(input, output)
    assert summary.ok
    assert summary.review is not None
    assert (summary.review.records, summary.review.accepted) == (12, 6)


async def test_a_stopped_stage_is_not_followed_by_another(tmp_path: Path) -> None:
    """Whatever it was that stopped: the summary says that something is left to do."""
    transport = FakeTransport(answering, latency_s=0.01)
    stages: list[Stages] = []

    class Stopper:
        def on_event(self, event: Event) -> None:
            if isinstance(event, RecordFinished) and event.result.id == "r2":
                stages[0].stop("Interrupted by TEST")

    stages.append(Stages(config_of(verify=True), open_engine, transport=transport, observer=Stopper()))
    assert not stages[0].is_running
    summary = await stages[0].run(written(tmp_path), str(tmp_path / "out.jsonl"))
    assert stages[0].is_running
    assert summary.state == "interrupted"
    assert summary.verification is None
    assert not (tmp_path / "out.checks.jsonl").exists()


async def test_a_stop_while_a_stage_is_opened_reaches_it(tmp_path: Path) -> None:
    """Nothing is sent any more, by this stage or a later one."""
    transport = FakeTransport(answering)
    stages = stages_of(transport)
    stages.stop("Interrupted by TEST")
    summary = await stages.run(written(tmp_path), str(tmp_path / "out.jsonl"))
    assert summary.state == "interrupted"
    assert not transport.requests


async def test_abort_ends_the_stage_that_runs(tmp_path: Path, no_leaks: Callable[[], None]) -> None:
    """Requests in flight included; what was finished is kept."""
    transport = FakeTransport(answering, latency_s=60)
    stages = stages_of(transport, verify=True)
    stages.abort()
    stages = stages_of(transport, verify=True)
    task = asyncio.create_task(stages.run(written(tmp_path), str(tmp_path / "out.jsonl")))
    while not transport.in_flight:
        await asyncio.sleep(0)
    stages.abort()
    assert (await task).state == "interrupted"
    no_leaks()


async def test_pairs_whose_images_cannot_be_found_fail_alone(tmp_path: Path) -> None:
    """A conversation that no longer matches its images costs the pairs of its line."""
    transport = FakeTransport(answering)
    input, output = written(tmp_path, 2), tmp_path / "out.jsonl"
    async with open_engine(config_of(), transport=transport) as engine:
        await engine.run(input, str(output))
    (tmp_path / "0.png").unlink()
    summary = await stages_of(transport).verify(str(output))
    assert (summary.statistics.succeeded, summary.statistics.failed) == (2, 2)


async def test_an_output_that_is_not_there_or_damaged_is_refused(tmp_path: Path) -> None:
    """With what to do next; an unfinished end is passed over."""
    transport = FakeTransport(answering)
    output = tmp_path / "out.jsonl"
    with pytest.raises(InputError, match="no output"):
        await stages_of(transport).verify(str(output))
    async with open_engine(config_of(), transport=transport) as engine:
        await engine.run(written(tmp_path), str(output))
    whole = output.read_bytes()
    output.write_bytes(whole[:-20])
    assert (await stages_of(transport).verify(str(output))).statistics.succeeded == 4
    output.write_bytes(whole.replace(b"Red", b"Rad", 1))
    with pytest.raises(JournalDamaged, match="--repair"):
        await stages_of(transport).verify(str(output))
    output.write_bytes(whole)
    checks = tmp_path / "out.checks.jsonl"
    checks.write_bytes(checks.read_bytes().replace(b"agreement", b"agreemend", 1))
    with pytest.raises(JournalDamaged, match="verify --repair"):
        review(output)


def test_the_verifying_model_gets_its_own_settings_and_none_of_the_runs() -> None:
    """Several endpoints keep their addresses, and are asked for the verifying model."""
    config = Config.of(
        endpoints=[{"base_url": "http://a/v1", "model": "x"}, "http://b/v1"],
        model="m",
        prompt="Ask.",
        verify_model="v",
        verify_api_key_env="V_KEY",
        image_key="picture",
    )
    verifying = verifying_config(config)
    assert {(one.base_url, one.model, one.api_key_env) for one in verifying.all_endpoints()} == {
        ("http://a/v1", "v", "V_KEY"),
        ("http://b/v1", "v", "V_KEY"),
    }
    assert verifying.sampling.prompt == ""
    assert verifying.quality.chosen() == frozenset()
    plain = verifying_config(config_of())
    assert plain.model == "m"


def test_stages_are_only_for_who_asks_for_them() -> None:
    """A plain run is a plain run."""
    assert not has_stages(config_of())
    assert has_stages(config_of(verify=True))
    assert has_stages(config_of(accept=3))
    assert has_stages(config_of(checks="none"))


def test_a_goal_counts_records_with_a_pair_without_flags() -> None:
    """Failures and records of which nothing stays do not bring it nearer."""
    goal = Goal(-3, 5)
    assert goal.left == 0
    assert "5 records" in goal.reached()
    assert QAPair("a", "b") == QAPair("a", "b", ())


async def test_arun_has_the_stages_too(tmp_path: Path) -> None:
    """In Python the summary brings the verification and the review."""
    transport = FakeTransport(answering)
    summary = await vqa_async.arun(
        written(tmp_path, 1),
        str(tmp_path / "out.jsonl"),
        config=config_of(checks="all", verify=True),
        transport=transport,
    )
    assert summary.verification is not None
    assert summary.review is not None
    with pytest.raises(vqa_async.ConfigError, match="not both"):
        await vqa_async.arun("in", "out", config=config_of(), model="m")


async def test_a_stop_after_the_first_stage_leaves_the_second_for_the_next_command(tmp_path: Path) -> None:
    """All records are answered by then, and still the run is not done."""
    stages: list[Stages] = []

    @contextlib.asynccontextmanager
    async def stopped_at_its_end(_: Engine) -> AsyncIterator[None]:
        yield
        stages[0].stop("Interrupted by TEST")

    transport = FakeTransport(answering)
    stages.append(Stages(config_of(verify=True), open_engine, transport=transport, watch=stopped_at_its_end))
    summary = await stages[0].run(written(tmp_path), str(tmp_path / "out.jsonl"))
    assert (summary.statistics.succeeded, summary.state) == (3, "interrupted")
    assert summary.reason == "Interrupted by TEST"
    assert not (tmp_path / "out.checks.jsonl").exists()


async def test_pairs_find_their_images_by_the_columns_of_their_run(tmp_path: Path) -> None:
    """In the folder of its input; what is no image costs the pairs of its line, as their failures."""
    output = tmp_path / "out.jsonl"
    async with open_engine(config_of(), transport=FakeTransport(answering)) as engine:
        await engine.run(written(tmp_path, 1), str(output))

    async def records(**run: Any) -> list[Record | Failure]:
        source = pairs_source(output, run, mode="answer", known=RecordTable(), is_finished=lambda _: False)
        async with source:
            return [item async for item in source]

    found = await records(input=str(tmp_path / "in.jsonl"), settings={"conversation_key": "none"})
    assert [(item.folder, [i.value for i in item.images]) for item in found if isinstance(item, Record)] == [
        (str(tmp_path), ["0.png"])
    ] * 2
    assert {folder_of(str(tmp_path))} == {str(tmp_path)}
    assert {folder_of("-")} == {""}
    failures = await records(settings={"image_key": "_meta"})
    assert [type(item) for item in failures] == [Failure, Failure]
    output.unlink()
    output.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        await records()
    (tmp_path / "out.checks.jsonl").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        review(output)


async def test_a_record_of_which_nothing_stays_brings_no_goal_nearer(tmp_path: Path) -> None:
    """The input is used up, and that is the end of it."""
    transport = FakeTransport([reply("Q: Who?\nA: I'm sorry, I can't.")])
    summary = await stages_of(transport, accept=2).run(written(tmp_path), str(tmp_path / "out.jsonl"))
    assert summary.ok
    assert not summary.reason
    assert summary.review is not None
    assert summary.review.accepted == 0


async def test_an_export_leaves_out_what_verification_did_not_confirm(tmp_path: Path) -> None:
    """Together with what was flagged at once; and keeps all where it is not asked to."""
    out = tmp_path / "out.jsonl"
    await stages_of(FakeTransport(answering), verify=True).run(written(tmp_path, 1), str(out))
    kept = {}
    for name, options in {"all.jsonl": [], "some.jsonl": ["--drop-flagged"]}.items():
        command = ["export", str(out), "-o", str(tmp_path / name), *options]
        assert await asyncio.to_thread(run_command, command) == 0
        (line,) = lines_of(tmp_path / name)
        kept[name] = [pair["question"] for pair in line["qa_pairs"]]
    assert kept == {
        "all.jsonl": ["What colour is it?", "Is it round?", "Who?"],
        "some.jsonl": ["What colour is it?"],
    }
