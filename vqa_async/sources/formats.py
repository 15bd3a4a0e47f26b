"""What kind of input this is, from its first bytes and its name. Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

import orjson

from vqa_async.errors import InputError

InputFormat: TypeAlias = Literal["auto", "json", "jsonl", "folder"]
FileFormat: TypeAlias = Literal["array", "values", "jsonl"]

_LINE_SUFFIXES = (".jsonl", ".ndjson")

_FOREIGN = {
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"[\0": "UTF-16 text: save it as UTF-8",
    b"{\0": "UTF-16 text: save it as UTF-8",
    b"\0[": "UTF-16 text: save it as UTF-8",
    b"\0{": "UTF-16 text: save it as UTF-8",
    b"\x1f\x8b": "compressed with gzip: unpack it first, or pipe it in: gunzip -c FILE | vqa-async run -",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"BZh": "compressed with bzip2: unpack it first",
    b"PK\x03\x04": "a zip file: unpack it first",
    b"PAR1": "a Parquet file: convert it to JSON lines first",
    b"\xff\xd8\xff": "an image: give the folder that it is in",
    b"\x89PNG": "an image: give the folder that it is in",
}


def file_format(head: bytes, name: str, asked: InputFormat = "auto") -> FileFormat:
    """How to read a file that begins with ``head``.

    Args:
        head: the first bytes, without a UTF-8 byte order mark.
        name: what the input is called; its suffix counts.
        asked: what the user said that it is.

    Raises:
        InputError: it is no JSON in any form.
    """
    for start, what in _FOREIGN.items():
        if head.startswith(start):
            raise InputError(f"{name} is {what}.")
    if asked == "jsonl" or (asked == "auto" and name.lower().endswith(_LINE_SUFFIXES)):
        return "jsonl"
    text = head.lstrip(b" \t\r\n")
    if text[:1] == b"[":
        return "array"
    if text and text[:1] != b"{":
        raise InputError(
            f"{name} is no JSON: it begins with {text[:12].decode('utf-8', 'replace')!a}. "
            "Give a JSON array, JSON lines or a folder of images."
        )
    return "jsonl" if asked == "auto" and _has_whole_line(text) else "values"


def _has_whole_line(text: bytes) -> bool:
    # Any line will do, not only the first: that one may be the bad one.
    return any(line.startswith(b"{") and _is_json(line) for line in text.split(b"\n"))


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
