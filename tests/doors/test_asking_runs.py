"""Whole runs that ask by styles, templates, parameters and lists of questions: sent, kept and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vqa_async import ConfigError, Failure, open_engine
from vqa_async.errors import SettingsChanged
from vqa_async.prompts import ANSWERING_SYSTEM_PROMPT, DEFAULT_SYSTEM_PROMPT
from vqa_async.server import running_server
from vqa_async.testing import FakeTransport, reply
from vqa_async.transport import Request, Response

ASK: dict[str, Any] = {"base_url": "http://h/v1", "model": "m"}


def echo(request: Request) -> Response:
    """The last text that was asked, as a plain answer."""
    return reply(f"About {asked(json.loads(b''.join(request.body)))}")


def asked(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def write(path: Path, *rows: dict[str, Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


async def run(tmp_path: Path, *rows: dict[str, Any], limit: int | None = None, **options: Any) -> list[Any]:
    """Run ``rows`` into the output of this test; gives the bodies that were sent."""
    transport = FakeTransport(echo)
    async with open_engine(**ASK, transport=transport, **options) as engine:
        source = write(tmp_path / "in.jsonl", *rows)
        summary = await engine.run(source, str(tmp_path / "out.jsonl"), limit=limit)
    assert summary.state == "finished"
    return transport.bodies()


async def test_a_list_of_questions_becomes_lines_that_can_be_put_together_again(tmp_path: Path) -> None:
    """One request each, the row in each line unchanged, its question beside its answer."""
    row = {"id": "p", "questions": ["Who?", "What?", "Where?"], "split": "train"}
    bodies = await run(tmp_path, row, {"id": "q", "conversation": "Why?"})
    assert sorted(map(asked, bodies)) == ["What?", "Where?", "Who?", "Why?"]
    systems = {asked(body): body["messages"][0]["content"] for body in bodies}
    assert systems["Who?"] == systems["Where?"] == ANSWERING_SYSTEM_PROMPT
    assert systems["Why?"] == DEFAULT_SYSTEM_PROMPT
    found = [line for line in lines(tmp_path / "out.jsonl") if "group" in line["_meta"]]
    found.sort(key=lambda line: line["_meta"]["group"]["number"])
    assert [line["_meta"]["group"] for line in found] == [
        {"id": "p", "number": n, "of": 3} for n in (1, 2, 3)
    ]
    assert [line["_meta"]["question"] for line in found] == row["questions"]
    assert [line["qa_pairs"] for line in found] == [
        [{"question": text, "answer": f"About {text}"}] for text in row["questions"]
    ]
    for line in found:
        assert {name: line[name] for name in row} == row
        assert line["_meta"]["index"] == 0


async def test_a_run_that_is_resumed_asks_only_what_is_new(tmp_path: Path) -> None:
    """A limit takes whole rows; questions put in between are asked, those answered before are not."""
    row = {"id": "p", "questions": ["Who?", "What?"]}
    assert len(await run(tmp_path, row, {"id": "q", "questions": ["Why?"]}, limit=1)) == 2
    assert [*map(asked, await run(tmp_path, row, {"id": "q", "questions": ["Why?"]}))] == ["Why?"]
    more = {"id": "p", "questions": ["Who?", "Whose?", "What?"]}
    assert [*map(asked, await run(tmp_path, {"id": "q", "questions": ["Why?"]}, more))] == ["Whose?"]
    answers = {line["_meta"]["question"]: line["vqa"] for line in lines(tmp_path / "out.jsonl")}
    assert answers == {text: f"About {text}" for text in ("Who?", "What?", "Why?", "Whose?")}


async def test_a_question_that_fails_costs_no_other(tmp_path: Path) -> None:
    """It is a line among the failures, with its group, and is asked again alone."""
    row = {"id": "p", "questions": ["Who?", "Bad?"]}
    source, out = write(tmp_path / "in.jsonl", row), str(tmp_path / "out.jsonl")

    def refusing(request: Request) -> Response:
        bad = asked(json.loads(b"".join(request.body))) == "Bad?"
        return reply(status=400, body=b'{"error":{"message":"no"}}') if bad else echo(request)

    async with open_engine(**ASK, transport=FakeTransport(refusing)) as engine:
        await engine.run(source, out)
    (failure,) = lines(tmp_path / "out.failures.jsonl")
    assert failure["_meta"]["group"] == {"id": "p", "number": 2, "of": 2}
    assert failure["_meta"]["question"] == "Bad?"
    assert failure["questions"] == row["questions"]
    transport = FakeTransport(echo)
    async with open_engine(**ASK, transport=transport, retry_failed=True) as engine:
        await engine.run(source, out)
    assert [*map(asked, transport.bodies())] == ["Bad?"]
    assert not (tmp_path / "out.failures.jsonl").exists()


async def test_the_image_of_a_list_is_prepared_once(tmp_path: Path, red_image: str) -> None:
    """Against the real endpoint, which decodes what it is sent; its pairs are kept as it writes them."""
    row = {"image": red_image, "questions": [f"Question {n}?" for n in range(10)]}
    async with (
        running_server() as server,
        open_engine(base_url=server.base_url, model="looks-1", max_workers=1) as engine,
    ):
        summary = await engine.run(write(tmp_path / "in.jsonl", row), str(tmp_path / "out.jsonl"))
        assert engine.image_statistics().encodes == 1
    assert summary.statistics.succeeded == 10
    first = lines(tmp_path / "out.jsonl")[0]
    assert len(first["qa_pairs"]) > 1  # it answers in the guide's form, whatever it is asked


async def test_parameters_of_a_row_are_sent_with_it_alone(tmp_path: Path) -> None:
    """In place of those of the run; null leaves one to the endpoint."""
    ask = {"conversation": "Why?"}
    rows = [ask, {**ask, "_params": {"temperature": 0, "seed": None, "stop": ["."]}}, {**ask, "_params": 3}]
    plain, own = await run(tmp_path, *rows, temperature=1, seed=7, max_workers=1)
    assert (plain["temperature"], plain["seed"]) == (1, 7)
    assert "stop" not in plain
    assert (own["temperature"], own["stop"]) == (0, ["."])
    assert "seed" not in own
    assert [line["error"]["code"] for line in lines(tmp_path / "out.failures.jsonl")] == ["bad_params"]
    assert lines(tmp_path / "out.jsonl")[1]["_params"] == rows[1]["_params"]


async def test_a_style_is_asked_for_and_noted(tmp_path: Path) -> None:
    """Mixed ones by the id, so that a second run would choose the same."""
    rows = [{"id": f"r{n}", "conversation": "Why?"} for n in range(30)]
    bodies = await run(tmp_path, *rows, style="mixed", pairs=2)
    assert all("exactly 2" in body["messages"][0]["content"] for body in bodies)
    assert len({body["messages"][0]["content"] for body in bodies}) > 3
    before = {line["id"]: line["_meta"]["style"] for line in lines(tmp_path / "out.jsonl")}
    assert len(set(before.values())) > 3
    for path in tmp_path.glob("out*"):
        path.unlink()
    await run(tmp_path, *reversed(rows), style="mixed", pairs=2)
    assert {line["id"]: line["_meta"]["style"] for line in lines(tmp_path / "out.jsonl")} == before


async def test_without_a_style_nothing_is_noted(tmp_path: Path) -> None:
    """Lines of plain runs are as they were."""
    (body,) = await run(tmp_path, {"conversation": "Why?"})
    assert body["messages"][0] == {"role": "system", "content": DEFAULT_SYSTEM_PROMPT}
    assert not {"style", "group", "question"} & lines(tmp_path / "out.jsonl")[0]["_meta"].keys()


async def test_a_template_is_sent_and_never_read_again(tmp_path: Path) -> None:
    """What a row holds is text, though it look like a template; a row it does not fit fails alone."""
    rows = [{"a": "{{ 7 * 6 }}"}, {"b": 1}, {"a": "y"}]
    bodies = await run(
        tmp_path, *rows, prompt_template="What is {{ a }}?", system_template="Of {{ a }}.", max_workers=1
    )
    assert [*map(asked, bodies)] == ["What is {{ 7 * 6 }}?", "What is y?"]
    assert bodies[0]["messages"][0]["content"] == "Of {{ 7 * 6 }}."
    (failure,) = lines(tmp_path / "out.failures.jsonl")
    assert failure["error"]["code"] == "template"


@pytest.mark.parametrize(
    ("template", "word"), [("{{ colour }}", "'color'"), ("{{ ''.__class__ }}", "first row")]
)
async def test_a_template_that_cannot_work_ends_the_run_before_the_first_request(
    tmp_path: Path, template: str, word: str
) -> None:
    """With one sentence; nothing is spent."""
    transport = FakeTransport(echo)
    source = write(tmp_path / "in.jsonl", {"color": "red"})
    async with open_engine(**ASK, transport=transport, prompt_template=template) as engine:
        with pytest.raises(ConfigError, match=word):
            await engine.run(source, str(tmp_path / "out.jsonl"))
    assert not transport.requests


async def test_what_is_no_template_is_refused_when_the_engine_is_opened() -> None:
    """And so is a domain that there is not."""
    for options in ({"prompt_template": "{{"}, {"domain": "cooking"}):
        with pytest.raises(ConfigError):
            async with open_engine(**ASK, transport=FakeTransport(echo), **options):
                pass


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"style": "ocr"}, "style"),
        ({"pairs": 3}, "pairs"),
        ({"language": "German"}, "language"),
        ({"domain": "charts"}, "domain"),
        ({"prompt_template": "Who?"}, "prompt_template"),
        ({"system_template": "Hm."}, "system_template"),
        ({"questions_key": "asks"}, "questions_key"),
    ],
)
async def test_answers_to_other_questions_are_not_mixed(
    tmp_path: Path, options: dict[str, Any], name: str
) -> None:
    """What changes what is asked is compared with the run before, templates by their text."""
    row = {"id": "r", "conversation": "Why?"}
    await run(tmp_path, row)
    with pytest.raises(SettingsChanged, match=name):
        await run(tmp_path, row, **options)


async def test_single_records_are_asked_the_same_way() -> None:
    """By generate and stream; a row of several questions has no single answer."""
    transport = FakeTransport(echo)
    async with open_engine(**ASK, transport=transport, prompt_template="{{ a }}?") as engine:
        assert (await engine.generate({"a": "x"})).ok
        missing = await engine.generate({"b": "x"})
        assert isinstance(missing, Failure)
        assert missing.error.code == "template"
    async with open_engine(**ASK, transport=transport) as engine:
        only = await engine.generate({"questions": ["Who?"]})
        assert [(pair.question, pair.answer) for pair in only.pairs] == [("Who?", "About Who?")]  # type: ignore[union-attr]
        for image in ("http://h/a.png", 3):
            two = await engine.generate({"image": image, "questions": ["Who?", "What?"]})
            assert isinstance(two, Failure)
            assert two.error.code == "several_questions"
        results = [result async for result in engine.stream([{"questions": ["Who?", "What?"]}])]
        assert len(results) == 2
