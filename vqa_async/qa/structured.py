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
from vqa_async.qa.json_mending import mended_json
from vqa_async.qa.labels import KEY_KINDS, Kind
from vqa_async.qa.parts import Part, matched

_MAX_HEIGHT = 3  # of objects in objects: a pair that holds a box that holds a point
_TOKEN = re.compile(r'"[^"\\]*+(?>(?:\\.[^"\\]*+)*)"?|[{}]', re.DOTALL)
_PAIR_OF_STRINGS = re.compile(
    r'\[\s*+("[^"\\]*+(?>(?:\\.[^"\\]*+)*)")\s*+,\s*+("[^"\\]*+(?>(?:\\.[^"\\]*+)*)")\s*+\]', re.DOTALL
)


class _Fields(list[tuple[str, Any]]):
    """The fields of an object in order, repeated names included."""


# Not strict: models put real line breaks into strings. Numbers stay as they are written.
_DECODER = json.JSONDecoder(
    strict=False, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_Fields
)
_ASKS = ("?", "？", "؟")
_SPEAKER_KEYS = ("from", "role", "speaker")
_SPEECH_KEYS = ("value", "content", "text")
_SPEAKERS: dict[str, Kind] = {
    **dict.fromkeys(("human", "user"), "question"),
    **dict.fromkeys(("gpt", "assistant", "model", "ai", "bot"), "answer"),
}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_CELL_END = re.compile(r"(?<!\\)\|")
_CELL_BREAK = re.compile(r"<br ?/?>", re.IGNORECASE)
_DASHES = re.compile(r"[\s|:+-]*+$")


def read_json(text: str) -> tuple[QAPair, ...]:
    """The pairs in the JSON objects of ``text``, in the order in which they begin."""
    found = [_loaded(text[start:end]) for start, end in sorted(_objects(text), key=lambda span: span[0])]
    pairs = tuple(pair for fields in found for pair in _pairs_of(fields))
    if pairs:
        return pairs
    return matched(turn for fields in found if (turn := _turn(fields))) or _lists_of_two(text)


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


def _loaded(text: str) -> _Fields:
    """``text`` as an object, without fields where it is none."""
    closed = text[:-1].rstrip().removesuffix(",") + "}"  # a comma after the last field is a common slip
    loaded = _decoded(closed)
    if loaded is None:
        loaded = _decoded(mended_json(text))
    return loaded if isinstance(loaded, _Fields) else _Fields()


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None


def _pairs_of(fields: _Fields) -> tuple[QAPair, ...]:
    if fields and all(key.rstrip().endswith(_ASKS) for key, _ in fields):
        return matched(
            part
            for key, value in fields
            for part in (_text_part("question", key), _text_part("answer", value))
        )
    parts = [part for key, value in fields for part in _parts(key, value)]
    return matched(sorted(parts, key=lambda part: part.kind == "answer"))  # an answer may come first


def _parts(key: str, value: Any) -> list[Part]:
    stem = key.strip().rstrip("0123456789")
    name = re.sub(r"[_#-]", " ", stem.casefold()).strip()
    kind = KEY_KINDS.get(name.removesuffix("text").rstrip())
    if kind:
        return [_text_part(kind, value, key.strip()[len(stem) :])]
    kind = KEY_KINDS.get(name.removesuffix("s"))
    if kind and isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_text_part(kind, item) for item in value]
    return []


def _text_part(kind: Kind, value: Any, number: str = "") -> Part:
    return Part(kind, number, _value_text(value).split("\n"))


def _turn(fields: _Fields) -> Part | None:
    """A turn of a conversation, as training data has them."""
    by_name = dict(fields)
    who = next((by_name[key] for key in _SPEAKER_KEYS if key in by_name), None)
    kind = _SPEAKERS.get(who.casefold()) if isinstance(who, str) else None
    said = next((by_name[key] for key in _SPEECH_KEYS if key in by_name), None)
    return _text_part(kind, said) if kind and said is not None else None


def _lists_of_two(text: str) -> tuple[QAPair, ...]:
    """``[["What is it?", "A mug"], ...]``"""
    parts: list[Part] = []
    for found in _PAIR_OF_STRINGS.finditer(text):
        try:
            question, answer = (_DECODER.decode(string) for string in found.groups())
        except ValueError:
            continue
        if question.rstrip().endswith(_ASKS):
            parts += (_text_part("question", question), _text_part("answer", answer))
    return matched(parts)


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
