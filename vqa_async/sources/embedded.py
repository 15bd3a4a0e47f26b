"""Images that stand in the input itself: in a column of a table, or as members of a tar shard. Pure.

A row that is written out never holds the bytes of an image. In their place stands a reference, one string:

    train-00000.parquet#17/image/0/cat.png      row 17 (from 0), column, position in a list, its name if any
    data-00000-of-00001.arrow#17/image          the same in a saved Hugging Face dataset
    shard-000000.tar#000017.left.jpg            the member of a shard

The file stands before the # as a path relative to the folder of the input, or as an address; what stands
after it is percent-encoded. ``image_bytes`` (stored_images.py) gives the bytes again.

What a row is asked by is another matter: there the bytes stand in the place of the image, so a row is known
by the digest of the image and not by where it lies; the same image in another file is the same record.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

import orjson

from vqa_async.config import Columns

_Refer: TypeAlias = Callable[[int | None, str], str]
"""Position in a list and name of an image -> the reference to it."""

_IMAGE_STRUCT = frozenset(["bytes", "path"])
_PLAIN = (str, int, float, bool)


class TableRow(NamedTuple):
    """One row as a reader of tables gives it.

    Attributes:
        asked: the row with the bytes of its images in their places.
        written: the row as it passes through; None where that is the same.
        where: its place, in words.
        reason: what is wrong with it, "" where nothing is; then ``raw`` is what it is known by.
        code: a word for that.
    """

    asked: dict[str, Any]
    written: dict[str, Any] | None
    where: str
    reason: str = ""
    code: str = "bad_row"
    raw: bytes = b""
    weight: int = 0


class Reference(NamedTuple):
    """What the reference to an embedded image says: the file, and the parts of what stands after the #."""

    file: str
    parts: tuple[str, ...]


def read_reference(text: str) -> Reference | None:
    """What ``text`` refers to; None where it is no reference to an embedded image."""
    file, mark, inside = text.rpartition("#")
    if not (mark and file and inside):
        return None
    return Reference(file, tuple(unquote(part) for part in inside.split("/")))


def member_reference(file: str, member: str) -> str:
    """The reference to a member of a shard."""
    return f"{file}#{quote(member)}"


def table_reference(file: str, row: int, column: str, position: int | None, name: str) -> str:
    """The reference to an image in a table."""
    parts = [str(row), quote(column, safe="")]
    if position is not None:
        parts.append(str(position))
    if name:
        parts.append(quote(name))
    return f"{file}#{'/'.join(parts)}"


def table_row(values: dict[str, Any], columns: Columns, file: str, number: int, where: str) -> TableRow:
    """A row of a table, in plain values: nulls are left out, for most stand for a key that was not there.

    Args:
        values: what the table holds, by column.
        columns: which of them hold the images and the conversation; texts in these may be JSON.
        file: the file as references name it.
        number: the row in the file, from 0.
        where: its place, in words.
    """
    written: dict[str, Any] = {}
    for name, value in values.items():
        if value is not None:
            refer = partial(table_reference, file, number, name)
            written[name] = value if type(value) in _PLAIN else _written(value, refer, None)
    for name in (columns.image_key, columns.conversation_key, "_params"):
        if type(text := written.get(name)) is str:
            written[name] = json_cell(text)
    images = values.get(columns.image_key)
    content = None if images is None or type(images) in _PLAIN else _asked(images)
    if content is None or not (weight := _weight(content)):
        return TableRow(written, None, where)
    return TableRow({**written, columns.image_key: content}, written, where, weight=weight)


def json_cell(text: str) -> Any:
    """The value in a cell that holds a JSON list or object; any other text is itself."""
    if text[:1] not in ("[", "{"):
        return text
    try:
        return orjson.loads(text)
    except ValueError:
        return text


def stored_bytes(value: Any) -> bytes | None:
    """The bytes of an image as tables hold one: as they are, or in Hugging Face's struct; else None."""
    if isinstance(value, dict) and value.keys() <= _IMAGE_STRUCT:
        value = value.get("bytes")
    return value if isinstance(value, bytes) else None


def _written(value: Any, refer: _Refer, position: int | None) -> Any:
    """``value`` as it passes through: plain, with references for bytes."""
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, bytes):
        return refer(position, "")
    if isinstance(value, dict):
        if value.keys() <= _IMAGE_STRUCT and "path" in value:
            name = value["path"]
            return name if value.get("bytes") is None else refer(position, name or "")
        return {key: _written(item, refer, position) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        nested = position is not None
        return [_written(item, refer, position if nested else at) for at, item in enumerate(value)]
    return _as_text(value)


def _as_text(value: Any) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return value.total_seconds() if isinstance(value, timedelta) else str(value)


def _asked(value: Any) -> Any:
    """The image field as it is asked by."""
    if isinstance(value, list | tuple):
        return [_asked(item) for item in value]
    content = stored_bytes(value)
    if content is not None or not isinstance(value, dict):
        return value if content is None else content
    return value.get("path") if value.keys() <= _IMAGE_STRUCT else value


def _weight(content: Any) -> int:
    """Bytes of images in an image field, 0 where there are none."""
    if isinstance(content, list):
        return sum(map(_weight, content))
    return max(1, len(content)) if isinstance(content, bytes) else 0
