"""What stands at the top of the page: how the output is, what it took, and who answered. Decisions only."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vqa_async.report.figures import Figures
from vqa_async.report.safe import visible
from vqa_async.report.wording import many, moment, money, number, percent, seconds, short

_SHOWN_NAMES = 4


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure with its name and what stands below it."""

    name: str
    value: str
    note: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """How the run stands: a word, what is meant by it, and its tone: good, warn, bad or busy."""

    word: str
    said: str
    tone: str


def state_of(run: dict[str, Any], figures: Figures, *, is_running: bool) -> State:
    """How the last run ended, by its run file."""
    word, reason = str(run.get("state", "unknown")), _sentence(str(run.get("reason") or ""))
    if is_running:
        return State(
            "running", "The run goes on: this page shows it as it was when the page was made.", "busy"
        )
    if word == "running":
        return State("killed", "The run was killed: run the same command again to go on.", "bad")
    if word == "finished":
        tone = "warn" if figures.failed else "good"
        return State("finished", f"Ended because {reason}" if reason else "", tone)
    if word == "stopped":
        return State("stopped early", reason or "Run the same command again to go on.", "bad")
    if word == "interrupted":
        return State("interrupted", reason or "Run the same command again to go on.", "warn")
    return State(visible(word), reason or "There is no run file beside the output.", "warn")


def _sentence(text: str) -> str:
    text = visible(text)
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def tiles(figures: Figures, run: dict[str, Any]) -> list[Tile]:
    """The main figures of an output."""
    return [
        Tile("Answered", number(figures.answered), _answered_note(figures)),
        Tile("Failed", number(figures.failed), _failed_note(figures), "bad" if figures.failed else ""),
        Tile("Pairs", number(figures.pairs), _pairs_note(figures)),
        Tile("Flagged", number(figures.flagged_pairs), _flagged_note(figures), _flagged_tone(figures)),
        Tile("Tokens", short(figures.prompt_tokens + figures.completion_tokens), _token_note(figures)),
        _cost_tile(figures, run),
        _time_tile(figures, run),
    ]


def _answered_note(figures: Figures) -> str:
    share = percent(figures.answered, figures.records)
    return f"{share} of {number(figures.records)} records" if figures.failed else many_records(figures)


def many_records(figures: Figures) -> str:
    """What stands below the number of answers where nothing failed."""
    return f"with {many(figures.images, 'image')}" if figures.images else "of text alone"


def _failed_note(figures: Figures) -> str:
    if not figures.failed:
        return "none"
    return f"{number(figures.retryable)} may pass on retry" if figures.retryable else "for good"


def _pairs_note(figures: Figures) -> str:
    if not figures.rows:
        return ""
    bare = f", {number(figures.without_pairs)} without" if figures.without_pairs else ""
    return f"{figures.pairs / figures.rows:.3g} per record{bare}"


def _flagged_note(figures: Figures) -> str:
    verified = f", {number(figures.verified)} verified" if figures.verified else ""
    return (percent(figures.flagged_pairs, figures.pairs) + " of pairs" if figures.pairs else "") + verified


def _flagged_tone(figures: Figures) -> str:
    return "warn" if figures.flagged_pairs else ""


def _token_note(figures: Figures) -> str:
    return f"{short(figures.prompt_tokens)} in, {short(figures.completion_tokens)} out"


def _cost_tile(figures: Figures, run: dict[str, Any]) -> Tile:
    counts = _counts(run)
    cost = counts.get("cost")
    if not isinstance(cost, int | float):
        return Tile("Cost", "–", "no price was given")
    if counts.get("skipped"):
        return Tile("Cost", money(cost), "of the last run")
    per = f"{money(1000 * cost / figures.answered)} per 1,000" if figures.answered else ""
    return Tile("Cost", money(cost), per)


def _time_tile(figures: Figures, run: dict[str, Any]) -> Tile:
    """The time of the run; over several, the time in which answers came."""
    counts = _counts(run)
    elapsed = counts.get("elapsed_s")
    if isinstance(elapsed, int | float) and elapsed > 0 and not counts.get("skipped"):
        rate = f"{short(figures.records / elapsed)} records/s"
        return Tile("Time", seconds(elapsed), rate)
    stretches = figures.times.stretches(1000)
    lasted = sum(stretch.seconds for stretch in stretches)
    if not lasted:
        return Tile("Time", "–", "")
    parts = f"in {len(stretches)} parts" if len(stretches) > 1 else "between first and last answer"
    return Tile("Time", seconds(lasted), parts)


def _counts(run: dict[str, Any]) -> dict[str, Any]:
    counts = run.get("counts")
    return counts if isinstance(counts, dict) else {}


def lines(figures: Figures, run: dict[str, Any]) -> list[tuple[str, str]]:
    """Facts with their names, below the main figures."""
    settings = run.get("settings")
    asked = str(settings.get("model") or "") if isinstance(settings, dict) else ""
    counts = _counts(run)
    found = [
        ("Model", named(figures.models) or visible(asked)),
        ("Endpoint" if len(figures.endpoints) < 2 else "Endpoints", named(figures.endpoints)),
        ("Input", visible(_last_part(str(run.get("input") or "")))),
        ("Styles", named(figures.styles)),
        ("Started", moment(_time(run.get("started_at")))),
        ("Ended", moment(_time(run.get("ended_at")))),
        ("Tried again", many(figures.repeated, "attempt") if figures.repeated else ""),
        ("Cut off", many(figures.truncated, "answer") if figures.truncated else ""),
        ("Before", _before(counts)),
    ]
    return [(name, text) for name, text in found if text]


def _last_part(path: str) -> str:
    """The name of a file: pages are handed on, and the folders of a machine are nobody's business."""
    return path if "://" in path else re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _before(counts: dict[str, Any]) -> str:
    skipped = counts.get("skipped")
    return f"{number(skipped)} records by earlier runs" if isinstance(skipped, int) and skipped > 0 else ""


def _time(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 < value < 1e11 else 0.0


def named(counts: Counter[str]) -> str:
    """The most frequent names, with their counts where there are several."""
    top: Sequence[tuple[str, int]] = counts.most_common(_SHOWN_NAMES)
    if len(top) == 1:
        return visible(top[0][0])
    more = f", {len(counts) - len(top)} more" if len(counts) > len(top) else ""
    return ", ".join(f"{visible(name)} ({count:,})" for name, count in top) + more
