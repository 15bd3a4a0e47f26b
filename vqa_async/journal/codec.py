"""A result as one line of JSON, and back. Bytes in, bytes out.

A line holds the input row unchanged, the answer or the error, and ``_meta``, which is always last. The last
field of ``_meta`` is ``crc``, the CRC-32 of all of the line before it. So a line that was torn, flipped or
edited is found without guessing, and replay reads the few bytes of ``_meta`` instead of the whole line.

    {"image": ["a.png"], ..., "vqa": "...", "qa_pairs": [...], "_meta": {"id": ..., ..., "crc": "89abcdef"}}
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from vqa_async.errors import RequestError, StatusError, VQAError
from vqa_async.models import Failure, Success

LineKind = Literal["success", "failure"]

_META = b',"_meta":{"id":'
_CRC = b',"crc":"'
_TAIL = len(_CRC) + 8 + len(b'"}}')

MESSAGE_CHARS = 500


@dataclass(frozen=True, slots=True)
class LineMeta:
    """What replay needs of a line."""

    id: str
    index: int
    retryable: bool


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
    pairs = [{"question": pair.question, "answer": pair.answer} for pair in success.pairs]
    return _line(success.record.row, {output_key: completion.text, "qa_pairs": pairs}, meta)


def encode_failure(failure: Failure) -> bytes:
    """The line of OUT.failures.jsonl for ``failure``, newline included."""
    meta = {
        "id": failure.record.id,
        "index": failure.record.index,
        "attempts": failure.attempts,
        "retryable": failure.error.retryable,
        "finished_at": round(failure.finished_at, 3),
    }
    return _line(failure.record.row, {"error": describe(failure.error, failure.attempts)}, meta)


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
    body = _dumps({**kept, **result, "_meta": meta})[:-2]
    return b'%b%b%08x"}}\n' % (body, _CRC, zlib.crc32(body))


def _dumps(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=_foreign)
    except TypeError:
        # What orjson refuses and JSON allows: integers beyond 64 bit, keys that are not text.
        text = json.dumps(line, ensure_ascii=True, separators=(",", ":"), default=_foreign, allow_nan=False)
        return text.encode()


def _foreign(value: object) -> object:
    """Row values that JSON does not know, from Python callers: bytes are named, never written out."""
    if isinstance(value, bytes | bytearray | memoryview):
        return f"<{len(value)} bytes>"
    return str(value)


def decode_meta(line: bytes) -> LineMeta | None:
    """What replay needs of ``line`` (without its newline); None where it is not as it was written."""
    body, tail = line[:-_TAIL], line[-_TAIL:]
    if not tail.startswith(_CRC) or tail[len(_CRC) :] != b'%08x"}}' % zlib.crc32(body):
        return None
    at = body.rfind(_META)
    if at < 0:
        return None
    meta = orjson.loads(body[at + len(b',"_meta":') :] + b"}")
    return LineMeta(meta["id"], meta["index"], meta.get("retryable", False))


def decode_line(line: bytes) -> dict[str, Any]:
    """The whole object of a line that replay has accepted."""
    try:
        decoded = orjson.loads(line)
    except orjson.JSONDecodeError:
        decoded = json.loads(line)
    assert isinstance(decoded, dict)
    return decoded


def is_json_object(line: bytes) -> bool:
    """Whether ``line`` is a whole JSON object, of whatever origin: then it is no torn end of a write."""
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
