"""Kept and dropped, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vqa_async.quality.keeping import Kept


@dataclass(slots=True)
class Review:
    """What became of an output's records and pairs.

    Attributes:
        records: answered records.
        accepted: those of them of which at least one pair stays.
        without_pairs: those of them in whose answers no pair was found.
        pairs: pairs in all.
        kept: those that stay.
        verified: pairs that another answer or a judge was heard about.
        reasons: dropped pairs by flag; one that has several counts for each.
    """

    records: int = 0
    accepted: int = 0
    without_pairs: int = 0
    pairs: int = 0
    kept: int = 0
    verified: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def dropped(self) -> int:
        """Pairs that go."""
        return self.pairs - self.kept

    def count(self, kept: Kept) -> None:
        """Count one record."""
        self.records += 1
        self.accepted += bool(kept.pairs)
        self.without_pairs += not kept.pairs and not kept.dropped
        self.pairs += len(kept.pairs) + len(kept.dropped)
        self.kept += len(kept.pairs)
        for flags in kept.dropped:
            self.reasons.update(flags)
