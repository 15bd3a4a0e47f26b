"""The plots of a report, each from what was counted: its drawing, and its content as a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import ceil, log10

from vqa_async.report.drawing import LEFT, RIGHT, WIDTH, Mark, Plot, Row, bars, base, ceiling, steps, up
from vqa_async.report.figures import Figures
from vqa_async.report.safe import visible
from vqa_async.report.spread import Spread, Stretch
from vqa_async.report.wording import number, percent, seconds, short

_COLUMNS, _FEWEST_COLUMNS = 72, 12
_MOST_ROWS = 6
_PAUSE, _PAUSES = 14.0, 100.0
"""Width at which a pause between two runs is drawn, however long it was; and all of them together at most."""


def plots(figures: Figures) -> list[Plot]:
    """All plots of a report, in the order in which they stand."""
    return [
        throughput(figures.times.stretches(min(_COLUMNS, max(_FEWEST_COLUMNS, figures.answered // 5)))),
        latency(figures.latency),
        failures(figures),
        pairs(figures),
        lengths(figures),
        flags(figures),
    ]


def throughput(stretches: Sequence[Stretch]) -> Plot:
    """Answers a second over time; pauses between runs are cut out."""
    title = "Answers per second"
    if not stretches:
        return Plot("throughput", title, empty="No answer yet.")
    rates = [[count / s.width_s for count in s.counts] for s in stretches]
    top = ceiling(max(max(column) for column in rates))
    columns = sum(len(column) for column in rates)
    pause = min(_PAUSE, _PAUSES / len(stretches))
    step = (WIDTH - LEFT - RIGHT - pause * (len(stretches) - 1)) / columns
    answers, lasted = sum(sum(s.counts) for s in stretches), sum(s.seconds for s in stretches)
    line, area, pauses, x = "", "", [], LEFT
    for number_, column in enumerate(rates):
        if number_:
            pauses.append(round(x + pause / 2, 1))
            x += pause
        line += steps(x, step, column, top)
        area += steps(x, step, column, top) + f"V{base():g}H{x:.1f}Z"
        x += step * len(column)
    mean = f"{short(answers / lasted)}/s on average"
    parts = f" in {len(stretches)} parts" if len(stretches) > 1 else ""
    return Plot(
        "throughput",
        title,
        said=f"{number(answers)} answers in {seconds(lasted)}{parts}, {mean}, "
        f"{short(max(max(column) for column in rates))}/s at most.",
        note=mean,
        area=area,
        line=line,
        up=up(top),
        across=(Mark(LEFT, "0"), Mark(WIDTH - RIGHT, seconds(lasted))),
        pauses=pauses,
    )


def latency(spread: Spread) -> Plot:
    """How long answers took, on a scale of powers, with percentiles."""
    title = "Latency"
    if not len(spread):
        return Plot("latency", title, empty="No answer yet.")
    low, high = min(spread.counts), max(spread.counts)
    first, last = log10(low) - 0.02, max(log10(high) + 0.02, log10(low) + 0.3)
    bins = 44
    counts: Counter[int] = Counter()
    for value, count in spread.counts.items():
        counts[min(bins - 1, int((log10(value) - first) / (last - first) * bins))] += count

    def bound(at: float) -> float:
        return float(10 ** (first + (last - first) * at / bins))

    said = [f"{seconds(bound(at))} to {seconds(bound(at + 1))}" for at in range(bins)]
    marks = [(f"p{share}", spread.percentile(share / 100)) for share in (50, 90, 99)]
    words = ", ".join(f"{name} {seconds(value)}" for name, value in marks)
    span = WIDTH - LEFT - RIGHT
    places = [LEFT + (log10(value) - first) / (last - first) * span for _, value in marks]
    return Plot(
        "latency",
        title,
        said=f"Latency of {number(len(spread))} answers: {words}, {seconds(high)} at most.",
        note=" · ".join(f"{name} {seconds(value)}" for name, value in marks),
        bars=bars([counts[at] for at in range(bins)], said, "answers"),
        up=up(ceiling(max(counts.values())), whole=True),
        across=(Mark(LEFT, seconds(bound(0))), Mark(WIDTH - RIGHT, seconds(bound(bins)))),
        lines=tuple(Mark(round(x, 1), name) for x, (name, _) in zip(places, marks, strict=True)),
    )


def failures(figures: Figures) -> Plot:
    """Failed records by the kind of their error."""
    title = "Failures by type"
    if not figures.failures:
        empty = "No record failed." if figures.answered else "No record has ended yet."
        return Plot("failures", title, empty=empty)
    return _rows("failures", title, figures.failures, figures.records, "records failed")


def flags(figures: Figures) -> Plot:
    """Pairs by what the checks found."""
    title = "Flags of pairs"
    if not figures.flags:
        empty = "No pair is flagged." if figures.pairs else "No pair yet."
        return Plot("flags", title, empty=empty)
    return _rows("flags", title, figures.flags, figures.pairs, "flags")


def _rows(name: str, title: str, counts: Counter[str], whole: int, noun: str) -> Plot:
    top = counts.most_common(_MOST_ROWS if len(counts) <= _MOST_ROWS else _MOST_ROWS - 1)
    rest = counts.total() - sum(count for _, count in top)
    shown = [*top, (f"{len(counts) - len(top)} others", rest)] if rest else top
    most = max(count for _, count in shown)
    said = ", ".join(f"{visible(kind)} {count:,}" for kind, count in shown)
    return Plot(
        name,
        title,
        said=f"{counts.total():,} {noun}: {said}.",
        note=f"{counts.total():,} {noun}",
        rows=[
            Row(visible(kind), f"{count:,}", round(100 * count / most, 2), percent(count, whole))
            for kind, count in shown
        ],
    )


def pairs(figures: Figures) -> Plot:
    """Pairs per answered record; where each has an image, that is what people call it by."""
    each_has_one = figures.images == figures.rows
    title = "Pairs per image" if each_has_one else "Pairs per record"
    if not figures.rows:
        return Plot("pairs", title, empty="No answer yet.")
    return _histogram("pairs", title, figures.pairs_per_row, "pairs", "records")


def lengths(figures: Figures) -> Plot:
    """Characters of answers."""
    title = "Answer length"
    if not len(figures.answer_chars):
        return Plot("lengths", title, empty="No answer yet.")
    return _histogram("lengths", title, figures.answer_chars, "characters", "answers")


def _histogram(name: str, title: str, spread: Spread, unit: str, noun: str) -> Plot:
    """Bars of one width from 0 to the 99th percentile; what is beyond counts in the last."""
    end = max(spread.percentile(0.99), 1.0)
    width = max(1, ceil((end + 1) / 32))
    bins = min(32, int(end // width) + 1)
    counts: Counter[int] = Counter()
    for value, count in spread.counts.items():
        counts[min(bins - 1, int(value // width))] += count
    said = [_range(at * width, width, unit, is_last=at == bins - 1) for at in range(bins)]
    middle, most = spread.percentile(0.5), spread.largest
    step = (WIDTH - LEFT - RIGHT) / bins
    every = max(1, ceil(bins / 8))
    ticks = [Mark(LEFT + step * (at + 0.5), short(at * width)) for at in range(0, bins, every)]
    return Plot(
        name,
        title,
        said=f"{title}: {number(middle)} {unit} in the middle, {number(most)} at most, "
        f"{spread.mean:.3g} on average.",
        note=f"median {short(middle)} · at most {short(most)}",
        bars=bars([counts[at] for at in range(bins)], said, noun),
        up=up(ceiling(max(counts.values())), whole=True),
        across=[Mark(round(mark.at, 1), mark.text) for mark in ticks],
    )


def _range(first: int, width: int, unit: str, *, is_last: bool) -> str:
    if is_last:
        return f"{first:,} {unit} or more"
    return f"{first:,} {unit}" if width == 1 else f"{first:,} to {first + width - 1:,} {unit}"
