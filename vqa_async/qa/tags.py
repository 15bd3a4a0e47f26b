"""Reads pairs from tags: ``<question>...</question><answer>...</answer>`` and their like."""

from __future__ import annotations

import html
import re

from vqa_async.models import QAPair
from vqa_async.qa.labels import KEY_KINDS, Kind
from vqa_async.qa.parts import Part, matched

_KINDS: dict[str, Kind] = {**KEY_KINDS, "dt": "question", "dd": "answer"}
_TAG = re.compile(r"<(?P<end>/?)(?P<name>[^\W\d_]{1,20}?)[_-]?(?P<number>\d{0,4})(?:\s[^<>]{0,100}+)?>")


def read_tags(text: str) -> tuple[QAPair, ...]:
    """The pairs in tags that name them; a tag that is not closed holds nothing that can be trusted."""
    parts: list[Part] = []
    opened: tuple[str, str, int] | None = None
    for found in _TAG.finditer(text):
        name, number = found["name"].casefold(), found["number"]
        if name not in _KINDS:
            continue
        if not found["end"]:
            opened = opened or (name, number, found.end())
        elif opened and opened[:2] == (name, number):
            content = html.unescape(text[opened[2] : found.start()])
            parts.append(Part(_KINDS[name], number, content.split("\n")))
            opened = None
    return matched(parts)
