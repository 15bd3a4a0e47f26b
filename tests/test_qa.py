"""Reading pairs out of completions: a table of what models write, and what holds for any text."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqa_async.models import QAPair
from vqa_async.qa import answer_pairs, format_pairs, parse_pairs, read_any_form
from vqa_async.qa.labels import WORD_KINDS

TABLES = sorted(Path(__file__).with_name("data").joinpath("completions").glob("*.toml"))
CASES = [
    pytest.param(case["text"], case["pairs"], id=f"{table.stem}: {case['name']}")
    for table in TABLES
    for case in tomllib.loads(table.read_text(encoding="utf-8"))["case"]
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_pairs_are_read_from_completions_as_models_write_them(text: str, expected: list[list[str]]) -> None:
    """Each completion of the table gives the pairs that a person reads in it."""
    assert parse_pairs(text) == tuple(QAPair(question, answer) for question, answer in expected)


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_windows_line_ends_and_blank_surroundings_change_nothing(
    text: str, expected: list[list[str]]
) -> None:
    """The same completion with CRLF line ends and blank lines around it gives the same pairs."""
    wrapped = "\n\n" + text + "\n \n"
    assert parse_pairs(wrapped.replace("\r\n", "\n").replace("\n", "\r\n")) == parse_pairs(text)


def test_the_table_is_as_large_as_the_variety_of_models() -> None:
    """The tables are found and loaded, so an empty parametrisation cannot pass unseen."""
    assert len(CASES) >= 200


def test_pairs_are_written_in_the_form_of_the_guide() -> None:
    """One list item per pair, the answer indented below, a blank line between pairs."""
    pairs = [QAPair("Is it?", "Yes"), QAPair("Where?", "Here,\nand\n\n  there")]
    assert format_pairs(pairs) == "- Q: Is it?\n  A: Yes\n\n- Q: Where?\n  A: Here,\n    and\n\n      there"


def test_no_pairs_are_written_as_nothing() -> None:
    """An empty list has an empty text form."""
    assert format_pairs([]) == ""


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    """The parser raises on no text whatever."""
    assert isinstance(parse_pairs(text), tuple)


FRAGMENTS = [
    *(
        "Q:",
        "A:",
        "Q1:",
        "A2.",
        "B:",
        "Question",
        "Answer",
        "问：",
        "答：",
        "x",
        "²",
        "٣",
        "?",
        ".",
        ":",
        ",",
    ),
    *(
        "\n",
        "\n\n",
        " ",
        "    ",
        "\t",
        "\r",
        "\x00",
        "**",
        "*",
        "_",
        "- ",
        "1. ",
        "# ",
        "---",
        "```",
        "|",
        "(",
        ")",
    ),
    *('"', "\\", "{", "}", "[", "]", '"question"', '"a"', "\ud800", "\\ud800", "<think>", "</think>"),
    "| Question | Answer |",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS)).map("".join))
def test_any_pile_of_labels_and_markup_is_read_without_an_error(text: str) -> None:
    """Labels and markup in any order raise nothing, and a pair never has a blank half."""
    assert all(pair.question.strip() and pair.answer.strip() for pair in parse_pairs(text))


def _is_plain(line: str) -> bool:
    return line == line.strip() and line.casefold() not in WORD_KINDS


# No colons and digits, so that no line can be a label; everything else that Unicode has, markup included.
LINE = st.text(
    st.characters(codec="utf-8", exclude_categories=["Nd", "Cs"], exclude_characters="\n\r:：﹕︰"),
    min_size=1,
).filter(_is_plain)
SENTENCE = st.lists(
    st.sampled_from(
        ["Option A: red", "at 10:30", "the A:", "B: left", "Is it?", "**bold**", "{x}", "- item", "#"]
    ),
    min_size=1,
).map(lambda words: "The " + " and ".join(words))
TEXT = (
    st.lists(st.one_of(LINE, SENTENCE, st.just("")), min_size=1)
    .map("\n".join)
    .filter(lambda text: text == text.strip() != "")
)


WORDS = st.lists(
    st.sampled_from(
        [
            *("What", "the", "red", "Option", "B", "Answer", "1.", "é", "图", "Q1", "2)", "(a)", "\u2028"),
            *("\t", "A", "e.g.", "don't", "a_b", "\xa0", "answer", "#", "QA", "A:", "*x*", "?"),
        ]
    ),
    min_size=1,
    max_size=5,
).map(" ".join)
ENDS = st.sampled_from(["?", ".", "", "!", " "])


@given(st.lists(st.tuples(WORDS, ENDS, WORDS, ENDS), min_size=1, max_size=3))
def test_the_short_way_through_the_guides_form_gives_what_the_long_way_gives(
    parts: list[tuple[str, str, str, str]],
) -> None:
    """Plain pairs are read in one pass, and every doubt goes the long way: nobody can tell the difference."""
    text = "\n\n".join(f"- Q: {q}{q_end}\n  A: {a}{a_end}" for q, q_end, a, a_end in parts)
    assert parse_pairs(text) == read_any_form(text)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.builds(QAPair, TEXT, TEXT), max_size=3))
def test_what_was_written_is_read_back(pairs: list[QAPair]) -> None:
    """Texts without label lines, trailing blanks and carriage returns survive writing and reading."""
    assert parse_pairs(format_pairs(pairs)) == tuple(pairs)


SIZE = 1 << 20
HOSTILE = [
    "Q" + " " * SIZE,
    "Q:" + " " * SIZE + "A",
    "**" * (SIZE // 2),
    "*" * SIZE,
    "- " * (SIZE // 2),
    "> " * (SIZE // 2),
    "1. " * (SIZE // 3),
    "Q (" * (SIZE // 3),
    "Q: " + "? " * (SIZE // 2),
    "Q: " + "?" * SIZE,
    "Q: " + "? A " * (SIZE // 4),
    "Q: x? A: y. " * (SIZE // 12),
    "Q: x?\nA: y\n" * (SIZE // 12),
    "Q: x?\n" * (SIZE // 6),
    "A: x\nB: y\n" * (SIZE // 10),
    "A: \n" * (SIZE // 4),
    "Q: x\nA: y\n" + "\n" * SIZE,
    "Q: x\nA: y\n" + "\n **a:" * (SIZE // 6),
    "- - - " * (SIZE // 6) + "x",
    "{" * SIZE,
    "[" * SIZE,
    "{}" * (SIZE // 2),
    '{"' * (SIZE // 2),
    '{"\\' * (SIZE // 3),
    '{"question": "' + "\\" * SIZE,
    '{"a":' * (SIZE // 5) + "}" * (SIZE // 5),
    '{"a": ' + "[" * SIZE + "}",
    '{"a": ' + "1" * SIZE + "}",
    '{"' + "1" * SIZE + '": 1}',
    '{"question": "x", "answer": "y"}' * (SIZE // 32),
    "|" * SIZE,
    "| Question | Answer |\n" + "| x | y |\n" * (SIZE // 10),
    "<think></think>" * (SIZE // 15),
    "<think>" * (SIZE // 7),
    "1. x?\n" * (SIZE // 6),
    "1. x?\n y\n" * (SIZE // 9),
    "1. " + "? " * (SIZE // 2) + "x",
    "问：" * (SIZE // 2),
    "\u200b" * SIZE + "Q:",
    "<question>" * (SIZE // 10),
    "<question " * (SIZE // 10),
    "<question>x</question><answer>y</answer>" * (SIZE // 40),
    "<b>" * (SIZE // 3),
    "&quot;" * (SIZE // 6),
    "\\n" * (SIZE // 2),
    "question,answer\n" + '"' * SIZE,
    "question,answer\n" * (SIZE // 16),
    "question,answer\n" + "x,y\n" * (SIZE // 4),
    "{'question': 'x' 'answer': 'y'}" * (SIZE // 30),
    "{" + "'" * SIZE + "}",
    "{" + "//" * (SIZE // 2) + "}",
    "{“" + "“" * (SIZE // 3) + "}",
    '["a?","b"],' * (SIZE // 11),
    '["a' * (SIZE // 3),
    "Q. x\nA. y\n" * (SIZE // 10),
    "[Q1] x\n[A1] y\n" * (SIZE // 14),
    "**x?** y\n" * (SIZE // 9),
    "**x" * (SIZE // 3),
    "User: x\nAssistant: y\n" * (SIZE // 21),
    "é" * SIZE,
]


@pytest.mark.slow
@pytest.mark.parametrize("text", HOSTILE, ids=[repr(text[:16]) for text in HOSTILE])
def test_a_megabyte_of_anything_is_read_in_linear_time(text: str) -> None:
    """A hostile megabyte takes at most seconds, where anything quadratic would take hours."""
    started = time.process_time()
    parse_pairs(text)
    assert time.process_time() - started < 20


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("Yes.", [("Is it?", "Yes.")]),
        (" A list:\r\n1. one\n2. two\n", [("Is it?", "A list:\n1. one\n2. two")]),
        ('{"question": "Q", "answer": "A"}', [("Is it?", '{"question": "Q", "answer": "A"}')]),
        ("<think>Hm. Q: what?\nA: that</think>\nNo.", [("Is it?", "No.")]),
        ("<think>cut off", []),
        ("- Q: Who?\n  A: He.\n\n- Q: What?\n  A: It.", [("Who?", "He."), ("What?", "It.")]),
    ],
)
def test_an_answer_to_a_question_is_its_pair(text, pairs):
    """Whatever form it has, but for labelled pairs, which are kept as they are."""
    assert [(pair.question, pair.answer) for pair in answer_pairs("Is it?", text)] == pairs
