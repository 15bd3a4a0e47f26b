"""A run as another process sees it: what the run publishes of itself, made a snapshot again."""

from __future__ import annotations

from typing import Any

from vqa_async.watch.snapshot import EndpointView, ErrorView, Snapshot
from vqa_async.watch.speed import Speed, TimeLeft


def snapshot_from(facts: dict[str, Any], *, title: str) -> Snapshot | None:
    """The snapshot whose ``progress_facts`` these are; None where they are of another version."""
    try:
        return Snapshot(
            title=title,
            elapsed_s=facts["elapsed_s"],
            done=facts["done"],
            failed=facts["failed"],
            total=0 if facts["left"] is None else facts["done"] + facts["failed"] + facts["left"],
            is_exact=facts["left_is_exact"],
            speed=Speed(
                facts["rate"],
                facts["overall_rate"],
                facts["prompt_token_rate"],
                facts["completion_token_rate"],
            ),
            time_left=_time_left(facts["time_left_s"]),
            in_flight=facts["in_flight"],
            width=facts["width"],
            rpm=facts["rpm"],
            retried=facts["retries"],
            prompt_tokens=facts["prompt_tokens"],
            completion_tokens=facts["completion_tokens"],
            cost=facts["cost"],
            waits_for=facts["waits_for"] or "",
            is_held_up=facts["is_held_up"],
            endpoints=tuple(EndpointView(**one) for one in facts["endpoints"]),
            errors=tuple(ErrorView(**one) for one in facts["errors"]),
        )
    except (KeyError, TypeError):
        return None


def _time_left(seconds: list[float | None] | None) -> TimeLeft | None:
    if seconds is None:
        return None
    low_s, high_s = seconds
    return TimeLeft(low_s or 0.0, float("inf") if high_s is None else high_s)
