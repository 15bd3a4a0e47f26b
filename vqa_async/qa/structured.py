"""Reads pairs from JSON objects and from Markdown tables, wherever in a text they stand.

JSON is not read as one document: replies have words around it, are cut off at the token limit, or are one
object a line. Every balanced ``{...}`` is tried by itself, innermost first, so one that is whole counts
whatever became of its surroundings. Only shallow ones are tried, which keeps hostile nesting linear.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

from vqa_async.models import QAPair
from vqa_async.qa.labels import KEY_KINDS, Kind
from vqa_async.qa.parts import Part, matched

_MAX_HEIGHT = 3  # of objects in objects: a pair that holds a box that holds a point
_TOKEN = re.compile(r'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"?|[{}]', re.DOTALL)
# Not strict: models put real line breaks into strings. Numbers stay as they are written.
_DECODER = json.JSONDecoder(strict=False, parse_int=str, parse_float=str, parse_constant=str)
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CELL_END = re.compile(r"(?<!\\)\|")
_CELL_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_DASHES = re.compile(r"[\s|:+-]*+$")


def read_json(text: str) -> tuple[QAPair, ...]:
    """The pairs in the JSON objects of ``text``, in the order in which they begin."""
    found = sorted(_objects(text), key=lambda span: span[0])
    return tuple(pair for start, end in found for pair in _pairs_of(_loaded(text[start:end])))


def _objects(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each balanced ``{...}`` that holds at most so many levels of others."""
    opened: list[list[int]] = []  # [start, height] of each object that is not closed yet
    at = text.find("{")
    while at >= 0 and (token := _TOKEN.search(text, at)):
        at = token.end()
        if token[0] == "{":
            opened.append([token.start(), 1])
        elif token[0] == "}" and opened:
            start, height = opened.pop()
            if opened:
                opened[-1][1] = max(opened[-1][1], height + 1)
            if height <= _MAX_HEIGHT:
                yield start, at
        if not opened:  # quotes between objects are prose and need not balance
            at = text.find("{", at)


def _loaded(text: str) -> dict[str, Any]:
    """``text`` as an object, {} where it is none."""
    closed = text[:-1].rstrip().removesuffix(",") + "}"  # a comma after the last field is a common slip
    try:
        loaded = _DECODER.decode(closed)
    except (ValueError, RecursionError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


def _pairs_of(fields: dict[str, Any]) -> tuple[QAPair, ...]:
    parts = [part for key, value in fields.items() if (part := _part(key, value))]
    return matched(sorted(parts, key=lambda part: part.kind == "answer"))  # an answer may come first


def _part(key: str, value: Any) -> Part | None:
    stem = key.strip().rstrip("0123456789")
    kind = KEY_KINDS.get(stem.rstrip(" _#-").casefold())
    text = _value_text(value)
    return Part(kind, key.strip()[len(stem) :], text.split("\n")) if kind else None


def _value_text(value: Any) -> str:
    """A field's value as text, "" where it is no text."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(map(_value_text, value))
    # Half of a surrogate pair is no character and could not be written to any file.
    return _LONE_SURROGATE.sub("\ufffd", value) if isinstance(value, str) else ""


def read_table(lines: Sequence[str]) -> tuple[QAPair, ...]:
    """The pairs in Markdown tables whose header names a question and an answer column."""
    parts: list[Part] = []
    columns: dict[Kind, int] = {}
    for line in lines:
        cells = _cells(line)
        if len(cells) < 2:
            columns = {}
        elif header := _columns(cells):
            columns = header
        elif columns and not _DASHES.match(line) and max(columns.values()) < len(cells):
            parts += (Part(kind, lines=cells[columns[kind]].split("\n")) for kind in ("question", "answer"))
    return matched(_by_row(parts))


def _by_row(parts: list[Part]) -> list[Part]:
    # A row with an empty cell is no pair, and must not lend its other cell to the next row.
    rows = zip(parts[::2], parts[1::2], strict=True)
    return [part for row in rows if not any(cell.is_empty for cell in row) for part in row]


def _columns(cells: Sequence[str]) -> dict[Kind, int]:
    """Which columns a header gives to questions and answers; {} where it does not give both."""
    columns = {
        kind: at for at, cell in enumerate(cells) if (kind := KEY_KINDS.get(cell.strip("*_ ").casefold()))
    }
    return columns if len(columns) == 2 else {}


def _cells(line: str) -> list[str]:
    row = line.strip()
    if "|" not in row:
        return []
    cells = _CELL_END.split(row.removeprefix("|").removesuffix("|"))
    return [_CELL_BREAK.sub("\n", cell.replace(r"\|", "|")).strip() for cell in cells]
