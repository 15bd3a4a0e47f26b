"""Reads labelled lines: ``- Q: ...`` and below it ``A: ...``, in every dress that models give them.

A state machine over lines. A label opens a part; other lines belong to the open part until something ends it
that can be told from text: a horizontal rule, a heading, the end of the code block around everything, an
outdented paragraph, a farewell. What is indented deeper than its label always belongs to it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vqa_async.models import QAPair
from vqa_async.qa.labels import Kinds, Label, kinds_in, labels_in, split_inline
from vqa_async.qa.parts import Part, indent_of, matched

# What assistants say when they are done. Such a paragraph, not indented, is no part of the last answer.
_FAREWELLS = (
    "let me know|please let me know|feel free|note:|please note|i hope (?:this|these|that)|"
    "hope (?:this|these|that)|"
    "if you (?:need|want|would|have|'d)|would you like|do you want|these (?:qa|q&a|question|pairs)|"
    "n['’]hésitez|lass(?:t)? (?:es )?mich|lassen sie|déjame|avísame|espero que|espera?mos que|"
    "дайте знать|надеюсь|希望|以上|如果您|如需|如有|ご不明|必要であれば|도움이"
)
_FAREWELL = re.compile(rf"[ \t]*+[*_]{{0,3}}\(?[*_]{{0,3}}(?:{_FAREWELLS})", re.IGNORECASE)
_LIST_ITEM = re.compile(r"[ \t]*+(?:[-*+•‣◦▪●–—]|\(?\d{1,4}[.)、．])[ \t]++")
_RULES = "|".join(rf"(?:{sign}[ \t]*+){{3}}[{sign} \t]*+" for sign in (r"\-", r"\*", "_", "="))
_RULE = re.compile(rf"[ \t]*+(?:{_RULES})$")
_HEADING = re.compile(r"[ \t]*+#{1,6}[ \t]")
_FENCE = re.compile(r"[ \t]*+(?:```|~~~)")
# Titles of the next pair or group of pairs: "**Colours**", "2.", "QA Pair 2", "Image 3:".
_BOLD_TITLE = re.compile(r"(?:\*\*|__)[^*_]++(?:\*\*|__)$")
_TITLE = re.compile(
    rf"{_BOLD_TITLE.pattern}|"
    r"\W*+\d{1,4}\W*+$|.*[:：][*_]{0,3}$|"
    r"\W*+(?:(?:q ?& ?a|qa|question[- ]answer) )?pair\W{0,3}\d{1,4}\W*+$",
    re.IGNORECASE,
)


def read_labelled(lines: Sequence[str]) -> tuple[QAPair, ...]:
    """The pairs in labelled lines."""
    labels = labels_in(lines)
    reading = _Reading(kinds_in(lines, labels))
    for line, label in zip(lines, labels, strict=True):
        reading.take(line, label)
    return matched(reading.parts)


def ends(part: Part, line: str, *, after_blank: bool) -> bool:
    """Whether ``line``, which is no label, can be told not to belong to ``part``."""
    if not part.has_text or indent_of(line) > part.indent:
        return False
    if _RULE.match(line) or _HEADING.match(line):
        return True
    if not after_blank or _LIST_ITEM.match(line) or not line.strip():
        return False
    # In Markdown a paragraph that is not indented leaves its list item.
    return part.listed or indent_of(line) < part.indent or bool(_FAREWELL.match(line))


class _Reading:
    """The parts so far and whether the last one is still open."""

    def __init__(self, kinds: Kinds) -> None:
        self.parts: list[Part] = []
        self._kinds = kinds
        self._open = False
        self._after_blank = False
        self._in_code = False  # a code block in the open part
        self._fenced = False  # the pairs themselves stand in a code block

    def take(self, line: str, label: Label | None) -> None:
        """Read the next line."""
        if label and label.name in self._kinds:
            self._start(label)
        elif _FENCE.match(line) and (self._fenced or not self._open):
            self._open, self._fenced = False, not self._fenced
        elif self._open and (self._in_code or not ends(self.parts[-1], line, after_blank=self._after_blank)):
            self._in_code ^= bool(_FENCE.match(line))
            self._add(line)
        else:
            self._open = False
        self._after_blank = not line.strip()

    def _start(self, label: Label) -> None:
        kind = self._kinds[label.name]
        if self.parts and self.parts[-1].kind != kind:
            # A question may well end in a paragraph "The sky is:"; before an answer only bold is a title.
            _drop_title(self.parts[-1], _TITLE if kind == "question" else _BOLD_TITLE)
        self.parts.append(Part(kind, label.number, [], label.indent, label.listed))
        self._open, self._in_code = True, False
        self._add(label.text)

    def _add(self, line: str) -> None:
        part = self.parts[-1]
        if part.kind == "answer":  # nothing splits an answer but a label that opens a line
            part.add(line)
            return
        (_, _, text), *others = split_inline(line, self._kinds)
        part.add(text)
        self.parts += (
            Part(kind, number or part.number, [text], part.indent, part.listed)
            for kind, number, text in others
        )


def _drop_title(part: Part, title: re.Pattern[str]) -> None:
    """Take the title of what comes next off the end of ``part``, where a blank line sets it apart."""
    while part.lines and not part.lines[-1].strip():
        part.lines.pop()
    *text, blank, last = ["", "", *part.lines]
    is_apart = any(map(str.strip, text)) and not blank.strip() and indent_of(last) <= part.indent
    if is_apart and title.match(last.strip()):
        part.lines.pop()
