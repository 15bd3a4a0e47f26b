"""A snapshot in one line, where there is no terminal to draw on: for a log, a pipe, ``grep``."""

from __future__ import annotations

from vqa_async.watch.snapshot import Snapshot


def plain_line(s: Snapshot) -> str:
    """``progress`` and all facts as ``name=value``, always the same names in the same order.

    What is not known is ``-``; a value with a space in it stands in double quotes.
    """
    facts = {
        "elapsed": f"{s.elapsed_s:.0f}s",
        "done": s.done,
        "failed": s.failed,
        "left": "-" if s.left is None else s.left if s.is_exact else f"~{s.left}",
        "rate": f"{s.speed.now:.1f}/s",
        "overall": f"{s.speed.overall:.1f}/s",
        "tokens_in": f"{s.speed.tokens_in:.0f}/s",
        "tokens_out": f"{s.speed.tokens_out:.0f}/s",
        "cost": "-" if s.cost is None else f"{s.cost:.4f}",
        "in_flight": "-" if s.in_flight is None else f"{s.in_flight}/{s.width}",
        "retried": "-" if s.retried is None else s.retried,
        "time_left": "-" if s.time_left is None else str(s.time_left),
        "errors": ",".join(f"{e.code}:{e.failed + e.retried}" for e in s.errors) or "-",
        "waits_for": s.waits_for or "-",
    }
    return " ".join(["progress", *(f"{name}={_quoted(value)}" for name, value in facts.items())])


def _quoted(value: object) -> str:
    text = str(value)
    return '"' + text.replace('"', "'") + '"' if " " in text else text
