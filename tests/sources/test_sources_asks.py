"""What else a row may ask: by templates, a column of prompts, parameters, a list of questions."""

import json

import pytest

from vqa_async.config import Columns, Prompting, Sampling
from vqa_async.errors import ConfigError
from vqa_async.models import Asked, Failure, Group, Record
from vqa_async.prompts import ANSWERING_SYSTEM_PROMPT, Asking
from vqa_async.sources import RowReader, open_source, rows_source

ROW = {"image": ["a.png"], "conversation": [{"from": "human", "value": "Why?"}]}


def reader(*, columns=None, prompt="", **prompting):
    asking = Asking(Sampling(prompt=prompt), Prompting(**prompting))
    return RowReader(Columns(**(columns or {})), asking=asking, clock=lambda: 1000.0)


def read(row, rows=None, **options):
    return (rows or reader(**options)).read(row, index=0, where="in.jsonl line 1")


def question(record):
    return record.messages[-1].parts[-1]


async def taken(rows, **options):
    async with rows_source(rows, Columns(), **options) as source:
        return [record async for record in source]


# --- templates, columns, styles ------------------------------------------------------------------------


def test_a_template_takes_the_place_of_a_rows_question():
    """Whether it has one or not; images stand before it, or where it says."""
    asked = {"prompt_template": "What is {{ thing | default('this') }}?"}
    assert question(read(ROW, **asked)) == "What is this?"
    record = read({"image": "a.png", "thing": "<image>"}, **asked)
    assert [type(part) is str for part in record.messages[0].parts] == [True, False, True]
    assert read({"thing": "it"}, **asked).asked is None


def test_the_id_follows_what_the_template_writes():
    """Two rows that ask the same are repeats; a row without an id that is asked otherwise is another."""
    rows = reader(prompt_template="{{ a }}?")
    one, two = read({"a": "x", "b": 1}, rows), read({"a": "y", "b": 1}, rows)
    again = read({"a": "x", "b": 2}, rows)
    assert one.id != two.id
    assert again.id == f"{one.id}-2"


def test_a_row_that_a_template_does_not_fit_fails_alone():
    """With its place, and an id by which it is known the next time."""
    rows = reader(prompt_template="{{ a }}?")
    assert isinstance(read({"a": "x"}, rows), Record)
    failure = read({"b": "x", "id": "r2"}, rows)
    assert isinstance(failure, Failure)
    assert (failure.id, failure.error.code) == ("r2", "template")
    assert failure.error.message.startswith("in.jsonl line 1: --prompt-template")
    assert isinstance(read({"a": "z"}, rows), Record)


def test_the_first_row_decides_whether_a_template_can_work():
    """A line that is no row does not; a caller with single rows may leave the look out."""
    rows = reader(prompt_template="{{ a }}?")
    assert isinstance(read([], rows), Failure)
    with pytest.raises(ConfigError, match="'a'"):
        read({"b": 1}, rows)
    asking = Asking(None, Prompting(prompt_template="{{ a }}?"))
    assert isinstance(read({"b": 1}, RowReader(Columns(), asking=asking, check_columns=False)), Failure)


def test_a_column_may_hold_the_question():
    """Where there is no conversation; where it is empty, the question of the run is asked."""
    options = {"columns": {"prompt_key": "ask"}, "prompt": "What?"}
    assert question(read({"ask": "Who?"}, **options)) == "Who?"
    assert question(read(ROW | {"ask": "Who?"}, **options)) == "Why?"
    for empty in (None, "", "  "):
        assert question(read({"ask": empty}, **options)) == "What?"
    assert question(read({"ask": "Who?", "conversation": []}, **options)) == "Who?"
    failure = read({"ask": 3}, **options)
    assert (failure.error.code, "ask must be text" in failure.error.message) == ("bad_prompt", True)
    assert read({"ask": "Who?"}, **options).id == read({}, prompt="Who?").id


def test_a_style_is_noted_with_the_record():
    """One for all, or its own of mixed ones; a row that brings a system turn keeps that, and has none."""
    assert read(ROW).asked is None
    assert read(ROW, style="ocr").asked == Asked(style="ocr")
    mixed = read({**ROW, "id": "r1"}, style="mixed").asked
    assert mixed.style in mixed.system or len(mixed.system) > 100
    assert mixed == read({**ROW, "id": "r1", "more": 1}, style="mixed").asked
    own = {"conversation": [{"from": "system", "value": "Hm."}, {"from": "human", "value": "Why?"}]}
    assert read(own, style="ocr").asked is None


def test_a_template_of_the_system_prompt_is_written_for_each_row():
    """And fails for the row alone."""
    rows = reader(system_template="You see {{ place }}.")
    assert read({**ROW, "place": "Rome"}, rows).asked.system == "You see Rome."
    assert read(ROW, rows).error.code == "template"


# --- parameters ----------------------------------------------------------------------------------------


def test_parameters_of_a_row_count_for_its_id():
    """It asks something else with them; without any it is who it was."""
    plain = read(ROW).id
    record = read({**ROW, "_params": {"temperature": 0.2}})
    assert record.asked == Asked(params={"temperature": 0.2})
    assert record.id not in (plain, read({**ROW, "_params": {"temperature": 0.3}}).id)
    for nothing in (None, {}):
        assert read({**ROW, "_params": nothing}).id == plain
        assert read({**ROW, "_params": nothing}).asked is None


@pytest.mark.parametrize(
    ("params", "word"),
    [
        ("hot", "must be an object, not"),
        ([], "must be an object"),
        (0, "must be an object"),
        ({"model": "x"}, "may not set model"),
        ({"stream": True, "n": 2, "messages": []}, "may not set messages, n, stream"),
        ({"temperature": 3}, "temperature that is not a number from 0 to 2"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 0}, "max_tokens that is not a whole number"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"stop": ["x" * 100_000]}, "longer than"),
    ],
)
def test_parameters_that_cannot_be_sent_fail_the_row(params, word):
    """And say why."""
    failure = read({**ROW, "_params": params})
    assert isinstance(failure, Failure)
    assert failure.error.code == "bad_params"
    assert word in failure.error.message


# --- lists of questions --------------------------------------------------------------------------------


async def test_each_question_of_a_list_is_a_record():
    """In their order, with the row untouched, and the prompt of answers in place of that of pairs."""
    row = {"id": "p", "image": "a.png", "questions": ["Who?", {"question": "What?"}], "split": "train"}
    one, two = await taken([row])
    assert [question(one), question(two)] == ["Who?", "What?"]
    assert one.row is two.row is row
    assert (one.index, two.index) == (0, 0)
    assert one.asked.group == Group("p", 1, 2)
    assert two.asked == Asked(None, ANSWERING_SYSTEM_PROMPT, "", "What?", Group("p", 2, 2))
    assert one.images == two.images
    assert one.id.startswith("p/")
    assert len(one.id) == len("p/") + 12


async def test_a_question_keeps_its_id_when_others_come_before_it():
    """An answer stays with its question; one that was changed is asked again."""

    async def ids(*questions, **row):
        return [record.id for record in await taken([{"image": "a.png", "questions": [*questions], **row}])]

    for own in ({}, {"id": "p"}):
        who, what = await ids("Who?", "What?", **own)
        new, *rest = await ids("New?", "Who?", "What?", **own)
        assert rest == [who, what]
        assert new not in rest
        assert await ids("What?", "Who?", **own) == [what, who]
        assert (await ids("Who, then?", "What?", **own))[0] != who
        assert (await ids("Who?", **own, _params={"seed": 1}))[0] != who
        assert (await ids({"question": "Who?", "_params": {"seed": 1}}, **own))[0] != who
        assert await ids("Who?", "Who?", **own) == [who, f"{who}-2"]
    assert await ids({"question": "Who?", "id": "w"}, {"question": "What?", "id": 7}, id="p") == [
        "p/w",
        "p/7",
    ]


async def test_ids_that_a_list_gives_twice_to_different_questions_are_refused():
    """Resuming could not tell them apart."""
    questions = [{"question": "Who?", "id": "w"}, {"question": "What?", "id": "w"}]
    one, two = await taken([{"id": "p", "questions": questions}])
    assert isinstance(one, Record)
    assert (two.error.code, two.record.asked.group) == ("duplicate_id", Group("p", 2, 2))


async def test_rows_about_the_same_image_have_lists_of_their_own():
    """Without ids they are told apart as repeats are; with the same id and other questions, refused."""
    rows = [{"image": "a.png", "questions": ["Who?"]}, {"image": "a.png", "questions": ["Who?", "What?"]}]
    found = await taken(rows)
    assert len({record.id for record in found}) == 3
    assert len({record.asked.group.id for record in found}) == 2
    *_, failure = await taken([{"id": "p", **row} for row in rows])
    assert failure.error.code == "duplicate_id"


async def test_parameters_of_a_question_go_before_those_of_its_row():
    """And both before those of the run; a bad one costs its question alone."""
    questions = [
        {"question": "Who?", "_params": {"seed": 2}},
        {"question": "What?", "_params": "x"},
        {"question": "Where?", "_params": {"n": 2}},
        "Why?",
    ]
    row = {"questions": questions, "_params": {"seed": 1, "temperature": 0}}
    one, two, three, four = await taken([row])
    assert one.asked.params == {"seed": 2, "temperature": 0}
    assert four.asked.params == {"seed": 1, "temperature": 0}
    assert [two.error.code, three.error.code] == ["bad_params"] * 2
    assert two.error.message.startswith("record 0, question 2: ")
    assert two.record.asked == Asked(question="What?", group=Group(two.record.asked.group.id, 2, 4))
    assert [r.error.code for r in await taken([{**row, "_params": 3}])] == ["bad_params"] * 4


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("Who?", "must be a list of questions"),
        ({"question": "Who?"}, "must be a list"),
        (0, "must be a list"),
        (["Who?", 3], "questions[1] must be a text or an object"),
        ([" "], "questions[0] is empty"),
        ([{"question": None}], "questions[0].question must be text"),
        ([{"question": "Who?", "answer": "I"}], "has 'answer', but a question has"),
        ([{"question": "Who?", "id": True}], "questions[0].id must be"),
        (["?"] * 10_001, "is the most"),
    ],
)
async def test_a_list_that_is_none_is_one_failure(value, word):
    """Whatever stands in it."""
    (failure,) = await taken([{"id": "p", "questions": value, **ROW}])
    assert (failure.id, failure.error.code) == ("p", "bad_questions")
    assert word in failure.error.message


@pytest.mark.parametrize("empty", [None, [], (), ""])
async def test_an_empty_list_asks_nothing_and_the_row_is_as_others(empty):
    """The column may be there for the rows that have questions."""
    (record,) = await taken([{**ROW, "questions": empty}])
    assert question(record) == "Why?"


async def test_questions_go_before_the_conversation_unless_they_are_switched_off():
    """The list is the more specific; whoever has a column of this name for something else names another."""
    row = {**ROW, "questions": ["Who?"]}
    (record,) = await taken([row])
    assert question(record) == "Who?"
    assert question(read(row, columns={"questions_key": ""})) == "Why?"
    assert question(read(row, columns={"questions_key": "asks"})) == "Why?"


async def test_a_template_is_written_for_each_question():
    """With the question under its name; what it writes counts for the id."""
    asking = Asking(None, Prompting(prompt_template="{{ question }} In {{ words }} words."))
    row = {"id": "p", "questions": ["Who?", "What?"], "words": 3}
    one, two = await taken([row], asking=asking)
    assert [question(one), question(two)] == ["Who? In 3 words.", "What? In 3 words."]
    assert one.asked.question == "Who?"
    other, _ = await taken([{**row, "words": 4}], asking=asking)
    assert other.id != one.id
    *_, failure = await taken([row, {"questions": ["Why?"]}], asking=asking)
    assert (failure.error.code, failure.record.asked.question) == ("template", "Why?")


async def test_a_bad_image_fails_each_question():
    """Each is a record of its own, with its place in the list."""
    one, two = await taken([{"image": 3, "questions": ["Who?", "What?"]}])
    assert [one.record.asked.group.number, two.record.asked.group.number] == [1, 2]
    assert "image must be" in one.error.message


async def test_a_list_that_cannot_be_written_is_one_failure():
    """Only Python code can give such."""
    (failure,) = await taken([{"questions": [object()]}])
    assert isinstance(failure, Failure)


async def test_the_limit_counts_rows_and_a_list_is_never_cut(tmp_path):
    """So that whoever tries out two images gets all that is asked of them."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": n, "questions": ["Who?", "What?"]}) + "\n" for n in range(5)))
    async with open_source(path, limit=2) as source:
        ids = []
        async for record in source:
            ids.append(record.id.split("/")[0])
            assert source.fraction() == (record.index + 1) / 2
    assert ids == ["0", "0", "1", "1"]


def test_a_row_that_cannot_be_written_fails_under_a_template_too():
    """Only Python code can give such."""
    failure = read({"image": object()}, prompt_template="Who?")
    assert (failure.error.code, "_input" in failure.record.row) == ("not_json", True)
