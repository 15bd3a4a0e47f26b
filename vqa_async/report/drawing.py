"""Drawings in their units: what a plot is made of, and where things stand in it. Decisions only, no markup.

A drawing is 400 wide; its text is as large as that of the page when it is shown 400 pixels wide. Colours come
from the style sheet, so that light and dark are one drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10

from vqa_async.report.wording import short

WIDTH, HEIGHT = 400.0, 140.0
LEFT, RIGHT, TOP, BOTTOM = 38.0, 6.0, 10.0, 22.0


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
class Row:
    """A name with its count and its share of the largest, from 0 to 100."""

    name: str
    count: str
    share: float
    part: str = ""


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


def base() -> float:
    """Where bars stand."""
    return HEIGHT - BOTTOM


def y_of(value: float, top: float) -> float:
    """Where a value is, on an axis that ends at ``top``."""
    return round(base() - (base() - TOP) * value / top, 1)


def steps(x: float, step: float, column: Sequence[float], top: float) -> str:
    """The path of a curve in steps, from the ground up."""
    path = f"M{x:.1f} {base():g}"
    for at, value in enumerate(column):
        path += f"V{y_of(value, top):g}H{x + step * (at + 1):.1f}"
    return path


def ceiling(value: float) -> float:
    """The end of an axis: a round number at or above ``value``, which is above 0."""
    scale = 10.0 ** floor(log10(value))
    return next(step * scale for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * scale >= value * 0.9999)


def up(top: float, *, whole: bool = False) -> tuple[Mark, ...]:
    """The marks of an axis; without the one in the middle, where that would be half a thing."""
    values = (0, top) if whole and top % 2 else (0, top / 2, top)
    return tuple(Mark(y_of(value, top), short(value) if value else "0") for value in values)


def bars(counts: Sequence[int], said: Sequence[str], noun: str) -> tuple[Bar, ...]:
    """The bars of a histogram; where nothing is, there is none."""
    top = ceiling(max(counts))
    step = (WIDTH - LEFT - RIGHT) / len(counts)
    gap = min(2.0, step * 0.2)
    made = []
    for at, count in enumerate(counts):
        if count:
            height = max(base() - y_of(count, top), 1.0)
            x = LEFT + step * at + gap / 2
            made.append(
                Bar(
                    round(x, 1),
                    round(base() - height, 1),
                    round(step - gap, 1),
                    round(height, 1),
                    f"{said[at]}: {count:,} {noun}",
                )
            )
    return tuple(made)
