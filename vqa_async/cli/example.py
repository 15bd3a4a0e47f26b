"""What `check` shows of the first good record: the messages that a run would send for it, in short."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from vqa_async.chat import printable
from vqa_async.cli.findings import Findings
from vqa_async.models import ImageRef, Record
from vqa_async.prompts import Asking

_SHOWN_TEXT = 200


def example_lines(findings: Findings, asking: Asking) -> list[str]:
    """The messages, for people: one line each."""
    turns = example_json(findings, asking) or []
    shown = [f"{turn['role']}: {_start(turn['text'])}" for turn in turns]
    return [f"{'' if number else 'Asked':11}{line}" for number, line in enumerate(shown)]


def example_json(findings: Findings, asking: Asking) -> list[dict[str, str]] | None:
    """The same for programs, in full; null where no record can be asked about."""
    if findings.first is None:
        return None
    return [{"role": role, "text": text} for role, text in _turns(findings.first.record, asking)]


def _turns(record: Record, asking: Asking) -> Iterator[tuple[str, str]]:
    own = record.asked.system if record.asked is not None else None
    system = asking.system if own is None else own
    if system and not any(message.role == "system" for message in record.messages):
        yield "system", system
    for message in record.messages:
        yield message.role, _text(message.parts)


def _text(parts: Sequence[str | ImageRef]) -> str:
    return " ".join("[image]" if isinstance(part, ImageRef) else part for part in parts)


def _start(text: str) -> str:
    line = printable(text[: 10 * _SHOWN_TEXT])
    return line if len(line) <= _SHOWN_TEXT else line[: _SHOWN_TEXT - 3] + "..."
