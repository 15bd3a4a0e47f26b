"""Ctrl-C and friends: the first drains the run, the second ends it now."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

from vqa_async.cli.startup import SIGNALS


class Interrupts:
    """Which signal came, if one did. ``exit_code`` is the shell's convention for it, 128 + number."""

    def __init__(self) -> None:
        self.first: signal.Signals | None = None

    @property
    def exit_code(self) -> int | None:
        """128 + the number of the first signal; None where none came."""
        return None if self.first is None else 128 + self.first


@contextlib.contextmanager
def interrupts(drain: Callable[[str], None], abort: Callable[[], None]) -> Iterator[Interrupts]:
    """While the block runs: the first signal calls ``drain`` with its name, each later one ``abort``."""
    loop = asyncio.get_running_loop()
    seen = Interrupts()

    def on_signal(number: signal.Signals) -> None:
        if seen.first is None:
            seen.first = number
            drain(number.name)
        else:
            abort()

    with contextlib.ExitStack() as stack:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if before is signal.SIG_IGN:  # under nohup SIGHUP is ignored, and stays so
                continue
            with contextlib.suppress(NotImplementedError):  # Windows has no such handlers
                loop.add_signal_handler(number, on_signal, number)
                stack.callback(signal.signal, number, before)
                stack.callback(loop.remove_signal_handler, number)
        yield seen
