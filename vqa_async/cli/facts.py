"""Tables of facts for people: a name, and what there is to say; and what to do about each kind of error."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from vqa_async.chat import printable

Row: TypeAlias = tuple[str, str]
"""A name and a fact; "" for the name of what belongs to the row above."""

_NAMES = 11

_AGAIN = "the same command tries them again"
_MEND = "mend the input, then --retry-failed"
_ADVICE = {
    "timeout": f"{_AGAIN}; --timeout gives them longer",
    "context_length_exceeded": "too long for the model; smaller or fewer images, then --retry-failed",
    "content_filter": "the endpoint will not answer these; leave them out, or ask another model",
    "refused": "the model declined; ask another, or in other words, then --retry-failed",
    "empty_response": "look whether --max-tokens leaves room for an answer, then --retry-failed",
    "malformed_content": "what the model said stands in the failures file; --retry-failed asks again",
    "unexpected_tool_call": "the model called a tool; say in the prompt to answer, then --retry-failed",
    "cut_off": "raise --max-tokens, then --retry-failed",
    "invalid_structure": "no answer of the form that was asked for; --retry-failed asks again",
    "rejected": "what the endpoint said stands in the failures file; mend that, then --retry-failed",
    "internal": "an error of vqa-async; the failures file says where, please report it",
}
"""By code, where there is more to say than whether it may pass."""

_PASSING = {
    *("auth", "connect", "dns", "endpoint_not_found", "html_response", "insufficient_quota"),
    *("malformed_response", "model_not_found", "overloaded", "protocol", "rate_limited", "reset"),
    *("server_error", "tls_broken", "transport", "unexpected_stream"),
}
"""Codes of what may pass by itself, or once the endpoint is mended; the next run tries it again."""


def table(rows: Iterable[Row]) -> list[str]:
    """The rows as aligned lines, with nothing in them that a terminal could take for a command."""
    return [f"{name:<{_NAMES}}{printable(said)}" for name, said in rows]


def failure_rows(kinds: Mapping[str, int]) -> list[Row]:
    """A row for each kind of failure, the most frequent first, with what to do about it.

    Args:
        kinds: records by error code.
    """
    ranked = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{number:,} {code}: {advice(code)}" for code, number in ranked]
    return [("Failed" if at == 0 else "", line) for at, line in enumerate(said)]


def advice(code: str) -> str:
    """What to do about failures of the kind ``code``."""
    return _ADVICE.get(code) or (_AGAIN if code in _PASSING else _MEND)
