"""Asyncio-native batch engine: images in, question-answer data out, and never a record lost.

The map. Imports go downwards only; errors, models and keytable are free to all.

    0 words        errors  models  keytable  schemas  parts  config  logs
    1 decisions    chat  prompts  qa  retry  limits          no await, no file, no socket, no clock
                   tokens  spending  structured  quality
    2 edges        sources  images  transport  endpoints     one kind of I/O each
                   journal
    3 one record   client  preflight
    4 one run      events  engine  batches  watch
                   logbook  metrics  tracing                 who watches it
    5 afterwards   export  review  merging  report
    6 doors        api  stages  watchers  cli  dataflow  distributed  server  workspace  testing
                   dashboard

Names are loaded when they are first used, so importing the package costs next to nothing and loads neither
the HTTP client nor the imaging library.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from vqa_async.logs import name_runs

if TYPE_CHECKING:
    from vqa_async.api import arun, open_engine, run, stream
    from vqa_async.config import Config
    from vqa_async.engine import Engine, RunSummary
    from vqa_async.errors import (
        ConfigError,
        ImageError,
        JournalError,
        RecordError,
        RequestError,
        VQAError,
    )
    from vqa_async.events import Event, Observer, RunStatistics
    from vqa_async.merging import MergeSummary, merge
    from vqa_async.models import (
        Completion,
        Failure,
        ImageRef,
        Message,
        QAPair,
        Record,
        Result,
        Success,
        Usage,
    )
    from vqa_async.qa import format_pairs, parse_pairs
    from vqa_async.transport import Request, Response, Transport

_HOMES = {
    "api": ("arun", "open_engine", "run", "stream"),
    "config": ("Config",),
    "engine": ("Engine", "RunSummary"),
    "errors": ("ConfigError", "ImageError", "JournalError", "RecordError", "RequestError", "VQAError"),
    "events": ("Event", "Observer", "RunStatistics"),
    "merging": ("MergeSummary", "merge"),
    "models": (
        "Completion",
        "Failure",
        "ImageRef",
        "Message",
        "QAPair",
        "Record",
        "Result",
        "Success",
        "Usage",
    ),
    "qa": ("format_pairs", "parse_pairs"),
    "transport": ("Request", "Response", "Transport"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = version("vqa-async")

__all__ = [
    "Completion",
    "Config",
    "ConfigError",
    "Engine",
    "Event",
    "Failure",
    "ImageError",
    "ImageRef",
    "JournalError",
    "MergeSummary",
    "Message",
    "Observer",
    "QAPair",
    "Record",
    "RecordError",
    "Request",
    "RequestError",
    "Response",
    "Result",
    "RunStatistics",
    "RunSummary",
    "Success",
    "Transport",
    "Usage",
    "VQAError",
    "arun",
    "format_pairs",
    "merge",
    "open_engine",
    "parse_pairs",
    "run",
    "stream",
]


# A library says nothing unless its host has set up logging.
logging.getLogger("vqa_async").addHandler(logging.NullHandler())
name_runs()


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'vqa_async' has no attribute {name!r}")
    return getattr(import_module(f"vqa_async.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
