"""Lines of OpenAI's Batch API, as rows: ``{"custom_id", "method", "url", "body": {"messages", ...}}``. Pure.

``custom_id`` becomes the id, ``messages`` the conversation, and what else the body asks for (temperature,
max_tokens, ...) the row's ``_params``. Not taken over: the model, which is that of the run, and whether the
reply is streamed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

_REQUEST = frozenset(["custom_id", "method", "url", "body"])
_NO_PARAMETERS = frozenset(["messages", "model", "stream", "stream_options"])


def is_batch_request(line: bytes) -> bool:
    """Whether a line of JSON is such a request."""
    try:
        row = orjson.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and _is_request(row)


def batch_rows(conversation_key: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What makes a row of ours of each request; other rows stay as they are."""

    def adapt(row: dict[str, Any]) -> dict[str, Any]:
        if not _is_request(row):
            return row
        body = row["body"]
        adapted = {"id": row["custom_id"], conversation_key: body["messages"]}
        if parameters := {name: value for name, value in body.items() if name not in _NO_PARAMETERS}:
            adapted["_params"] = parameters
        return adapted | {name: value for name, value in row.items() if name not in _REQUEST}

    return adapt


def _is_request(row: dict[str, Any]) -> bool:
    return "custom_id" in row and isinstance(body := row.get("body"), dict) and "messages" in body
