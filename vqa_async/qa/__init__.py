"""Completion text <-> question-answer pairs: reading what models write, writing the guide's text form.

Models are told to write pairs and do so in many ways: labelled lines (in many languages, with or without
Markdown around them), JSON, tables, numbered lists. Each way has its reader, which gives no pairs where the
text is not of its kind; ``parse_pairs`` takes the first that finds any, the most specific first.

    labels      the words that open a question or an answer, as data, and where they may stand
    parts       questions and answers as found, and how they are matched into pairs
    labelled    "- Q: ... A: ...", over lines, as a small state machine
    structured  JSON objects and Markdown tables
    json_mending  objects that are nearly JSON
    tags        "<question>...</question>"
    columns     CSV with a header
    unlabelled  "1. What is it?", "**What is it?**": questions without labels, with the answer below or beside
    dress       what stands around all of it: reasoning, marks of chat templates, escapes, HTML

Completions come from outside and may be large, so all of it is linear: repetitions in patterns that touch
each other are possessive (``*+``), and nothing is searched twice. No I/O, and no opinion on completions
without pairs: the caller decides what those mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from vqa_async.models import QAPair
from vqa_async.qa.columns import read_columns
from vqa_async.qa.dress import redressed, undressed
from vqa_async.qa.labelled import read_labelled
from vqa_async.qa.structured import read_json, read_table
from vqa_async.qa.tags import read_tags
from vqa_async.qa.unlabelled import read_unlabelled

__all__ = ["answer_pairs", "format_pairs", "parse_pairs"]

# The guide's own form with nothing unusual in it, which is what well-behaved models answer: each question on
# one line without an end of sentence in its middle, after which a label could stand, each answer on a line of
# its own or behind its question, beginning with a letter or digit. Read in one pass; all else, and all doubt,
# goes the long way.
# Atomic groups: the first releases of Python 3.11 lose their way in possessive repetitions of groups.
_PLAIN_QUESTION = r"(?![ab]:)\w[^\s?.!;…؟？。！；*_:：`<&]*+(?>(?: [^\s?.!;…؟？。！；*_:：`<&]++)*)[?.]?"
_PLAIN_ANSWER = r"(?!\w{1,3}:)\w[^\n\r:：*_`<&]*+(?<!\s)"
_PLAIN_PAIR = rf"- Q: {_PLAIN_QUESTION}(?:\n  |(?<=\?) )A: {_PLAIN_ANSWER}"
_GUIDE_FORM = re.compile(rf"(?>(?:{_PLAIN_PAIR}(?:\n\n?(?=- )|\n*+\Z))+)", re.IGNORECASE)
_GUIDE_PAIR = re.compile(r"- Q: ([^\n?]++\??)(?:\n  | )A: ([^\n]++)", re.IGNORECASE)
_QUOTES = ('"', "'", "“”", "「」")


def parse_pairs(text: str) -> tuple[QAPair, ...]:
    """The question-answer pairs in a completion, in its order; ``()`` where none can be told.

    Never raises, and takes time in proportion to ``text``. Texts keep their line breaks and every character
    but those that mark structure: indentation common to all their lines, labels, emphasis around a label.

    Example:
        >>> parse_pairs("- Q: Is it night?\\n  A: Yes")
        (QAPair(question='Is it night?', answer='Yes'),)
    """
    if _GUIDE_FORM.fullmatch(text):
        return tuple(QAPair(question, answer) for question, answer in _GUIDE_PAIR.findall(text))
    return read_any_form(text)


def answer_pairs(question: str, text: str) -> tuple[QAPair, ...]:
    """The pair of ``question`` and its answer ``text``, without the model's reasoning before it.

    Where the answer is labelled questions and answers itself, as by a model that was told to write such,
    those are given. Lists, tables and JSON are not looked into: they are answers like others.

    Example:
        >>> answer_pairs("Is it night?", "Yes.")
        (QAPair(question='Is it night?', answer='Yes.'),)
    """
    body = undressed(text).strip()
    return read_labelled(body.split("\n")) or ((QAPair(question, body),) if body else ())


def read_any_form(text: str) -> tuple[QAPair, ...]:
    """What ``parse_pairs`` gives, the long way: each form is tried in turn."""
    body = undressed(text)
    pairs = _read(body)
    if pairs:
        return pairs
    return next((found for other in redressed(body) if (found := _read(other))), ())


def _read(body: str) -> tuple[QAPair, ...]:
    # Not splitlines: it also breaks at characters that are text here, such as U+2028.
    lines = body.split("\n")
    return (
        read_json(body)
        or read_tags(body)
        or _unquoted(read_labelled(lines))
        or read_table(lines)
        or read_columns(lines)
        or read_unlabelled(lines)
    )


def _unquoted(pairs: tuple[QAPair, ...]) -> tuple[QAPair, ...]:
    """``pairs`` without quotes where every text of them has some around it: then they are no part of any."""
    if all(_is_quoted(text) for pair in pairs for text in (pair.question, pair.answer)):
        return tuple(QAPair(pair.question[1:-1], pair.answer[1:-1]) for pair in pairs)
    return pairs


def _is_quoted(text: str) -> bool:
    return (
        len(text) > 2
        and any(text[0] == q[0] and text[-1] == q[-1] for q in _QUOTES)
        and bool(text[1:-1].strip())
    )


def format_pairs(pairs: Iterable[QAPair]) -> str:
    """``pairs`` in the guide's text form, which ``parse_pairs`` reads back.

    It reads back the same pairs if no text is blank or has blanks at its ends or at the ends of its lines
    (indentation is kept unless all lines below the first share it), and none has a carriage return, a line
    that is itself a label such as ``Q:`` or ``Answer 2:``, or such a label after the end of a sentence.

    Example:
        >>> format_pairs([QAPair("Is it night?", "Yes")])
        '- Q: Is it night?\\n  A: Yes'
    """
    return "\n\n".join(f"- Q: {_indented(pair.question)}\n  A: {_indented(pair.answer)}" for pair in pairs)


def _indented(text: str) -> str:
    first, *rest = text.split("\n")
    return "\n".join([first, *(f"    {line}" if line else "" for line in rest)])
