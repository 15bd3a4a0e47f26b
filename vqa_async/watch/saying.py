"""One line for people, with nothing in it that a terminal could take for a command."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.text import Text

from vqa_async.chat import printable


@runtime_checkable
class _FallsSilent(Protocol):
    def fall_silent(self) -> None: ...


def say(console: Console, message: str, style: str = "") -> None:
    """Print ``message`` on one line, its blanks made single."""
    say_as_it_is(console, printable(message), style)


def say_as_it_is(console: Console, line: str, style: str = "") -> None:
    """Print a line that is fit for a terminal already, and may be aligned.

    Where nobody can read it any more, nothing is said from then on.
    """
    try:
        console.print(Text(line, style=style), soft_wrap=True)
    except OSError:  # its disk is full, its terminal is gone
        silence(console)


def silence(console: Console) -> None:
    """Say nothing more there."""
    if isinstance(console, _FallsSilent):
        console.fall_silent()
    console.quiet = True
