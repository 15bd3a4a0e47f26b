"""How numbers are said to people."""

from __future__ import annotations


def duration(seconds: float) -> str:
    """Seconds as people say them: 42 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str) -> str:
    """``number`` of a thing: 1 request, 2 requests."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def money(dollars: float) -> str:
    """US dollars, with cents at least, and more places for less."""
    places = 2 if dollars >= 1 else 4
    return f"${dollars:,.{places}f}"


def rate(per_s: float) -> str:
    """So many a second, with a decimal where that says something."""
    return f"{per_s:,.1f}/s" if per_s < 100 else f"{per_s:,.0f}/s"
