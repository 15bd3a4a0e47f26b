"""`vqa-async quality`: what is kept of an output and what is dropped, as a table."""

from __future__ import annotations

from pathlib import Path

import orjson

from vqa_async.cli.console import emit
from vqa_async.cli.texts import review_json
from vqa_async.config import Quality, Verification
from vqa_async.quality import Review
from vqa_async.review import review


def show_review(output: Path, quality: Quality, verification: Verification, *, json: bool) -> int:
    """Print what is kept of ``output`` and what is dropped, by reason."""
    found = review(output, quality, verification)
    if json:
        emit(orjson.dumps(review_json(found), option=orjson.OPT_INDENT_2).decode())
    else:
        emit("\n".join(review_lines(found)))
    return 0


def review_line(review: Review) -> str:
    """The same in a sentence, for the end of a run."""
    reasons = ", ".join(f"{count:,} {flag}" for flag, count in review.reasons.most_common())
    verified = f", {review.verified:,} verified" if review.verified else ""
    why = f" ({reasons})" if reasons else ""
    return (
        f"Quality: {review.accepted:,} of {review.records:,} records accepted; {review.kept:,} of "
        f"{review.pairs:,} pairs kept{verified}, {review.dropped:,} dropped{why}."
    )


def review_lines(review: Review) -> list[str]:
    """The table of kept and dropped, for people."""
    rows = [
        ("Records", review.records, f"{review.accepted:,} accepted"),
        ("Pairs", review.pairs, f"{review.verified:,} verified" if review.verified else ""),
        ("Kept", review.kept, _share(review.kept, review.pairs)),
        ("Dropped", review.dropped, _share(review.dropped, review.pairs)),
        *((f"  {flag}", count, "") for flag, count in review.reasons.most_common()),
    ]
    if review.without_pairs:
        rows.insert(1, ("  no pairs", review.without_pairs, ""))
    width = max(len(name) for name, _, _ in rows)
    return [f"{name:<{width}} {count:>9,}  {said}".rstrip() for name, count, said in rows]


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""
