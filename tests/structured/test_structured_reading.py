"""Answers that were asked for by a schema: what is read from them, what is said of those that do not fit."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from vqa_async.errors import (
    EndpointNotFound,
    Rejected,
    RequestError,
    ResponseError,
    ServerError,
    StatusError,
)
from vqa_async.schemas import schema_text
from vqa_async.structured import Reading, Structure, Unfit, refuses_form, surely_refuses_form

PAIRS = '{"qa_pairs": [{"question": "A?", "answer": "B"}, {"question": "C?", "answer": "D"}]}'
TEXT = "- Q: A?\n  A: B\n\n- Q: C?\n  A: D"
SCENE = {
    "type": "object",
    "properties": {"count": {"type": "integer"}, "note": {"type": "string"}},
    "required": ["count"],
}


def read(text: str, schema: Any = "", *, cut_off: bool = False, **how: Any) -> Reading | Unfit:
    return Structure(schema_text(schema)).read(text, cut_off=cut_off, **how)


@pytest.mark.parametrize(
    "text",
    [
        PAIRS,
        f"```json\n{PAIRS}\n```",
        f"Sure, here it is:\n{PAIRS}\nAnything else?",
        f"<think>[1] or {{2}}?</think>{PAIRS}",
        PAIRS[1:-1].partition(": ")[2],  # the list alone
        PAIRS.replace("{", "{\n ").replace('"', "'"),  # as Python writes it
        TEXT,  # as if nothing had been asked for
    ],
)
def test_pairs_are_read_in_whatever_form_they_come(text: str) -> None:
    """The text is the guide's form, and nothing else is kept."""
    found = read(text)
    assert isinstance(found, Reading)
    assert (found.text, len(found.pairs), found.value) == (TEXT, 2, None)


@pytest.mark.parametrize("text", ["", "I see a cat.", '{"qa_pairs": []}', '{"cat": 1}', "[", "5", "{" * 5000])
def test_an_answer_without_pairs_is_unfit(text: str) -> None:
    """Whatever it is."""
    assert read(text) == Unfit("it holds no question-answer pairs")


@pytest.mark.parametrize("end", range(len(PAIRS) - 34, len(PAIRS) - 3))
def test_of_an_answer_that_was_cut_off_whole_pairs_are_kept(end: int) -> None:
    """Wherever it ends: the pair that is not whole is none."""
    found = read(PAIRS[:end], cut_off=True)
    assert isinstance(found, Reading)
    assert [pair.answer for pair in found.pairs] == ["B"]


@pytest.mark.parametrize("end", [1, 20, 40])
def test_cut_off_before_the_first_pair_is_unfit(end: int) -> None:
    """The sentence says what to do."""
    found = read(PAIRS[:end], cut_off=True)
    assert isinstance(found, Unfit)
    assert "--max-tokens" in found.reason


def test_the_one_question_of_a_list_is_answered_by_plain_text_too() -> None:
    """As without a structure."""
    found = read("It is a cat.", question="What is it?")
    assert isinstance(found, Reading)
    assert found.text == "- Q: What is it?\n  A: It is a cat."


def test_an_answer_by_a_schema_of_ones_own_is_kept_as_a_value() -> None:
    """The text is its JSON where it holds no pairs, else the pairs."""
    assert read('{"count": 3, "note": "naïve"}', SCENE) == (
        '{"count": 3, "note": "naïve"}',
        (),
        {"count": 3, "note": "naïve"},
    )
    found = read(PAIRS, {"type": "object", "required": ["qa_pairs"]})
    assert isinstance(found, Reading)
    assert found.text == TEXT
    assert len(found.value["qa_pairs"]) == 2


@pytest.mark.parametrize(
    "text",
    [
        '{"count": 3',
        "{'count': 3,}",
        "Here you are: {count: 3}",
        '```\n{"count": 3}\n```',
        '{"count": 3} [done]',
    ],
)
def test_slips_are_mended(text: str) -> None:
    """A bracket, quotes, words around it."""
    found = read(text, SCENE)
    assert isinstance(found, Reading)
    assert found.value["count"] == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"count": "three"}', r"at $.count: 'three' is not of type 'integer'"),
        ("{}", r"at $: 'count' is a required property"),
        ("I count three.", "it is not JSON"),
        ('{"count": NaN} and no more', "it is not JSON"),
        ("{" + "x" * 10_000, "it is not JSON"),
        ("{" * 33, "it is not JSON"),
    ],
)
def test_what_does_not_fit_is_said(text: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the place in the answer."""
    if "NaN" in text:
        monkeypatch.setitem(sys.modules, "json_repair", None)
        structure = Structure()
        structure._validator = object()
        assert structure.read(text, cut_off=False) == Unfit(reason)
        return
    assert read(text, SCENE) == Unfit(reason)


@pytest.mark.parametrize("error", [ValueError, RecursionError])
def test_who_mends_may_fail(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """Then there is nothing."""

    def fail(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr("json_repair.repair_json", fail)
    assert read("{'count': 3}", SCENE) == Unfit("it is not JSON")


def test_half_an_answer_never_passes_for_a_whole() -> None:
    """What was cut off is not mended, even where the mended half would fit."""
    found = read('{"count": 3, "note": "It is', SCENE, cut_off=True)
    assert isinstance(found, Unfit)
    assert "cut off" in found.reason
    assert isinstance(read('{"count": 3}', SCENE, cut_off=True), Reading)  # cut off behind its end


def test_an_answer_nested_too_deep_is_unfit() -> None:
    """It ends neither the run nor the process."""
    tree = {
        "$ref": "#/$defs/t",
        "$defs": {"t": {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/t"}}]}},
    }
    found = read("[" * 900 + "]" * 900, tree)
    assert isinstance(found, Unfit)


def test_secrets_that_escapes_had_hidden_are_taken_out() -> None:
    """Of values and of pairs."""

    def clean(text: str) -> str:
        return text.replace("sk-1234", "[removed]")

    hidden = "sk-\\u00312\\u00334"
    found = read(f'{{"count": 3, "note": "{hidden}"}}', SCENE, clean=clean)
    assert isinstance(found, Reading)
    assert found.value["note"] == "[removed]"
    found = read(PAIRS.replace("B", hidden), clean=clean)
    assert isinstance(found, Reading)
    assert "sk-1234" not in found.text


# --- whose fault it is -----------------------------------------------------------------------------------


def error(
    status: int, message: str, kind: type[StatusError] = Rejected, code: str = "rejected"
) -> StatusError:
    return kind(f"The endpoint says ({status}): {message}", status=status, excerpt=message, code=code)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "Invalid parameter: 'response_format' of type 'json_schema' is not supported with this model."),
        (400, "response_format.type must be text"),
        (422, "guided_json is not available with this backend"),
        (400, "Failed to initialize samplers: failed to parse grammar"),
        (404, "No endpoints found that support structured outputs"),
        (400, "JSON mode is not enabled for this model"),
    ],
)
def test_a_refusal_that_names_the_form_is_one_for_all(status: int, message: str) -> None:
    """The words of real servers."""
    kind = EndpointNotFound if status == 404 else Rejected
    assert refuses_form(error(status, message, kind))
    assert surely_refuses_form(error(status, message, kind))


@pytest.mark.parametrize(
    "message",
    [
        "Extra inputs are not permitted",
        "Unknown parameter in request body",
        "property 'x' is unsupported",
        "No endpoints found that can handle the requested parameters",
        "not supported",
    ],
)
def test_a_refusal_of_something_is_one_for_the_record_that_met_with_it(message: str) -> None:
    """It may be the form."""
    assert refuses_form(error(400, message))
    assert not surely_refuses_form(error(400, message))


@pytest.mark.parametrize(
    "problem",
    [
        error(500, "response_format broke the server", ServerError),
        error(400, "This model does not support image input: not supported"),
        error(400, "The prompt is too long"),
        error(400, "The text 'json_schema' was filtered", code="content_filter"),
        error(429, "response_format"),
        error(400, "Unsupported value: 'temperature' is not supported"),
        ResponseError("response_format", code="x"),
    ],
)
def test_other_errors_say_nothing_of_the_form(problem: RequestError) -> None:
    """Least of all those of a server in trouble."""
    assert not refuses_form(problem)
    assert not surely_refuses_form(problem)
