"""Reads questions that no label marks, with the answers below or beside them.

Only where it is beyond doubt: a line that is numbered, bold or a heading is a question if it ends, or its
bold part does, with a question mark; and all the questions are indented alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vqa_async.models import QAPair
from vqa_async.qa.labelled import ends
from vqa_async.qa.labels import KEY_KINDS, Label, labels_in
from vqa_async.qa.parts import Part, indent_of, matched

_ASKS = ("?", "？", "؟")
_QUESTION = re.compile(
    r"[ \t]*+(?>(?P<heading>#{1,6}[ \t]++)?)(?>(?:[-*+•][ \t]++)?)(?P<mark>[*_]{0,3})"
    r"(?>(?P<number>\(?\d{1,4}[.)、．])?)(?P<close>[*_]{0,3}+)[ \t]*+(?P<text>.+)"
)
_BESIDE = re.compile(r"(?:[?؟][\"'”’»)]?+(?=\s)|？[\"”’」』）]?+)")
_BETWEEN = re.compile(r"[ \t]*+(?>(?:[-–—:：=>→|]++[ \t]++)?)")
_BULLET = re.compile(r"[ \t]*+(?:[-*+•→]|➤)[ \t]++")


def read_unlabelled(lines: Sequence[str]) -> tuple[QAPair, ...]:
    """The pairs in questions that stand out by their form, and the answers beside or below them."""
    parts: list[Part] = []
    current: Part | None = None
    margin: int | None = None
    after_blank = False
    for line, label in zip(lines, labels_in(lines), strict=True):
        question, answer = _question(line)
        if question and indent_of(line) == (indent_of(line) if margin is None else margin):
            margin = indent_of(line)
            current = Part("answer", indent=margin, lines=[answer] if answer else [])
            parts += (Part("question", lines=[question]), current)
        elif current:
            current = _continued(current, _unlabelled(line, label), after_blank)
        after_blank = not line.strip()
    return matched(_unlisted(part) for part in parts)


def _continued(part: Part, line: str, after_blank: bool) -> Part | None:
    if ends(part, line, after_blank=after_blank):
        return None
    if not part.has_text:
        part.listed = indent_of(line) > part.indent  # the answer keeps to its list item from here on
    part.add(line)
    return part


def _unlabelled(line: str, label: Label | None) -> str:
    is_answer = label and KEY_KINDS.get(label.name) == "answer"
    return " " * label.indent + label.text if label and is_answer else line


def _question(line: str) -> tuple[str, str]:
    """The question that a line holds, and the answer beside it; "" where it holds none."""
    found = _QUESTION.match(line)
    if found is None:
        return "", ""
    text = found["text"].strip()
    mark = "" if found["close"] else found["mark"]
    if not mark and text.startswith("**"):
        mark, text = "**", text[2:]
    if not (mark or found["number"] or found["heading"]):
        return "", ""
    return _in_bold(text, mark) if mark else _in_plain(text, bool(found["number"]))


def _in_bold(text: str, mark: str) -> tuple[str, str]:
    question, _, beside = text.partition(mark)
    return _if_asked(question.strip(), beside)


def _in_plain(text: str, may_be_answered: bool) -> tuple[str, str]:
    whole = text.rstrip("*_ ")
    beside = _BESIDE.search(text)
    if whole.endswith(_ASKS) or not beside or not may_be_answered:  # "Is it day? Or is it night?" asks once
        return _if_asked(text if whole.endswith(_ASKS) else "", "")
    return _if_asked(text[: beside.end()], text[beside.end() :])


def _if_asked(question: str, beside: str) -> tuple[str, str]:
    if not question.rstrip("*_ \"'”’»)」』）").endswith(_ASKS):
        return "", ""
    between = _BETWEEN.match(beside)
    return question, beside[between.end() :].strip() if between else ""


def _unlisted(part: Part) -> Part:
    """A one-line answer without the bullet in front of it."""
    filled = [line for line in part.lines if line.strip()]
    if part.kind == "answer" and len(filled) == 1:
        part.lines = [filled[0][bullet.end() :] if (bullet := _BULLET.match(filled[0])) else filled[0]]
    return part
