"""Numbers as people say them, for pages: 1,234; 12.3k; 3 min 20 s; 850 ms. Decisions only."""

from __future__ import annotations

import time


def number(value: float) -> str:
    """1,234; 0.45; 12.5."""
    if isinstance(value, int) or value == int(value):
        return f"{int(value):,}"
    return f"{value:,.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def short(value: float) -> str:
    """A number where there is little room: 950, 12.3k, 4.5M."""
    for limit, mark in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if mark == "k" else limit)
            return f"{scaled:.3g}{mark}"
    return number(value)


def seconds(value: float) -> str:
    """A time: 850 ms, 4.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if value < 0.9995:
        return f"{value * 1000:.3g} ms" if value else "0 s"
    if value < 59.5:
        return f"{value:.3g} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def moment(at: float) -> str:
    """A Unix time as date and time of this machine's zone, "" where there is none."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at else ""
    except (OverflowError, ValueError, OSError):
        return ""


def money(dollars: float) -> str:
    """US dollars, with cents at least, and more places for less."""
    return f"${dollars:,.{2 if dollars >= 1 else 4}f}"


def percent(part: float, whole: float) -> str:
    """A share: 4.2 %, 36 %, below 0.1 %."""
    if not whole:
        return ""
    share = 100 * part / whole
    if 0 < share < 0.1:
        return "<0.1 %"
    return f"{share:.0f} %" if share >= 10 or share == int(share) else f"{share:.1f} %"


def many(count: int, noun: str) -> str:
    """1 record, 2 records."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
