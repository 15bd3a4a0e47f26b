"""A record as a line beside the file of requests, from which its result is made when the answer is there.

So neither the input nor its images are needed any more: they may have moved or changed by then. The row is
written as it would stand in the output.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Any, NamedTuple

from vqa_async.journal.json_text import from_json, to_json
from vqa_async.models import Asked, Group, Record

_PLAIN_ID = re.compile(r"(?!vqa-)[A-Za-z0-9._:-]{1,64}", re.ASCII)
"""Ids that every provider takes as they are: OpenAI gives no limit, others know 64 characters."""


def custom_id(record: Record) -> str:
    """The name of a record's request: its id, or where that is long or odd, a digest of it."""
    if _PLAIN_ID.fullmatch(record.id):
        return record.id
    return f"vqa-{blake2b(record.id.encode('utf-8', 'surrogatepass'), digest_size=16).hexdigest()}"


class Waiting(NamedTuple):
    """A record whose request is in a batch, and the digest of that request."""

    record: Record
    digest: str


def encode(name: str, record: Record, digest: str) -> bytes:
    """The line for ``record``, newline included."""
    line: dict[str, Any] = {
        "custom_id": name,
        "id": record.id,
        "index": record.index,
        "digest": digest,
        "row": dict(record.row),
    }
    if record.asked is not None:
        line["asked"] = _asked(record.asked)
    return to_json(line) + b"\n"


def _asked(asked: Asked) -> dict[str, Any]:
    return {
        "params": None if asked.params is None else dict(asked.params),
        "style": asked.style,
        "question": asked.question,
        "group": None if asked.group is None else [asked.group.id, asked.group.number, asked.group.of],
    }


def names(line: bytes) -> tuple[str, str]:
    """The custom_id and the record's id in a line."""
    values = from_json(line)
    return values["custom_id"], values["id"]


def decode(line: bytes) -> Waiting:
    """The record in a line; without its messages, which were sent."""
    values = from_json(line)
    asked = values.get("asked")
    if asked is not None:
        group = None if asked["group"] is None else Group(*asked["group"])
        asked = Asked(asked["params"], None, asked["style"], asked["question"], group)
    record = Record(values["id"], values["index"], values["row"], (), "", asked)
    return Waiting(record, values["digest"])
