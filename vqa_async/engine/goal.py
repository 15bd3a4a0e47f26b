"""A number of accepted records at which a run has done what it was asked for, before its input ends."""

from __future__ import annotations

from vqa_async.models import Result, Success


class GoalReached(str):
    """Why a run has ended that has reached its goal: a sentence."""

    __slots__ = ()


class Goal:
    """Counts accepted records: those with a pair that bears no flag.

    What is in flight when it is reached is finished and kept, so at most ``max_workers`` are asked too many.

    Args:
        wanted: how many are still missing.
        total: how many are wanted in all, for the sentence at the end.
    """

    def __init__(self, wanted: int, total: int) -> None:
        self.left = max(0, wanted)
        self._total = total

    def count(self, result: Result) -> bool:
        """Count a result that is kept; whether the goal is reached."""
        if isinstance(result, Success) and any(not pair.flags for pair in result.pairs):
            self.left = max(0, self.left - 1)
        return not self.left

    def reached(self) -> GoalReached:
        """Why the run ends."""
        said = "1 record is" if self._total == 1 else f"{self._total:,} records are"
        return GoalReached(f"{said} accepted, as many as --accept wants")
