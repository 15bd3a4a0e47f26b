"""The plots of a report as data for its templates: bars and lines in the units of a drawing. No markup here.

A drawing is 400 wide; its text is as large as that of the page when it is shown 400 pixels wide. Colours come
from the style sheet, so that light and dark are one drawing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10

from vqa_async.report.figures import Figures
from vqa_async.report.safe import visible
from vqa_async.report.spread import Spread, Stretch
from vqa_async.report.wording import number, percent, seconds, short

WIDTH, HEIGHT = 400.0, 140.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 38.0, 6.0, 10.0, 22.0
_COLUMNS, _FEWEST_COLUMNS = 72, 12
_MOST_ROWS = 6
_PAUSE = 14.0
"""Width at which a pause between two runs is drawn, however long it was."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, with what is said of it when it is pointed at."""

    x: float
    y: float
    width: float
    height: float
    said: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A text at a place: of an axis, or of a line across the drawing."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """One drawing.

    Attributes:
        name: what its element is called.
        title: what is above it.
        said: its content as a sentence, for who does not see it.
        note: what stands beside the title.
        empty: what is said instead, where there is nothing to draw.
        bars: of a histogram.
        area, line: paths of a curve.
        up, across: marks of the axes.
        lines: lines from the bottom up, with their names.
        rows: names with a number each, drawn as bars from left to right.
        pauses: where time is left out.
    """

    name: str
    title: str
    said: str = ""
    note: str = ""
    empty: str = ""
    bars: Sequence[Bar] = ()
    area: str = ""
    line: str = ""
    up: Sequence[Mark] = ()
    across: Sequence[Mark] = ()
    lines: Sequence[Mark] = ()
    rows: Sequence[Row] = ()
    pauses: Sequence[float] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """A name with its count and its share of the largest, from 0 to 100."""

    name: str
    count: str
    share: float
    part: str = field(default="")


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
    top = _ceiling(max(max(column) for column in rates))
    columns = sum(len(column) for column in rates)
    room = WIDTH - _LEFT - _RIGHT - _PAUSE * (len(stretches) - 1)
    step = max(room, 60.0) / columns
    answers, lasted = sum(sum(s.counts) for s in stretches), sum(s.seconds for s in stretches)
    line, area, pauses, x = "", "", [], _LEFT
    for number_, column in enumerate(rates):
        if number_:
            pauses.append(round(x + _PAUSE / 2, 1))
            x += _PAUSE
        line += _steps(x, step, column, top)
        area += _steps(x, step, column, top) + f"V{_base():g}H{x:.1f}Z"
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
        up=_up(top),
        across=(Mark(_LEFT, "0"), Mark(WIDTH - _RIGHT, seconds(lasted))),
        pauses=pauses,
    )


def _base() -> float:
    return HEIGHT - _BOTTOM


def _y(value: float, top: float) -> float:
    return round(_base() - (_base() - _TOP) * value / top, 1)


def _steps(x: float, step: float, column: Sequence[float], top: float) -> str:
    path = f"M{x:.1f} {_base():g}"
    for at, value in enumerate(column):
        path += f"V{_y(value, top):g}H{x + step * (at + 1):.1f}"
    return path


def _ceiling(value: float) -> float:
    """The end of an axis: a round number at or above ``value``, which is above 0."""
    scale = 10.0 ** floor(log10(value))
    return next(step * scale for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * scale >= value * 0.9999)


def _up(top: float, *, whole: bool = False) -> tuple[Mark, ...]:
    """The marks of an axis; without the one in the middle, where that would be half a thing."""
    values = (0, top) if whole and top % 2 else (0, top / 2, top)
    return tuple(Mark(_y(value, top), short(value) if value else "0") for value in values)


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
    span = WIDTH - _LEFT - _RIGHT
    places = [_LEFT + (log10(value) - first) / (last - first) * span for _, value in marks]
    return Plot(
        "latency",
        title,
        said=f"Latency of {number(len(spread))} answers: {words}, {seconds(high)} at most.",
        note=" · ".join(f"{name} {seconds(value)}" for name, value in marks),
        bars=_bars([counts[at] for at in range(bins)], said, "answers"),
        up=_up(_ceiling(max(counts.values())), whole=True),
        across=(Mark(_LEFT, seconds(bound(0))), Mark(WIDTH - _RIGHT, seconds(bound(bins)))),
        lines=tuple(Mark(round(x, 1), name) for x, (name, _) in zip(places, marks, strict=True)),
    )


def _bars(counts: Sequence[int], said: Sequence[str], noun: str) -> tuple[Bar, ...]:
    top = _ceiling(max(counts))
    step = (WIDTH - _LEFT - _RIGHT) / len(counts)
    gap = min(2.0, step * 0.2)
    made = []
    for at, count in enumerate(counts):
        if count:
            height = max(_base() - _y(count, top), 1.0)
            x = _LEFT + step * at + gap / 2
            made.append(
                Bar(
                    round(x, 1),
                    round(_base() - height, 1),
                    round(step - gap, 1),
                    round(height, 1),
                    f"{said[at]}: {count:,} {noun}",
                )
            )
    return tuple(made)


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
    step = (WIDTH - _LEFT - _RIGHT) / bins
    every = max(1, ceil(bins / 8))
    ticks = [Mark(_LEFT + step * (at + 0.5), short(at * width)) for at in range(0, bins, every)]
    return Plot(
        name,
        title,
        said=f"{title}: {number(middle)} {unit} in the middle, {number(most)} at most, "
        f"{spread.mean:.3g} on average.",
        note=f"median {short(middle)} · at most {short(most)}",
        bars=_bars([counts[at] for at in range(bins)], said, noun),
        up=_up(_ceiling(max(counts.values())), whole=True),
        across=[Mark(round(mark.at, 1), mark.text) for mark in ticks],
    )


def _range(first: int, width: int, unit: str, *, is_last: bool) -> str:
    if is_last:
        return f"{first:,} {unit} or more"
    return f"{first:,} {unit}" if width == 1 else f"{first:,} to {first + width - 1:,} {unit}"
