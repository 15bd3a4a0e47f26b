"""What an export did, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class ExportSummary:
    """Counts of one export.

    Attributes:
        records: answered records in it; where failures were asked for alone, failed ones.
        failed: failed records among them.
        rows: rows written: more than records, where each pair is one.
        pairs: question-answer pairs in it.
        images: images in it, each as often as it is shown.
        splits: records by split.
        dropped: pairs left out, by reason.
        emptied: records left out because none of their pairs was left, by reason.
        unanswered: questions of its rows that have failed.
        without_image: records left out because an image could not be taken in.
        first_missing: what was wrong with the first of those.
        unfound: images that are referred to and were not found.
        files: what was written.
    """

    records: int = 0
    failed: int = 0
    rows: int = 0
    pairs: int = 0
    images: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    emptied: Counter[str] = field(default_factory=Counter)
    unanswered: int = 0
    without_image: int = 0
    first_missing: str = ""
    unfound: int = 0
    files: list[Path] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """What is worth saying beside the number of records, a sentence each."""
        said = []
        if self.splits:
            shares = ", ".join(f"{name} {count:,}" for name, count in self.splits.items())
            said.append(f"Splits: {shares} records.")
        if self.dropped:
            said.append(f"{self.pairs:,} pairs kept; left out: {_by_reason(self.dropped)}.")
        if self.emptied:
            said.append(
                f"{self.emptied.total():,} records of which no pair is left are not in it: "
                f"{_by_reason(self.emptied)}."
            )
        if self.unanswered:
            said.append(f"{self.unanswered:,} questions of these rows have failed and are not in it.")
        if self.without_image:
            said.append(
                f"{self.without_image:,} records are left out because an image cannot be taken in. "
                f"The first: {self.first_missing}"
            )
        if self.unfound:
            said.append(f"{self.unfound:,} images were not found; the export refers to them all the same.")
        return said


def _by_reason(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
