"""Lines at the bottom of a terminal that are redrawn in place, under whatever else is printed.

Each frame is one write, and draws over the last one line by line, so that nothing is ever blank in between;
what is not different is not drawn at all.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleRenderable, RenderHook
from rich.control import Control
from rich.segment import ControlType
from rich.text import Text


def can_redraw(console: Console) -> bool:
    """Whether lines can be drawn over there: a real terminal, that can go back.

    FORCE_COLOR makes a log coloured, and rich calls it a terminal then; it is still a log.
    """
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()


class Frame(RenderHook):
    """The lines. Use as ``with``; they are gone when the block is left.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines: tuple[Text, ...] = ()
        self._wanted: tuple[Text, ...] = ()
        self._size = console.size
        self._is_refresh = False

    def __enter__(self) -> Frame:
        self._console.push_render_hook(self)
        self._console.show_cursor(False)
        return self

    def __exit__(self, *exc: object) -> None:
        try:
            self.draw(())
        finally:
            self._console.pop_render_hook()
            self._console.show_cursor(True)

    def draw(self, lines: Sequence[Text]) -> None:
        """Show ``lines`` instead of the last ones."""
        size = self._console.size
        if tuple(lines) == self._lines and size == self._size:
            return
        self._wanted = tuple(lines)
        self._is_refresh = size == self._size and len(lines) >= len(self._lines)
        self._size = size
        try:
            self._console.print(Control())
        finally:
            self._is_refresh = False

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """What is printed, with the frame taken away before it and put back below it."""
        before = self._up() if self._is_refresh else self._erased()
        drawn = [before, *renderables, *self._ended()]
        self._lines = self._wanted
        return drawn

    def _rows(self) -> int:
        """Rows that the frame takes now: where the terminal got narrower, its lines were broken."""
        columns = max(1, self._console.width)
        return sum(max(1, -(-cell_len(line.plain) // columns)) for line in self._lines)

    def _up(self) -> Control:
        rows = self._rows()  # "up by 0" is up by one to a terminal
        return Control(ControlType.CARRIAGE_RETURN, *[(ControlType.CURSOR_UP, rows)] * bool(rows))

    def _erased(self) -> Control:
        rows = self._rows()
        above = ((ControlType.CURSOR_UP, 1), (ControlType.ERASE_IN_LINE, 2)) * rows
        return Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2), *above)

    def _ended(self) -> list[ConsoleRenderable]:
        drawn: list[ConsoleRenderable] = []
        for line in self._wanted:
            drawn += [line, Control((ControlType.ERASE_IN_LINE, 0)), Text("\n", end="")]
        return drawn
