"""The options of a report, once each: flags and Python keywords follow from the fields here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vqa_async.errors import ConfigError

Thumbnails = Literal["auto", "inside", "beside", "none"]

MOST_INSIDE = 12_000
"""Records, and images of records, up to which small copies go into the page: with them it stays below 60 MB,
and one file is what people can hand on."""


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What a report shows, and where its images are."""

    sample: int = 0
    """Show only so many of the records, drawn by their ids: the same ones each time. Counts and plots are
    those of the whole output. 0: all."""

    thumbnails: Thumbnails = "auto"
    """Where small copies of the images go: inside the page; beside it, in a folder PAGE.files; or none.
    auto: inside up to 12,000 records and images, beside for more."""

    title: str = ""
    """Title of the page. Default: the name of the output."""

    verify_threshold: float = 0.5
    """Agreement, from 0 to 1, below which a verified pair counts as flagged 'disagreement'."""

    def __post_init__(self) -> None:
        if self.sample < 0:
            raise ConfigError("--sample must not be negative.")
        if self.thumbnails not in ("auto", "inside", "beside", "none"):
            raise ConfigError(f"--thumbnails must be auto, inside, beside or none, not {self.thumbnails!r}.")
        if not 0 <= self.verify_threshold <= 1:
            raise ConfigError("--verify-threshold must be from 0 to 1.")

    def place_for(self, images: int) -> Thumbnails:
        """Where the small copies of so many images go."""
        if self.thumbnails != "auto":
            return self.thumbnails
        return "inside" if images <= MOST_INSIDE else "beside"
