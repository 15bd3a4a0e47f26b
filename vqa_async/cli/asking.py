"""What `check` asks of the endpoints: whether they can be used, and one record. In words and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vqa_async.chat import printable
from vqa_async.cli.texts import error_json
from vqa_async.config import Config
from vqa_async.models import Failure, Result, Success
from vqa_async.preflight import EndpointCheck
from vqa_async.watch.words import count, duration

_MOST_ATTEMPTS = 3
_LONGEST_S = 60.0
"""Seconds after which no other attempt is made, and for which an outage or 429s are borne with. Somebody sits
and waits: a check tells of trouble that a run would outlast."""

_SHOWN_TEXT = 80


def impatient(config: Config) -> Config:
    """``config`` with less patience than a run has."""
    retry, limits = config.retry, config.limits
    return replace(
        config,
        retry=replace(
            retry,
            max_attempts=min(_MOST_ATTEMPTS, retry.max_attempts),
            max_retry_time=min(_LONGEST_S, retry.max_retry_time),
        ),
        limits=replace(limits, max_outage=min(_LONGEST_S, limits.max_outage)),
    )


# --- endpoints ----------------------------------------------------------------------------------------


def endpoint_lines(checks: Sequence[EndpointCheck]) -> list[str]:
    """How each endpoint stands, for people: one line each."""
    return [f"Endpoint   {printable(check.url)} {_standing(check)}" for check in checks]


def _standing(check: EndpointCheck) -> str:
    model = printable(check.model)
    if check.error is not None:
        return f"cannot be used. {printable(check.error.message)}"
    if check.is_listed:
        return f"answers and lists {model}"
    if check.called:
        unlisted = "which it does not list" if check.models else "for it has no list of models"
        return f"answered a small call to {model}, {unlisted}"
    return f"answers, but does not tell whether it knows {model}"


def endpoints_json(checks: Sequence[EndpointCheck]) -> list[dict[str, Any]]:
    """The same for programs. ``listed`` is null where there is no list of models."""
    return [
        {
            "url": check.url,
            "model": check.model,
            "usable": check.error is None,
            "listed": None if check.models is None else check.is_listed,
            "answered_call": check.called,
            "error": error_json(check.error),
        }
        for check in checks
    ]


# --- the sample ---------------------------------------------------------------------------------------


def sample_lines(sample: Result) -> list[str]:
    """How the record that was asked about fared, for people."""
    if isinstance(sample, Failure):
        tries = f" after {sample.attempts} attempts" if sample.attempts > 1 else ""
        return [f"Sample     failed{tries}: {printable(sample.error.message)}"]
    usage = sample.completion.usage
    tokens = f"{usage.prompt_tokens:,} tokens in, {usage.completion_tokens:,} out"
    counted = tokens if usage.prompt_tokens else "tokens not told"
    cut = ", cut off by its length limit" if sample.completion.finish_reason == "length" else ""
    return [
        f"Sample     answered in {_latency(sample.latency_s)}: {counted}, "
        f"{count(len(sample.pairs), 'question-answer pair')}{cut}",
        f'           "{_start(sample.text)}"',
    ]


def _latency(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else duration(seconds)


def _start(text: str) -> str:
    line = printable(text[: 10 * _SHOWN_TEXT])
    return line if len(line) <= _SHOWN_TEXT else line[: _SHOWN_TEXT - 3] + "..."


def sample_json(sample: Result | None) -> dict[str, Any] | None:
    """The same for programs; what a failure has not is null."""
    if sample is None:
        return None
    facts: dict[str, Any] = {"id": sample.id, "answered": sample.ok, "attempts": sample.attempts}
    return facts | (_answered(sample) if isinstance(sample, Success) else _failed(sample))


_OF_ANSWERS = (
    "endpoint",
    "latency_s",
    "prompt_tokens",
    "completion_tokens",
    "pairs",
    "finish_reason",
    "text",
)


def _answered(sample: Success) -> dict[str, Any]:
    return {
        "endpoint": sample.endpoint,
        "latency_s": round(sample.latency_s, 4),
        "prompt_tokens": sample.completion.usage.prompt_tokens,
        "completion_tokens": sample.completion.usage.completion_tokens,
        "pairs": len(sample.pairs),
        "finish_reason": sample.completion.finish_reason,
        "text": _start(sample.text),
        "error": None,
    }


def _failed(sample: Failure) -> dict[str, Any]:
    return {**dict.fromkeys(_OF_ANSWERS), "error": error_json(sample.error)}
