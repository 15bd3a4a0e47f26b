"""A line of a file of results -> the reply in it, or why there is none. Bytes in, values out."""

from __future__ import annotations

from typing import Any, NamedTuple

from vqa_async.chat import printable
from vqa_async.errors import BatchError
from vqa_async.journal.json_text import from_json, to_json
from vqa_async.transport import Response

_CODES = frozenset(["batch_expired", "batch_cancelled", "batch_failed"])

UNANSWERED = {
    "expired": ("batch_expired", "The batch expired before this record was answered."),
    "cancelled": ("batch_cancelled", "The batch was cancelled before this record was answered."),
    "failed": ("batch_failed", "The batch failed as a whole."),
}
_LEFT_OUT = ("batch_missing", "The batch ended without a result for this record.")


class Line(NamedTuple):
    """What a line says of one request."""

    custom_id: str
    outcome: Response | BatchError


def read_line(line: bytes) -> Line | None:
    """The result in ``line``; None where it is none that could be told whose it is."""
    try:
        value = from_json(line)
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(value.get("custom_id"), str):
        return None
    return Line(value["custom_id"], _outcome(value))


def _outcome(value: dict[str, Any]) -> Response | BatchError:
    response = value.get("response")
    if isinstance(response, dict) and isinstance(response.get("status_code"), int):
        return Response(response["status_code"], {}, to_json(response.get("body")))
    error = value.get("error")
    error = error if isinstance(error, dict) else {}
    code, message = error.get("code"), error.get("message")
    said = printable(str(message or "It gave neither a reply nor an error."))
    return BatchError(f"The batch has no answer: {said}", code=code if code in _CODES else "batch_missing")


def unanswered(status: str, trouble: str = "") -> BatchError:
    """The error of a record that is in no file of results."""
    code, sentence = UNANSWERED.get(status, _LEFT_OUT)
    said = f" {printable(trouble)}." if trouble else ""
    return BatchError(f"{sentence}{said} Ask for it live, or in another batch.", code=code)
