"""Log lines: the id of the run that each belongs to, and their forms for people and for programs.

Everything goes to the standard library's loggers ``vqa_async`` and ``vqa_async.dataflow``. Facts of a line
stand in ``extra={"facts": {...}}``, so that a program reads them as fields and not out of a sentence. Where
lines go is for the host to say; only the command line adds a handler.
"""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

LOGGERS = ("vqa_async", "vqa_async.dataflow")

_run: ContextVar[str] = ContextVar("vqa_async_run", default="")


def run_id() -> str:
    """The id of the run that the caller is part of, "" outside of runs."""
    return _run.get()


@contextmanager
def named_run() -> Iterator[str]:
    """A run of a name of its own, for all that begins in the block; the one around it if there is one."""
    if own := _run.get():
        yield own
        return
    token = _run.set(uuid.uuid4().hex[:12])
    try:
        yield _run.get()
    finally:
        with suppress(ValueError):  # a coroutine that was never finished is closed by whoever finds it
            _run.reset(token)


class _RunNames(logging.Filter):
    """Lets every line through, with the id of its run as ``record.run``."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.run = _run.get()
        return True


_run_names = _RunNames()


def name_runs() -> None:
    """Let every line of ours bear the id of its run."""
    for name in LOGGERS:
        logging.getLogger(name).addFilter(_run_names)


def facts_of(record: logging.LogRecord) -> Mapping[str, Any]:
    """What a line says, field by field."""
    facts = getattr(record, "facts", None)
    return facts if isinstance(facts, Mapping) else {}


def _on_one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text)


class TextLines(logging.Formatter):
    """A line for people: time, level, run, sentence, facts."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; what stands in it cannot break it, or speak to a terminal."""
        facts = "".join(f" {name}={_shown(value)}" for name, value in facts_of(record).items())
        run = getattr(record, "run", "") or "-"
        text = f"{_time_of(record)} {record.levelname} [{run}] {record.getMessage()}{facts}"
        error = f" | {self.formatException(record.exc_info)}" if record.exc_info else ""
        return _on_one_line(text + error)


class JsonLines(logging.Formatter):
    """A line for programs: one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """The object: ts, level, logger, run, message, then the facts."""
        line: dict[str, Any] = {
            "ts": _time_of(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "run": getattr(record, "run", ""),
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in facts_of(record).items() if name not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # In ASCII, so that a half of a surrogate pair in somebody's text is no reason to lose the line.
        return json.dumps(line, default=str)


def _time_of(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _shown(value: Any) -> str:
    return (
        json.dumps(value, default=str, ensure_ascii=False)
        if isinstance(value, str | dict | list)
        else str(value)
    )
