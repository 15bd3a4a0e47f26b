"""Ctrl-C and friends: the first drains the run, the second ends it now."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


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

    # Under nohup SIGHUP is ignored, and stays so.
    handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    with contextlib.ExitStack() as stack:
        for number in handled:
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C cancels the main task instead
                loop.add_signal_handler(number, on_signal, number)
                stack.callback(loop.remove_signal_handler, number)
        yield seen
