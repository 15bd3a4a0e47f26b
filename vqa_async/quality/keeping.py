"""A line of an output -> the pairs that stay, and the reasons for which others go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from vqa_async.quality.run_checks import RunChecks
from vqa_async.quality.verdicts import pair_id

DISAGREEMENT = "disagreement"
"""The verifying model says otherwise. No check to be chosen: it comes with --verify."""

Scores = Callable[[str], float | None]
"""Agreement by the id of the check of a pair; None where it was not verified."""


class Kept(NamedTuple):
    """What became of the pairs of a line.

    Attributes:
        pairs: those that stay, as they stand in the line.
        dropped: for each of the others, why: its flags.
    """

    pairs: list[dict[str, Any]]
    dropped: list[tuple[str, ...]]


class Checks:
    """What is known of pairs beside the flags that they bear. One for each pass, in input order.

    Args:
        scores: agreement of the pairs that were verified.
        threshold: below this agreement a pair is dropped for ``disagreement``.
        across_run: the checks against the pairs that came before.
    """

    def __init__(
        self, scores: Scores | None = None, *, threshold: float = 0.5, across_run: RunChecks | None = None
    ) -> None:
        self._scores = scores
        self._threshold = threshold
        self._across_run = across_run
        self.verified = 0

    def flags(self, record_id: str, number: int, question: str, answer: str) -> tuple[str, ...]:
        """The flags of a pair that bears none."""
        score = self._scores(pair_id(record_id, number, question, answer)) if self._scores else None
        self.verified += score is not None
        if score is not None and score < self._threshold:
            return (DISAGREEMENT,)
        return self._across_run.flags(question, answer) if self._across_run else ()


def kept_pairs(line: Mapping[str, Any], checks: Checks | None = None) -> Kept:
    """The pairs of ``line`` that stay.

    Args:
        line: a line of OUT.jsonl, with ``qa_pairs`` and ``_meta``.
        checks: what is known besides; by default only the flags in the line count.
    """
    kept = Kept([], [])
    id = line["_meta"]["id"]
    for number, pair in enumerate(line.get("qa_pairs") or (), 1):
        flags = tuple(pair.get("flags") or ())
        if not flags and checks is not None:
            flags = checks.flags(id, number, pair["question"], pair["answer"])
        if flags:
            kept.dropped.append(flags)
        else:
            kept.pairs.append(pair)
    return kept
