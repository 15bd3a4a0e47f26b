"""The panel: a snapshot and the size of a terminal -> lines. Pure; nothing here knows the time or a file.

Each line has a rank. A short terminal loses the lines of the highest ranks, a narrow one the last facts of
each line; a line never wraps. So what a person looks for first is there at any size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from vqa_async.chat import printable
from vqa_async.watch.snapshot import EndpointView, ErrorView, Snapshot
from vqa_async.watch.words import count, duration, money, rate

LABEL = 11
"""Columns of the names before the facts."""

WIDEST = 100
"""Columns beyond which a bar only gets longer, and facts are no easier to find."""

_GAP = "   "
_ENDPOINTS = 8
"""Endpoints shown at most; those that do not answer come first."""

_ERRORS = 4

_COLOURS = {"up": "green", "limited": "yellow", "down": "red", "closed": "red", "unknown": "dim"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A few words and how they look."""

    words: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the panel.

    Attributes:
        rank: 0 is never left out; the higher, the earlier it is.
        label: what it is about.
        facts: the first is always there, cut off if it must be.
    """

    rank: int
    label: str
    facts: tuple[Fact, ...]


def panel(snapshot: Snapshot, width: int, height: int, *, unicode: bool = True) -> list[Text]:
    """The lines for a terminal of ``width`` columns and ``height`` rows, each at most ``width`` wide.

    Args:
        unicode: whether the terminal can show more than ASCII.
    """
    columns = max(8, min(width, WIDEST))
    lines = list(_lines(snapshot))
    if snapshot.share is not None:
        lines.insert(0, Line(1, "", ()))  # the bar
    kept = _fitting(lines, max(1, height))
    return [
        _drawn(line, columns, unicode) if line.facts else _bar(snapshot, columns, unicode) for line in kept
    ]


def _fitting(lines: list[Line], height: int) -> list[Line]:
    """The ``height`` lines that matter most, in their order."""
    ranked = sorted(range(len(lines)), key=lambda at: (lines[at].rank, at))
    return [lines[at] for at in sorted(ranked[:height])]


def _lines(s: Snapshot) -> Iterator[Line]:
    yield Line(0, "Records", _records(s))
    yield Line(2, "Rate", _rates(s))
    if s.waits_for:
        style = "yellow" if s.is_held_up else ""
        yield Line(1 if s.is_held_up else 5, "Waits for", (Fact(printable(s.waits_for), style),))
    if s.in_flight is not None:
        yield Line(3, "In flight", _in_flight(s))
    if s.prompt_tokens or s.completion_tokens:
        yield Line(6, "Tokens", _tokens(s))
    if s.cost is not None:
        yield Line(4, "Cost", _cost(s))
    for at, endpoint in enumerate(_chosen(s.endpoints)):
        yield Line(8 + at, "Endpoints" if at == 0 else "", _endpoint(endpoint, s.endpoints))
    if len(s.endpoints) > _ENDPOINTS:
        yield Line(8 + _ENDPOINTS, "", (Fact(f"and {len(s.endpoints) - _ENDPOINTS} more", "dim"),))
    for at, error in enumerate(s.errors[:_ERRORS]):
        yield Line(7 + 2 * at, "Errors" if at == 0 else "", _error(error))


def _records(s: Snapshot) -> tuple[Fact, ...]:
    about = "" if s.is_exact else "about "
    facts = [Fact(f"{s.done:,} done{f' of {about}{s.total:,}' if s.total else ''}", "bold")]
    facts.append(Fact(f"{s.failed:,} failed", "red" if s.failed else "dim"))
    if s.left is not None:
        facts.append(Fact(f"{about}{s.left:,} left"))
    return (*facts, Fact(duration(s.elapsed_s), "dim"))


def _rates(s: Snapshot) -> tuple[Fact, ...]:
    facts = [Fact(f"{rate(s.speed.now)} now"), Fact(f"{rate(s.speed.overall)} overall", "dim")]
    if s.time_left is not None:
        facts.insert(1, Fact(f"{s.time_left} left", "cyan"))
    return tuple(facts)


def _in_flight(s: Snapshot) -> tuple[Fact, ...]:
    facts = [Fact(f"{s.in_flight:,}{f' of {s.width:,}' if s.width else ''}")]
    if s.rpm:
        facts.append(Fact(f"{s.rpm:,.0f}/min allowed", "dim"))
    if s.retried:
        facts.append(Fact(f"{s.retried:,} retried", "yellow"))
    return tuple(facts)


def _tokens(s: Snapshot) -> tuple[Fact, ...]:
    return (
        Fact(f"{s.speed.tokens_in:,.0f}/s in"),
        Fact(f"{s.speed.tokens_out:,.0f}/s out"),
        Fact(f"{short(s.prompt_tokens)} in, {short(s.completion_tokens)} out so far", "dim"),
    )


def short(number: int) -> str:
    """A large number in few characters: 950, 12.3 k, 4.5 M."""
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**4, "k")):
        if number >= size:
            return f"{number / (1000 if unit == 'k' else size):,.1f} {unit}"
    return f"{number:,}"


def _cost(s: Snapshot) -> tuple[Fact, ...]:
    assert s.cost is not None
    facts = [Fact(f"{money(s.cost)} so far")]
    if s.share and s.share < 1 and s.cost > 0 and s.retried is not None and not s.is_held_up:
        asked = s.speed.overall * s.elapsed_s
        if s.left and asked:
            facts.append(Fact(f"about {money(s.cost + s.left * s.cost / asked)} at the end", "dim"))
    return tuple(facts)


def _chosen(endpoints: Sequence[EndpointView]) -> list[EndpointView]:
    """Those that are shown, in their order; where there are too many, those with trouble first."""
    if len(endpoints) <= _ENDPOINTS:
        return list(endpoints)
    ranked = sorted(range(len(endpoints)), key=lambda at: (endpoints[at].health == "up", at))
    return [endpoints[at] for at in sorted(ranked[:_ENDPOINTS])]


def _endpoint(e: EndpointView, all_of_them: Sequence[EndpointView]) -> tuple[Fact, ...]:
    widest = min(32, max(cell_len(one.name) for one in all_of_them))
    state = min(24, max(len(one.state) for one in all_of_them))
    facts = [Fact(set_cell_size(printable(e.name), widest))]
    if state:
        facts.append(Fact(f"{printable(e.state):<{state}}", _COLOURS[e.health]))
    if e.in_flight is not None:
        facts.append(Fact(f"{f'{e.in_flight:,} of {e.width:,}':>8}"))
    if e.requests is not None:
        facts.append(Fact(f"{count(e.requests, 'request'):>14}", "dim"))
        facts.append(Fact(f"{count(e.errors, 'error'):>9}", "red" if e.errors else "dim"))
    if e.answered is not None:
        facts.append(Fact(f"{e.answered:,} answered"))
    if e.latency_s:
        facts.append(Fact(duration(e.latency_s), "dim"))
    return tuple(facts)


def _error(e: ErrorView) -> tuple[Fact, ...]:
    counts = [f"{e.failed:,} failed"] * bool(e.failed) + [f"{e.retried:,} retried"] * bool(e.retried)
    style = "red" if e.failed else "yellow"
    return (Fact(f"{printable(e.code)}: {', '.join(counts)}", style), Fact(printable(e.message), "dim"))


# --- drawing ------------------------------------------------------------------------------------------


def _drawn(line: Line, columns: int, unicode: bool) -> Text:
    label = LABEL if columns >= 30 else 0
    text = Text(f"{line.label:<{LABEL}}" if label else "", style="", no_wrap=True, end="")
    text.stylize("dim", 0, len(text))
    for at, fact in enumerate(line.facts):
        words, gap = fact.words, _GAP if at else ""
        room = columns - text.cell_len - len(gap)
        # A message may be cut; a number may not, and neither may what is too short to say anything.
        is_prose = at == len(line.facts) - 1 and line.label in ("Errors", "") and fact.style == "dim"
        if cell_len(words) > room and at and not (is_prose and room > 12):
            break
        text.append(gap + _cut(words, room, unicode), fact.style)
    text.rstrip()
    return text


def _cut(words: str, room: int, unicode: bool) -> str:
    if cell_len(words) <= room:
        return words
    mark = "…" if unicode else "..."
    return set_cell_size(words, max(0, room - len(mark))).rstrip() + mark if room > len(mark) else mark[:room]


def _bar(s: Snapshot, columns: int, unicode: bool) -> Text:
    assert s.share is not None
    full, empty = ("━", "━") if unicode else ("#", "-")
    said = f"{_percent(s.share):>5}"
    width = max(1, columns - len(said) - 1)
    done = round(width * s.share)
    failed = min(done, max(1, round(width * s.failed / s.total))) if s.failed else 0
    text = Text(no_wrap=True, end="")
    text.append(full * (done - failed), "green")
    text.append(full * failed, "red")
    text.append((empty if unicode else "-") * (width - done), "bright_black")
    return text.append(f" {said}", "bold")


def _percent(share: float) -> str:
    """Never 100 % before the end."""
    return f"{min(int(share * 100), 99 if share < 1 else 100)} %"
