"""What is printed: results on stdout, all else on stderr, one line for each fact.

Standard error is never a reason for a run to end. Standard output is, but only after the run.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO

from rich.console import Console

from vqa_async.watch.saying import say

__all__ = ["OutputLost", "emit", "open_console", "say"]


class OutputLost(Exception):
    """Standard output cannot be written. Without a message where its reader has gone, as with `| head`."""


class _Stderr(Console):
    """Standard error as a console that falls silent when nobody can read it any more."""

    def on_broken_pipe(self) -> None:
        # `2>&1 | head`: the reader has seen enough. The run goes on; rich would end the process.
        self.fall_silent()

    def fall_silent(self) -> None:
        """Say nothing more: what is written to it fails."""
        self.quiet = True
        _drop(sys.stderr)


def open_console() -> _Stderr:
    """A console on standard error."""
    return _Stderr(stderr=True, highlight=False)


def emit(result: object) -> None:
    """Print a line of results on standard output.

    Raises:
        OutputLost: it cannot be written.
    """
    try:
        print(result, flush=True)
    except BrokenPipeError:
        _drop(sys.stdout)
        raise OutputLost from None
    except OSError as error:
        _drop(sys.stdout)
        raise OutputLost(f"Standard output cannot be written: {error.strerror}.") from None


def _drop(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, or Python complains about it when it ends (exit code 120)."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
