"""Where log lines go: the file that was named, else standard error, through the console that shows the run.

Set up for one command, and taken down with it.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from vqa_async.config import Config, LogLevel, Observability
from vqa_async.errors import ConfigError
from vqa_async.logs import JsonLines, TextLines, named_run


def louder(options: Observability, verbose: int) -> Observability:
    """``options`` with what ``-v`` and ``-vv`` ask for; a level that is named wins."""
    level: LogLevel = "debug" if verbose > 1 else "info"
    return replace(options, log_level=options.log_level or level) if verbose > 0 else options


class _ConsoleLines(logging.Handler):
    """Lines above the live display, whose console knows how to keep the two apart."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print the line; what cannot be printed any more is no reason for a run to end."""
        with contextlib.suppress(OSError, ValueError):
            self._console.print(Text(self.format(record)), soft_wrap=True)


class _FileLines(logging.FileHandler):
    """Lines in a file; when that cannot be written any more, it is said once."""

    def __init__(self, path: str, console: Console) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self._console = console
        self._has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """A full disk is no reason for a traceback with each line."""
        if not self._has_failed:
            self._has_failed = True
            self._console.print(Text(f"Note: the log {self.baseFilename} cannot be written."), soft_wrap=True)

    def close(self) -> None:
        """What could not be written before cannot be now either, and was said."""
        with contextlib.suppress(OSError):
            super().close()


@contextlib.contextmanager
def logged(config: Config, console: Console) -> Iterator[Config]:
    """``config`` without its wishes for a log, which are fulfilled until the block is left.

    Raises:
        ConfigError: the log file cannot be opened.
    """
    wishes = config.observability
    with named_run():
        if not wishes.logs:
            yield config
            return
        handler = _handler(wishes, console)
        handler.setFormatter(JsonLines() if wishes.log_format == "json" else TextLines())
        with _attached(handler, (wishes.log_level or "info").upper()):
            plain = replace(wishes, log_level=None, log_file="", log_format="text")
            yield replace(config, observability=plain)


def _handler(wishes: Observability, console: Console) -> logging.Handler:
    if not wishes.log_file:
        return _ConsoleLines(console)
    try:
        return _FileLines(wishes.log_file, console)
    except OSError as error:
        raise ConfigError(
            f"The log file {wishes.log_file} cannot be opened: {error.strerror}. Check --log-file."
        ) from None


@contextlib.contextmanager
def _attached(handler: logging.Handler, level: str) -> Iterator[None]:
    logger = logging.getLogger("vqa_async")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.setLevel(before)
        logger.removeHandler(handler)
        handler.close()
