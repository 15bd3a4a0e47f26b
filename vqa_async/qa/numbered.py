"""Reads a numbered list of questions with the answers below them, where the questions have no labels.

Only where it is beyond doubt: a numbered line is a question if it ends with a question mark, and all the
questions are indented alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vqa_async.models import QAPair
from vqa_async.qa.labelled import ends
from vqa_async.qa.labels import KEY_KINDS, Label, labels_in
from vqa_async.qa.parts import Part, indent_of, matched

_QUESTION = re.compile(
    r"[ \t]*+(?:#{1,6}[ \t]++)?+(?P<mark>[*_]{0,3})\(?\d{1,4}[.)、．](?P<close>[*_]{0,3}+)[ \t]*+(?P<text>.+)"
)
_BULLET = re.compile(r"[ \t]*+(?:[-*+•→]|➤)[ \t]++")


def read_numbered(lines: Sequence[str]) -> tuple[QAPair, ...]:
    """The pairs in a numbered list of questions with the answers on the lines below."""
    parts: list[Part] = []
    current: Part | None = None
    margin: int | None = None
    after_blank = False
    for line, label in zip(lines, labels_in(lines), strict=True):
        question = _question(line)
        if question and indent_of(line) == (indent_of(line) if margin is None else margin):
            margin = indent_of(line)
            current = Part("answer", indent=margin)
            parts += (Part("question", lines=[question]), current)
        elif current:
            current = _continued(current, _unlabelled(line, label), after_blank)
        after_blank = not line.strip()
    return matched(_unlisted(part) for part in parts)


def _continued(part: Part, line: str, after_blank: bool) -> Part | None:
    if ends(part, line, after_blank=after_blank):
        return None
    if part.is_empty:
        part.listed = indent_of(line) > part.indent  # the answer keeps to its list item from here on
    part.lines.append(line)
    return part


def _unlabelled(line: str, label: Label | None) -> str:
    is_answer = label and KEY_KINDS.get(label.name) == "answer"
    return " " * label.indent + label.text if label and is_answer else line


def _question(line: str) -> str:
    """The question that a numbered line holds, "" where it holds none."""
    found = _QUESTION.match(line)
    if found is None:
        return ""
    text = found["text"].strip()
    bare = text.rstrip("*_ ")
    if not bare.endswith(("?", "？", "؟")):
        return ""
    if found["mark"] and not found["close"]:  # "**1. What is it?**"
        return bare
    return text[2:-2] if text.startswith("**") and text.endswith("**") else text


def _unlisted(part: Part) -> Part:
    """A one-line answer without the bullet in front of it."""
    filled = [line for line in part.lines if line.strip()]
    if part.kind == "answer" and len(filled) == 1:
        part.lines = [filled[0][bullet.end() :] if (bullet := _BULLET.match(filled[0])) else filled[0]]
    return part
