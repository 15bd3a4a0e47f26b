"""Answers that are nearly in a known form: pairs with text on both sides, or none, and never an error.

Any text, and piles of labels, are read in tests/test_qa.py; so is a megabyte of each pattern known there.
"""

from __future__ import annotations

import tomllib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pairs_door import SEEDS, TOKENS, check
from spoilt_texts import spoilt

from vqa_async.qa import parse_pairs

pytestmark = pytest.mark.timeout(300)  # a busy machine is no counterexample

DATA = Path(__file__).resolve().parent.parent / "data" / "completions"
COMPLETIONS = [
    case["text"].encode()
    for path in sorted(DATA.glob("*.toml"))
    for case in tomllib.loads(path.read_text("utf-8"))["case"]
]
TEXTS = [*SEEDS, *COMPLETIONS]


@settings(max_examples=400, deadline=None)
@given(spoilt(TEXTS, TOKENS))
def test_a_realistic_answer_with_changes_is_read(data: bytes) -> None:
    """Both ways through the parser agree on it, too."""
    check(data)


@settings(max_examples=200, deadline=None)
@given(st.text("QAqa12.:：?*_-#>|{}[]\"'\\`, \t\n\r\u200b❓问答é"), st.sampled_from(TEXTS))
def test_any_markup_before_and_behind_an_answer_is_read(markup: str, text: bytes) -> None:
    """Whatever decorates the lines."""
    check(markup.encode() + text)
    check(text + b"\n" + markup.encode())
    check(text.replace(b"\n", b"\n" + markup.encode()))


UNITS = st.lists(st.sampled_from(TOKENS), min_size=1, max_size=4).map(b"".join)


# A hundred times what the slowest of them takes here; were the time quadratic, it would be hours.
@settings(max_examples=40, deadline=timedelta(seconds=20))
@given(UNITS, UNITS, UNITS)
@example(b"Frage:", b"\n\n", b"Question 1:")  # a question of blank lines
def test_a_long_text_of_any_repeated_unit_takes_linear_time(start: bytes, unit: bytes, end: bytes) -> None:
    """200 KB of it, whatever stands around them."""
    text = start + unit * (200_000 // len(unit)) + end
    assert isinstance(parse_pairs(text.decode()), tuple)
