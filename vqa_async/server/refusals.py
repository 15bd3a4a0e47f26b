"""Errors as an OpenAI-compatible API sends them: a status, a JSON body of one form, headers.

A Refusal travels as an exception from where the fault is found to the door, where it becomes the reply. It
never leaves the server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import orjson

INVALID = "invalid_request_error"

_TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class Refusal(Exception):
    """A request that is answered with an HTTP error.

    Attributes:
        status: HTTP status.
        message: one sentence for the person who sent the request.
        type: class of the error, as OpenAI names them.
        code: short word for the cause, None where OpenAI gives none.
        param: the field of the request that is at fault.
        headers: extra headers of the reply.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.code = code
        self.param = param
        self.headers = dict(headers or {})

    def body(self) -> bytes:
        """The JSON body."""
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.code}
        return orjson.dumps({"error": error})


def ordered_error(status: int, retry_after_s: float) -> Refusal:
    """The error that ``error_rate`` asked for."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else INVALID)
    headers = retry_headers(retry_after_s) if status in (429, 503) else {}
    message = f"This {status} was ordered: the endpoint runs with an error rate for it."
    return Refusal(status, message, type=kind, headers=headers)


def retry_headers(wait_s: float) -> dict[str, str]:
    """Headers that say when to come back; none where ``wait_s`` is 0.

    Retry-After takes whole seconds, so it is rounded up: who obeys it is never early.
    """
    if wait_s <= 0:
        return {}
    return {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
