"""A result as one line of JSON, and back. Bytes in, bytes out.

A line holds the input row unchanged, the answer or the error, and ``_meta``, which is always last. The last
field of ``_meta`` is ``crc``, the CRC-32 of all of the line before it. So a line that was torn, flipped or
edited is found without guessing, and replay reads the few bytes of ``_meta`` instead of the whole line.

    {"image": ["a.png"], ..., "vqa": "...", "qa_pairs": [...], "_meta": {"id": ..., ..., "crc": "89abcdef"}}

Where a row has a field of its own under one of these names, the line has ours: a name stands there once.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from vqa_async.errors import RequestError, StatusError, VQAError
from vqa_async.journal.json_text import from_json, to_json
from vqa_async.models import Asked, Failure, QAPair, Success

_META = b',"_meta":{"id":'
_CRC = b',"crc":"%08x"}}'
_TAIL = len(_CRC % 0)
_ENDS_LIKE_A_LINE = re.compile(rb',"crc":"[0-9a-f]{8}"}}\n?\Z')

MESSAGE_CHARS = 500


class LineMeta(NamedTuple):
    """What replay needs of a line; ``retryable`` is None in the line of a success."""

    id: str
    position: int
    retryable: bool | None


def encode_success(success: Success, output_key: str) -> bytes:
    """The line of OUT.jsonl for ``success``, newline included."""
    completion = success.completion
    meta: dict[str, Any] = {
        "id": success.record.id,
        "index": success.record.index,
        "model": completion.model,
        "endpoint": success.endpoint,
        "finish_reason": completion.finish_reason,
        "usage": {
            "prompt_tokens": completion.usage.prompt_tokens,
            "completion_tokens": completion.usage.completion_tokens,
        },
        "attempts": success.attempts,
        "latency_s": round(success.latency_s, 4),
        "finished_at": round(success.finished_at, 3),
        "request_digest": success.request_digest,
    }
    if completion.finish_reason == "length":
        meta["truncated"] = True
    if success.batch:
        meta["batch"] = success.batch
    if success.record.asked is not None:
        meta |= _own(success.record.asked)
    pairs = [
        _pair(pair) if pair.flags else {"question": pair.question, "answer": pair.answer}
        for pair in success.pairs
    ]
    answer: dict[str, Any] = {output_key: completion.text, "qa_pairs": pairs}
    if success.structured is not None:
        answer["structured"] = success.structured
    return _line(success.record.row, answer, meta)


def _pair(pair: QAPair) -> dict[str, Any]:
    return {"question": pair.question, "answer": pair.answer, "flags": pair.flags}


def encode_failure(failure: Failure) -> bytes:
    """The line of OUT.failures.jsonl for ``failure``, newline included."""
    meta = {
        "id": failure.record.id,
        "index": failure.record.index,
        "attempts": failure.attempts,
        "retryable": failure.error.retryable,
        "finished_at": round(failure.finished_at, 3),
    }
    if failure.batch:
        meta["batch"] = failure.batch
    if failure.record.asked is not None:
        meta |= _own(failure.record.asked)
    return _line(failure.record.row, {"error": describe(failure.error, failure.attempts)}, meta)


def _own(asked: Asked) -> dict[str, Any]:
    """What a record was asked that is its own, as it stands in ``_meta``."""
    own: dict[str, Any] = {"style": asked.style} if asked.style else {}
    if asked.group is not None:
        own["group"] = {"id": asked.group.id, "number": asked.group.number, "of": asked.group.of}
        own["question"] = asked.question
    return own


def describe(error: VQAError, attempts: int) -> dict[str, Any]:
    """``error`` as it stands in a failure line."""
    return {
        "type": type(error).__name__,
        "code": error.code,
        "message": error.message[:MESSAGE_CHARS],
        "status": error.status if isinstance(error, StatusError) else None,
        "attempts": attempts,
        "retryable": error.retryable,
        "endpoint": error.endpoint if isinstance(error, RequestError) else None,
    }


def _line(row: Mapping[str, Any], result: dict[str, Any], meta: dict[str, Any]) -> bytes:
    reserved = {*result, "_meta"}
    kept = row if reserved.isdisjoint(row) else {k: v for k, v in row.items() if k not in reserved}
    body = to_json({**kept, **result, "_meta": meta})[:-2]
    return body + _CRC % zlib.crc32(body) + b"\n"


# The fields that replay needs stand first. An id that is not plain ASCII, and whatever else is unusual, is
# left to the parser.
_USUAL = re.compile(
    rb',"_meta":{"id":"([ !#-\[\]-~]+)","index":(\d+),"(?:model"|attempts":\d+,"retryable":(true|false))'
)
_RETRYABLE = {None: None, b"true": True, b"false": False}


def decode_meta(line: bytes) -> LineMeta | None:
    """What replay needs of ``line`` (without its newline); None where it is not as it was written."""
    if line.endswith(_CRC % zlib.crc32(line[:-_TAIL])):
        usual = _USUAL.match(line, max(0, line.rfind(_META)))
        if usual is not None:
            id, index, retryable = usual.groups()
            return LineMeta(id.decode(), int(index), _RETRYABLE[retryable])
    fields = meta_fields(line)
    if fields is None:
        return None
    id, index, retryable = fields.get("id"), fields.get("index"), fields.get("retryable")
    return LineMeta(id, index, retryable) if isinstance(id, str) and isinstance(index, int) else None


def meta_fields(line: bytes) -> dict[str, Any] | None:
    """All of ``_meta`` but the checksum; None where the line is not as it was written."""
    body = line[:-_TAIL]
    if line[-_TAIL:] != _CRC % zlib.crc32(body):
        return None
    at = body.rfind(_META)  # ours is the last: inside a text its quotes would be escaped
    text = body[at + len(b',"_meta":') :] + b"}"
    try:
        return orjson.loads(text) if at >= 0 else None
    except orjson.JSONDecodeError:
        return _unusual_fields(text)


def _unusual_fields(text: bytes) -> dict[str, Any] | None:
    """The fields of a ``_meta`` whose id holds lone surrogates, as a file name may."""
    try:
        fields = from_json(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) else None


def decode_line(line: bytes) -> dict[str, Any]:
    """The whole object of a line that ``decode_meta`` has accepted."""
    decoded = from_json(line)
    assert isinstance(decoded, dict)
    return decoded


def is_written_out(line: bytes) -> bool:
    """Whether ``line``, which is not as it was written, was once written to its end, by us or by others.

    If so, it is no torn end of a write: somebody or something changed it, or put it there.
    """
    if _ENDS_LIKE_A_LINE.search(line):
        return True
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
