"""What kind of input this is, from its first bytes and its name. Pure."""

from __future__ import annotations

import os
import re
from typing import Literal, TypeAlias

import orjson

from vqa_async.config import InputFormat
from vqa_async.errors import InputError
from vqa_async.sources.batch_requests import is_batch_request
from vqa_async.sources.compression import unpacked_name

__all__ = ["FileFormat", "InputFormat", "file_format", "suffix_of"]

FileFormat: TypeAlias = Literal[
    "array", "values", "jsonl", "batch", "csv", "tsv", "parquet", "arrow", "webdataset"
]

_LINE_SUFFIXES = (".jsonl", ".ndjson")
_JSON_SUFFIXES = (*_LINE_SUFFIXES, ".json")

# Whatever the user says that it is: it cannot be read as anything.
_FOREIGN = {
    b"\xff\xfe": "UTF-16 text: save it as UTF-8",
    b"\xfe\xff": "UTF-16 text: save it as UTF-8",
    b"[\0": "UTF-16 text: save it as UTF-8",
    b"{\0": "UTF-16 text: save it as UTF-8",
    b"\0[": "UTF-16 text: save it as UTF-8",
    b"\0{": "UTF-16 text: save it as UTF-8",
    b"\xfd7zXZ": "compressed with xz: unpack it first",
    b"BZh91AY&SY": "compressed with bzip2: unpack it first",
    b"PK\x03\x04": "a zip file: unpack it first",
    b"\xff\xd8\xff": "an image: give the folder that it is in",
    b"\x89PNG": "an image: give the folder that it is in",
}
_TAR_MARK, _TAR_MARK_AT = b"ustar", 257
# Of these the content is sure, so a wrong suffix does not count.
_STARTS: dict[bytes, FileFormat] = {
    b"PAR1": "parquet",
    b"ARROW1": "arrow",
    b"\xff\xff\xff\xff": "arrow",
}
_SUFFIXES: dict[str, FileFormat] = {".csv": "csv", ".tsv": "tsv", ".tab": "tsv", ".tar": "webdataset"}
_ASKED: dict[InputFormat, FileFormat] = {
    "jsonl": "jsonl",
    "batch": "batch",
    "csv": "csv",
    "tsv": "tsv",
    "parquet": "parquet",
    "arrow": "arrow",
    "webdataset": "webdataset",
}


def file_format(
    head: bytes, name: str, asked: InputFormat = "auto", columns: tuple[str, ...] = ()
) -> FileFormat:
    """How to read a file that begins with ``head``.

    Args:
        head: the first bytes, unpacked, without a UTF-8 byte order mark.
        name: what the input is called; its suffix counts.
        asked: what the user said that it is.
        columns: names by which the first line of a CSV file is known, where the suffix does not tell.

    Raises:
        InputError: it is nothing that can be read.
    """
    for start, what in _FOREIGN.items():
        if head.startswith(start):
            raise InputError(f"{name} is {what}.")
    if asked in _ASKED:
        return _ASKED[asked]
    if asked == "auto" and (told := _told(head, suffix_of(name), columns)):
        return told
    return _json_format(head, name, is_certain=asked != "auto")


def suffix_of(name: str) -> str:
    """The suffix that says what the content of a file is, in lower case, that of a compression left out."""
    return os.path.splitext(unpacked_name(name))[1].lower()


def _told(head: bytes, suffix: str, columns: tuple[str, ...]) -> FileFormat | None:
    """What content and suffix say for sure, if it is not JSON."""
    for start, format in _STARTS.items():
        if head.startswith(start):
            return format
    if head[_TAR_MARK_AT : _TAR_MARK_AT + len(_TAR_MARK)] == _TAR_MARK:
        return "webdataset"
    if suffix in _SUFFIXES:
        return _SUFFIXES[suffix]
    if suffix in _LINE_SUFFIXES:
        return "batch" if _is_batch(head) else "jsonl"
    return "csv" if suffix not in _JSON_SUFFIXES and _is_header(head, columns) else None


def _json_format(head: bytes, name: str, *, is_certain: bool) -> FileFormat:
    text = head.lstrip(b" \t\r\n")
    if text[:1] == b"[":
        return "array"
    if text and text[:1] != b"{":
        raise InputError(
            f"{name} is no JSON: it begins with {text[:12].decode('utf-8', 'replace')!a}. "
            "Give a JSON array, JSON lines or a folder of images, or say what it is with --format."
        )
    if is_certain or not _has_whole_line(text):
        return "values"
    return "batch" if _is_batch(text) else "jsonl"


def _has_whole_line(text: bytes) -> bool:
    # Any line will do, not only the first: that one may be the bad one.
    return any(line.startswith(b"{") and _is_json(line) for line in text.split(b"\n"))


def _is_batch(head: bytes) -> bool:
    return b'"custom_id"' in head and any(map(is_batch_request, head.split(b"\n")))


def _is_header(head: bytes, columns: tuple[str, ...]) -> bool:
    """Whether the first line names columns that we read."""
    line = head.lstrip(b"\r\n").split(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
    if line[:1] in ("{", "["):
        return False
    cells = {cell.strip().strip('"') for cell in re.split(r"[,;\t|]", line)}
    return not cells.isdisjoint(columns)


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True
