"""A run as its files show it, where it does not publish how it fares: from the times of its answers."""

from __future__ import annotations

from collections import Counter

from vqa_async.journal import Survey
from vqa_async.watch.snapshot import EndpointView, ErrorView, Snapshot, host_of
from vqa_async.watch.speed import ESTIMATE_S, NOW_S, Look, Speed, time_left

_STEP_S = 5.0


def observed(found: Survey, left: int | None, *, now: float, title: str) -> Snapshot:
    """What can be told at ``now`` (Unix time) of a run that goes on.

    Args:
        left: records that are open, None where that is not known.
    """
    done, started_at = found.replayed.succeeded, found.run.get("started_at")
    elapsed_s = max(0.0, now - started_at) if isinstance(started_at, float | int) else 0.0
    looks = _looks(found, now, min(ESTIMATE_S, elapsed_s))
    latest = sum(now - at <= NOW_S for at in found.finished_at)
    return Snapshot(
        title=title,
        elapsed_s=elapsed_s,
        done=done,
        failed=found.failed,
        total=0 if left is None else done + found.failed + left,
        is_exact=left is not None,
        speed=Speed(
            now=latest / min(NOW_S, elapsed_s) if elapsed_s else 0.0,
            overall=found.since_start / elapsed_s if elapsed_s else 0.0,
        ),
        time_left=None if left is None else time_left(looks, left, is_exact=True),
        prompt_tokens=found.prompt_tokens,
        completion_tokens=found.completion_tokens,
        endpoints=tuple(
            EndpointView(host_of(url), "unknown", "", answered=answers, latency_s=seconds / answers)
            for url, (answers, seconds) in found.endpoints.items()
        ),
        errors=tuple(ErrorView(code, failed) for code, failed in found.failures_by_type.most_common()),
    )


def _looks(found: Survey, now: float, over_s: float) -> list[Look]:
    """Counters as a watcher would have seen them, every few seconds of the last minute."""
    steps = Counter(int((now - at) // _STEP_S) for at in found.finished_at if 0 <= now - at < over_s)
    looks, finished = [Look(0.0, 0, 0, 0)], 0
    last = int(over_s // _STEP_S)
    for step in range(last, -1, -1):
        finished += steps[step]
        looks.append(Look(over_s - step * _STEP_S, finished, 0, 0))
    return [look for at, look in enumerate(looks) if at == 0 or look.at_s > looks[at - 1].at_s]
