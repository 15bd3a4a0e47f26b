"""The image field of a row, read into image references. Nothing is opened here.

A string is an http(s) URL, a ``data:`` URI, or a path as written; Python callers may also give bytes of an
image file and path objects. Whatever else stands in the field is refused with the place where it stands.
"""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any

from vqa_async.errors import RecordError
from vqa_async.models import ImageRef

# Two letters at least: "C:\images\a.png" is a path. "://" at least: so is "scan 10:15.png".
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")


def read_images(value: Any, field: str) -> list[ImageRef]:
    """The references in an image field, in order; none when it is absent, None or an empty list.

    Raises:
        RecordError: something in the field is no image reference; the message names where.
    """
    if value is None:
        return []
    if type(value) is list and len(value) == 1 and _is_plain_path(value[0]):
        return [ImageRef("path", value[0])]  # the usual case, without building names for messages
    if isinstance(value, list | tuple):
        return [read_image(item, f"{field}[{number}]") for number, item in enumerate(value)]
    return [read_image(value, field)]


def read_image(value: Any, path: str) -> ImageRef:
    """One reference; ``path`` says where in the row it stands.

    Raises:
        RecordError: ``value`` is no image reference.
    """
    if isinstance(value, str) and value:
        return _read_text(value, path)
    if isinstance(value, PurePath):
        return ImageRef("path", str(value))
    if isinstance(value, bytes | bytearray | memoryview) and len(value):
        return ImageRef("bytes", bytes(value))
    raise _refusal(f"{path} must be a path, a URL or a data: URI, not {describe(value)}.")


def describe(value: Any) -> str:
    """What ``value`` is, in the words of JSON where it has any."""
    if value is None:
        return "null"
    if isinstance(value, str | bytes | list | dict) and not value:
        return f"an empty {_JSON_NAMES.get(type(value), 'value')}"
    name = _JSON_NAMES.get(type(value), type(value).__name__)
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


_JSON_NAMES = {
    str: "string",
    int: "number",
    float: "number",
    bool: "boolean",
    list: "list",
    dict: "object",
}


def _is_plain_path(value: Any) -> bool:
    return type(value) is str and bool(value) and ":" not in value


def _read_text(value: str, path: str) -> ImageRef:
    if ":" not in value:
        return ImageRef("path", value)
    if value[:5].lower() == "data:":
        return ImageRef("data", value)
    scheme = _SCHEME.match(value)
    if scheme is None:
        return ImageRef("path", value)
    name = scheme[1].lower()
    if name in ("http", "https"):
        return ImageRef("url", value)
    raise _refusal(
        f"{path} has the scheme {name}://, which cannot be read: give a path, http(s):// or data:."
    )


def _refusal(message: str) -> RecordError:
    return RecordError(message, code="bad_image_reference")
