"""Completion -> pairs and value, or a sentence on what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

from vqa_async.models import QAPair
from vqa_async.qa import answer_pairs, format_pairs, parse_pairs
from vqa_async.qa.structured import read_json
from vqa_async.structured.parsing import NOTHING, parse
from vqa_async.structured.schema import Schema, schema_of, validator_of

CUT_OFF = (
    "it was cut off at max_tokens before it was whole: raise --max-tokens, or let --max-tokens-ceiling give "
    "such answers more room"
)
_MOST_SAID = 300


class Reading(NamedTuple):
    """What an answer holds.

    Attributes:
        text: the pairs in the guide's text form; where there are none, the answer as JSON.
        pairs: question-answer pairs.
        value: the answer itself where the user has a schema, else None.
    """

    text: str
    pairs: tuple[QAPair, ...]
    value: Any


class Unfit(NamedTuple):
    """Why an answer cannot be used, as a clause."""

    reason: str


class Structure:
    """The form that answers are to have.

    Args:
        schema: the user's schema as JSON text; "" for the usual one.

    Raises:
        ConfigError: the schema cannot be used, or what is needed for it is not installed.
    """

    def __init__(self, schema: str = "") -> None:
        self.schema: Schema = schema_of(schema)
        self._validator: Any = validator_of(self.schema) if schema else None

    def read(
        self, text: str, *, cut_off: bool, question: str = "", clean: Callable[[str], str] = str
    ) -> Reading | Unfit:
        """What ``text`` holds.

        Args:
            text: the completion.
            cut_off: whether it ends where the tokens did.
            question: what was asked, where that was one question out of a list.
            clean: takes out of texts what must not be kept, and JSON escapes may have hidden.
        """
        if self._validator is None:
            return self._read_pairs(text, cut_off, question, clean)
        value = parse(text, mend=not cut_off)
        if value is NOTHING:
            return Unfit(CUT_OFF if cut_off else "it is not JSON")
        written = json.dumps(value, ensure_ascii=False)
        cleaned = clean(written)
        if cleaned != written:
            written, value = cleaned, json.loads(cleaned)
        if wrong := self._wrong(value):
            return Unfit(CUT_OFF if cut_off else wrong)
        pairs = read_json(written)
        return Reading(format_pairs(pairs) if pairs else written, pairs, value)

    def _wrong(self, value: Any) -> str:
        """What keeps ``value`` from fitting the schema, "" where nothing does."""
        from jsonschema.exceptions import best_match

        try:
            error = best_match(self._validator.iter_errors(value))
        except RecursionError:
            return "it is nested too deep"
        return "" if error is None else f"at {error.json_path}: {error.message[:_MOST_SAID]}"

    def _read_pairs(
        self, text: str, cut_off: bool, question: str, clean: Callable[[str], str]
    ) -> Reading | Unfit:
        pairs = _pairs(text, cut_off, question)
        if not pairs:
            return Unfit(CUT_OFF if cut_off else "it holds no question-answer pairs")
        pairs = tuple(QAPair(clean(pair.question), clean(pair.answer)) for pair in pairs)
        return Reading(format_pairs(pairs), pairs, None)


def _pairs(text: str, cut_off: bool, question: str) -> tuple[QAPair, ...]:
    """The pairs of an answer by the usual schema, or in whatever other form the model gave them."""
    looks_like_json = text.lstrip("`json \n").startswith(("{", "["))
    value = parse(text, mend=looks_like_json and not cut_off)
    found = read_json(json.dumps(value, ensure_ascii=False)) if isinstance(value, dict | list) else ()
    if found := found or read_json(text):  # where it was cut off: the pairs that are whole
        return found
    if looks_like_json:
        return ()  # half a pair in JSON must not be read as some other form
    return parse_pairs(text) or (answer_pairs(question, text) if question else ())
