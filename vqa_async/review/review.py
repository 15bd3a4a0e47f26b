"""Kept and dropped, counted in one pass over an output in input order, so that every pass counts the same."""

from __future__ import annotations

import os

from vqa_async.config import RUN_CHECKS, Quality, Verification
from vqa_async.export.ordered import OrderedLines, Place
from vqa_async.journal import JournalPaths
from vqa_async.quality import Checks, Review, kept_pairs
from vqa_async.quality.run_checks import RunChecks
from vqa_async.review.scores import checks_output, read_scores


def open_checks(
    output: str | os.PathLike[str],
    quality: Quality | None = None,
    verification: Verification | None = None,
) -> Checks:
    """What is known of the pairs of ``output`` beside their flags, for one pass in input order.

    Raises:
        ConfigError: a check needs the extra `quality`.
        JournalDamaged: OUT.checks.jsonl is not as it was written.
    """
    quality, verification = quality or Quality(), verification or Verification()
    paths = JournalPaths.of(output)
    across = quality.chosen() & set(RUN_CHECKS)
    return Checks(
        read_scores(checks_output(paths.successes)),
        threshold=verification.verify_threshold,
        across_run=RunChecks(across, near_duplicate_ratio=quality.near_duplicate_ratio) if across else None,
    )


def review(
    output: str | os.PathLike[str],
    quality: Quality | None = None,
    verification: Verification | None = None,
    *,
    place: Place | None = None,
) -> Review:
    """What is kept of ``output`` and what is dropped, by reason.

    Args:
        output: OUT.jsonl; the flags in it count as they stand.
        quality: its checks against the whole run are made here.
        verification: its threshold is applied to the scores in OUT.checks.jsonl.
        place: see ``OrderedLines``.

    Raises:
        ConfigError: a check needs the extra `quality`.
        InputError: there is no such output.
        JournalDamaged: it is not as it was written.
    """
    checks = open_checks(output, quality, verification)
    paths = JournalPaths.of(output)
    found = Review()
    for line in OrderedLines(paths, known=paths.run.exists(), place=place):
        found.count(kept_pairs(line, checks))
    found.verified = checks.verified
    return found
