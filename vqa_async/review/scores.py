"""What the verifying model said, read back: agreement by the id of a pair's check."""

from __future__ import annotations

from pathlib import Path

from vqa_async.errors import InputError, JournalDamaged
from vqa_async.journal.codec import LineMeta, decode_line
from vqa_async.journal.scanning import Line, scan
from vqa_async.keytable import KeyTable
from vqa_async.quality.keeping import Scores

_STEPS = 200
"""Scores are kept in one byte, in steps of half a percent."""

SCORE = "agreement"
"""Field of a line of OUT.checks.jsonl; null where the reply told nothing."""


def checks_output(output: Path) -> Path:
    """Where the verification of an output is kept: OUT.checks.jsonl."""
    return output.with_name(f"{output.name.removesuffix('.jsonl')}.checks.jsonl")


def read_scores(path: Path) -> Scores | None:
    """The scores in OUT.checks.jsonl, None where there is no such file.

    Raises:
        InputError: it cannot be read.
        JournalDamaged: a line is not as it was written.
    """
    table = KeyTable(key_bytes=10, value_bytes=1)

    def accept(meta: LineMeta, line: Line) -> str:
        score = decode_line(line.data).get(SCORE)
        if isinstance(score, int | float):
            table.set(meta.id, bytes([round(score * _STEPS)]))
        return ""

    def score_of(id: str) -> float | None:
        found = table.get(id)
        return None if found is None else found[0] / _STEPS

    try:
        findings = scan(path, accept, known=True, to_the_end=False)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"The checks {path} cannot be read: {error.strerror}.") from None
    if findings.damage:
        number, what = min(findings.damage.items())
        raise JournalDamaged(f"{path}, line {number}, {what}. Mend it with: vqa-async verify --repair.")
    return score_of
