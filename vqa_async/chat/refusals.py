"""Replies that are errors -> one error of errors.py, whatever form the server gives them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vqa_async.chat.excerpts import decoded, excerpt, printable, shown
from vqa_async.errors import (
    AuthError,
    EndpointNotFound,
    ModelNotFound,
    QuotaExceeded,
    RateLimited,
    Rejected,
    RequestError,
    ResponseError,
    ServerError,
    StatusError,
)


@dataclass(frozen=True, slots=True)
class _ErrorFacts:
    """What an error reply says, in whatever form it says it.

    ``words`` are the short ones that name the cause (``code``, ``type``), in lower case, the best first.
    """

    message: str
    words: tuple[str, ...] = ()

    def says(self, words: frozenset[str]) -> bool:
        return not words.isdisjoint(self.words)


def error_in_ok_reply(reply: Mapping[str, Any]) -> RequestError:
    """The error for a body, or a choice in it, with an ``error`` field that came with status 200."""
    facts = _facts(reply)
    error = reply.get("error")
    status = _status(error.get("code")) if isinstance(error, dict) else None
    meant = status or next((_STATUS_OF[word] for word in facts.words if word in _STATUS_OF), None)
    if meant is not None:
        return _classify(meant, facts, None)
    return ResponseError(
        f"The endpoint answered 200 with an error: {facts.message or 'no message'}", excerpt=facts.message
    )


def _status(code: object) -> int | None:
    """An HTTP status that stands where an error code may stand, as a number or as text."""
    status = int(code) if isinstance(code, str) and code.isdecimal() and len(code) == 3 else code
    return status if isinstance(status, int) and 400 <= status < 600 else None


_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_UNKNOWN_MODEL = frozenset({"model_not_found", "invalid_model", "unknown_model"})
_CONTENT = frozenset({"content_filter", "content_policy_violation", "context_length_exceeded"})
_STATUS_OF = {
    **dict.fromkeys(_QUOTA, 429),
    **dict.fromkeys(_UNKNOWN_MODEL, 404),
    **dict.fromkeys(_CONTENT, 400),
    "rate_limit_exceeded": 429,
    "invalid_api_key": 401,
}
"""Error words whose meaning does not depend on the status that they come with."""


def read_error(status: int, body: bytes, *, retry_after_s: float | None, location: str = "") -> StatusError:
    """The error that a reply other than 200 stands for.

    Args:
        status: HTTP status.
        body: the reply's body, at most as large as the transport's cap.
        retry_after_s: the wait that the server asked for, None where it did not.
        location: the Location header, for redirects.
    """
    if 300 <= status < 400:
        target = f" to {printable(location)[:200]}" if location else ""
        return EndpointNotFound(
            f"The endpoint redirects{target} (status {status}); redirects are not followed, because images "
            "and key would go to another address. Give the final address with --base-url.",
            status=status,
            code="unexpected_redirect",
        )
    return _classify(status, _facts_of(body), retry_after_s)


_TAG = re.compile(rb"<(style|script|head)\b.*?</\1>|<[^>]*>", re.IGNORECASE | re.DOTALL)


def _facts_of(body: bytes) -> _ErrorFacts:
    reply = decoded(body)
    if body[:512].lstrip().lower().startswith((b"<!doctype", b"<html")):
        return _ErrorFacts(excerpt(_TAG.sub(b" ", body[:4096])).rstrip(". ") or "a web page")
    facts = _facts(reply) if isinstance(reply, dict) else _ErrorFacts("")
    return facts if facts.message else _ErrorFacts(excerpt(body).rstrip(". "), facts.words)


def _facts(reply: Mapping[str, Any]) -> _ErrorFacts:
    """Message and words from the forms in use: error object or string, ``message``, ``detail``."""
    error = reply.get("error")
    holder = error if isinstance(error, dict) else reply
    message = next((holder[key] for key in ("message", "detail", "error") if holder.get(key)), "")
    words = [holder.get("code"), holder.get("type")]
    return _ErrorFacts(
        shown(message).rstrip(". "),
        tuple(word.strip().lower().replace(" ", "_")[:80] for word in words if isinstance(word, str)),
    )


def _classify(status: int, facts: _ErrorFacts, retry_after_s: float | None) -> StatusError:
    kind = _kind(status, facts)
    return kind(
        _SENTENCES.get(kind, "The endpoint answered {status}: {message}").format(
            status=status, message=facts.message or "no message"
        ),
        status=status,
        retry_after_s=retry_after_s,
        code=_code(kind, facts),
        excerpt=facts.message,
    )


def _code(kind: type[StatusError], facts: _ErrorFacts) -> str | None:
    """The server's own word where a record is rejected (context_length_exceeded); ours elsewhere."""
    telling = (word for word in facts.words if _WORD.fullmatch(word) and not word.endswith("error"))
    return next(telling, None) if kind is Rejected else None


_WORD = re.compile(r"[a-z]+(_[a-z]+)+")


_SENTENCES: dict[type[StatusError], str] = {
    AuthError: "The endpoint refuses the API key ({status}): {message}",
    QuotaExceeded: "The account has no quota or credit left ({status}): {message}. "
    "Top it up or use another key, then run the same command again.",
    ModelNotFound: "The endpoint does not serve this model ({status}): {message}. Check --model.",
    EndpointNotFound: "There is no chat API at this address ({status}): {message}. "
    "Check --base-url; it usually ends in /v1.",
    RateLimited: "The endpoint limits the rate ({status}): {message}",
    ServerError: "The endpoint has trouble ({status}): {message}",
    Rejected: "The endpoint rejects this request ({status}): {message}",
}


def _kind(status: int, facts: _ErrorFacts) -> type[StatusError]:
    """The class of an error, by status first and by the server's words where a status has two meanings."""
    if status == 402 or facts.says(_QUOTA):
        return QuotaExceeded
    if 400 <= status < 500 and facts.says(_CONTENT):
        return Rejected  # some say so with 403
    if status in (401, 403):
        return AuthError
    if status == 404:
        return ModelNotFound if _names_model(facts) else EndpointNotFound
    if status in (405, 501):
        return EndpointNotFound
    if status == 400 and _unknown_model(facts):
        return ModelNotFound
    if status == 429:
        return RateLimited
    if status in (408, 409, 425) or status >= 500 or status < 400:
        return ServerError
    return Rejected


def _names_model(facts: _ErrorFacts) -> bool:
    return "model" in facts.message.lower() or any("model" in word for word in facts.words)


def _unknown_model(facts: _ErrorFacts) -> bool:
    """Whether a 400 is about the model and not about this record. Some gateways answer so.

    The sentence may quote the record, and records may say anything about models: so it counts only where it
    begins with the model, and gives its name in quotes or after an equals sign.
    """
    return facts.says(_UNKNOWN_MODEL) or _MODEL_SENTENCE.match(facts.message) is not None


_MODEL_SENTENCE = re.compile(
    r"""(?ix)
    (?: \{? ['"]? [\w/.]+ ['"]? :\s+ ['"]? ){0,3}           # litellm.BadRequestError: /chat/completions:
    (?: invalid\s+model\s+name\s+passed\s+in\s+model=
      | (?:invalid|unknown)\s+model:?\s+ [`'"]? [\w./:@-]+ [`'"]? $
      | (?:the\s+)? (?:requested\s+)? model \s+ (?P<quote>[`'"]) [\w./:@-]+ (?P=quote) \s+
        (?: does\s+not\s+exist | (?:is\s+|was\s+)?not\s+found | is\s+not\s+(?:available|supported|served) )
      | [\w.-]+/[\w./:@-]+ \s+ is\s+not\s+a\s+valid\s+model\s+id
      | model\s+not\s+(?:exist|found) $
    )""",
)
