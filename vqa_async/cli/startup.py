"""What is put in order before anything else: the standard streams, signals that come early, open files.

Loads nothing itself: until it has run, Ctrl-C would end in a traceback.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""What ends a command. A run drains on them, see ``signals``; all else just ends."""


class Interrupted(KeyboardInterrupt):
    """A signal came while no run was there to be drained."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def open_streams() -> None:
    """Make the three standard streams usable, whatever the shell did with them."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # `2>&-`: the next file to be opened, the results perhaps, would be taken for standard error.
            os.open(os.devnull, os.O_RDWR)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path is printed even if its name is not text or the terminal lacks a character of it.
        is_utf8 = sys.stdout.encoding.lower().replace("-", "") == "utf8"
        sys.stdout.reconfigure(errors="surrogateescape" if is_utf8 else "backslashreplace")


def raise_on_signals() -> None:
    """Let signals raise ``Interrupted``, except those that are ignored, as SIGHUP is under nohup."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _raise)


def end_on_signals() -> None:
    """Let signals end the process at once: all that is left to do is to leave."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def raise_descriptor_limit() -> None:
    """As many open files as the system lets this process have: each request in flight is one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):
        return  # then max_workers is fitted to what there is, and that is said


def _raise(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)
