"""One row: what becomes a record, what becomes a failure, and what passes through."""

import pickle
from pathlib import Path

import pytest

from vqa_async.config import Columns
from vqa_async.models import Failure, ImageRef, Message, Record
from vqa_async.sources import RowReader

ROW = {"image": ["a.png"], "conversation": [{"from": "human", "value": "Why?"}], "split": "train"}


def reader(prompt="", **columns):
    return RowReader(Columns(**columns), prompt=prompt, folder="in", clock=lambda: 1000.0)


def read(row, *, rows=None, index=0):
    return (rows or reader()).read(row, index=index, where="in.jsonl line 1")


def test_a_row_passes_through_untouched():
    """The record holds the very dict that was read, and what the engine needs beside it."""
    before = pickle.dumps(ROW)
    record = read(ROW, index=4)
    assert isinstance(record, Record)
    assert record.row is ROW
    assert pickle.dumps(ROW) == before
    assert (record.index, record.folder) == (4, "in")
    assert record.messages == (Message("user", (ImageRef("path", "a.png"), "Why?")),)


def test_other_columns_can_be_named():
    """Images and conversation are read from the fields that the settings name, and so are the messages."""
    rows = reader(image_key="picture", conversation_key="chat")
    record = read({"picture": "b.png", "chat": "Who?"}, rows=rows)
    assert record.messages == (Message("user", (ImageRef("path", "b.png"), "Who?")),)
    assert "picture must be" in read({"picture": 3, "chat": "Who?"}, rows=rows).error.message


@pytest.mark.parametrize(
    "row", [{"image": "a.png"}, {"conversation": None}, {"conversation": []}, {"conversation": ""}, {}]
)
def test_a_row_without_a_conversation_gets_the_prompt(row):
    """With a prompt such rows are asked about; without one the failure says how to give it."""
    failure = read(row)
    assert failure.error.code == "no_conversation"
    assert "--prompt" in failure.error.message
    assert read(row, rows=reader("What?")).messages[0].parts[-1] == "What?"


@pytest.mark.parametrize("conversation", [{}, 0, False])
def test_a_conversation_of_the_wrong_type_is_not_taken_for_none(conversation):
    """The prompt does not paper over a field that holds something else."""
    failure = read({"conversation": conversation}, rows=reader("What?"))
    assert "conversation must be a list of turns or a string" in failure.error.message


@pytest.mark.parametrize("row", [None, 1, "x", [ROW], True, 1.5])
def test_a_row_that_is_no_object_is_a_failure_that_shows_it(row):
    """The value stands in the failure's row, so that it can be found and mended."""
    failure = read(row)
    assert isinstance(failure, Failure)
    assert failure.error.code == "not_an_object"
    assert failure.error.message.startswith("in.jsonl line 1: a row must be an object, not ")
    assert failure.record.row == {"_input": row}
    assert (failure.attempts, failure.finished_at, failure.record.messages) == (0, 1000.0, ())


def test_a_bad_row_keeps_its_dict():
    """A failure for a dict holds that dict unchanged, under the id that the row would have had."""
    row = {"id": "r1", "image": {"x": 1}, "conversation": "Why?"}
    failure = read(row)
    assert failure.record.row is row
    assert failure.id == "r1"
    assert not failure.error.retryable


@pytest.mark.parametrize("id", [True, 1.5, {}, [], "", "\ud800", 2**70])
def test_an_id_that_is_no_name_is_a_failure(id):
    """Only text and whole numbers name a record."""
    failure = read({**ROW, "id": id})
    assert failure.error.code == "bad_id"
    assert failure.id == read(ROW).id


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"conversation": "a\ud800b"}, "not valid Unicode"),
        ({"conversation": [{"from": "human", "value": {1, 2}}]}, "not JSON serializable"),
        ({"conversation": [{"from": "human", "value": "x", "n": 2**70}]}, "64-bit"),
        ([object], "not JSON serializable"),
    ],
)
def test_what_json_cannot_hold_is_a_failure(row, said):
    """Python callers can pass such values; no result could be written for them."""
    failure = read(row)
    assert said in failure.error.message
    assert failure.id.startswith("broken-")
    assert isinstance(failure.record.row["_input"], str)


def test_a_nesting_without_end_is_a_failure():
    """Neither a cycle nor ten thousand levels of Python lists let a RecursionError escape."""
    cycle: list = []
    cycle.append(cycle)
    deep: list = []
    for _ in range(10_000):
        deep = [deep]
    assert read({"conversation": cycle}).error.code == "not_json"
    assert read({"conversation": deep}).error.code == "not_json"


def test_python_rows_may_hold_bytes_and_path_objects():
    """Both are images; equal bytes are the same record, other bytes another one."""
    rows = reader("What?")
    one = read({"image": [b"abc", Path("x/a.png")]}, rows=rows)
    again = read({"image": [b"abc", Path("x/a.png")]}, rows=reader("What?"))
    other = read({"image": [b"abd", Path("x/a.png")]}, rows=rows)
    assert one.images == (ImageRef("bytes", b"abc"), ImageRef("path", "x/a.png"))
    assert one.id == again.id != other.id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a": NaN}', "not JSON: "),
        (b'{"a": Infinity}', "not JSON: "),
        (b'{"a": 1e999}', "infinity"),
        (b'{"a": ' + b"9" * 5000 + b"}", "infinity"),
        (b"[" * 100_000, "depth limit"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\0"}', "control character"),
        (b'{"a": 1', "not JSON: "),
        (b'{"a": ' + b"[" * 300 + b"]" * 300 + b"}", "nested too deep"),
    ],
)
def test_a_text_that_is_not_json_is_a_failure_with_the_reason(text, said):
    """Nothing escapes as another exception, and what is shown of the text is short."""
    failure = reader().read_json(text, index=0, where="in.jsonl line 9")
    assert failure.error.message.startswith("in.jsonl line 9: ")
    assert said in failure.error.message
    assert len(failure.record.row["_input"]) <= 200


def test_many_brackets_alone_do_not_make_a_row_too_deep():
    """A wide row is written as easily as it is read."""
    text = b'{"conversation": "Why?", "boxes": [' + b"[1]," * 400 + b"[2]]}"
    assert isinstance(reader().read_json(text, index=0, where=""), Record)
