"""How help is laid out: the commands as one screen, options in panels, examples below."""

from __future__ import annotations

import re

from cyclopts import Group
from cyclopts.help import DefaultFormatter, HelpEntry, HelpPanel
from cyclopts.help.inline_text import InlineText
from rich.console import Console, ConsoleOptions
from rich.text import Text

START = Group("Start here", sort_key=1)
RUN = Group("Run", sort_key=2)
LOOK = Group("Look", sort_key=3)
PASS_ON = Group("Pass on", sort_key=4)
SERVE = Group("Serve", sort_key=5)
ABOUT = Group("About", sort_key=9)

_GROUPS, _NAMES = 12, 13
"""Columns of the two names before what a command does."""


def examples(*commands: str) -> str:
    """Command lines for the end of a help text."""
    return "\n".join(["Examples", *(f"  {command}" for command in commands)])


class Formatter(DefaultFormatter):
    """Commands in lines of one screen; options as the library lays them out, except that lines which were
    broken in the source flow as one."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        if panel.format == "command":
            for line in menu(panel, options.max_width):
                console.print(line, soft_wrap=True)
            return
        for entry in panel.entries:
            shown = entry.description
            if isinstance(shown, InlineText) and isinstance(shown.primary_renderable, Text):
                shown.primary_renderable = Text(" ".join(shown.primary_renderable.plain.split()))
        super().__call__(console, options, panel)


def menu(panel: HelpPanel, width: int) -> list[Text]:
    """A line for each command of a group, the group's name before the first."""
    title = panel.title.plain if isinstance(panel.title, Text) else str(panel.title or "")
    lines = []
    for at, entry in enumerate(panel.entries):
        line = Text(f"{title if at == 0 else '':<{_GROUPS}}", style="bold")
        line.append(f"{', '.join((*entry.names, *entry.shorts)):<{_NAMES}}", "cyan not bold")
        line.append(in_short(_text(entry), width - _GROUPS - _NAMES - 1), "not bold")
        lines.append(line)
    return lines


def _text(entry: HelpEntry) -> str:
    shown = entry.description
    if isinstance(shown, InlineText):
        shown = shown.primary_renderable
    return " ".join((shown.plain if isinstance(shown, Text) else str(shown or "")).split())


def in_short(text: str, room: int) -> str:
    """As much of ``text`` as ``room`` columns hold: its first sentence, else what is before a pause in it."""
    sentence = re.split(r"(?<=\.) ", text, maxsplit=1)[0]
    for pause in ("[:;]", ","):
        if len(sentence) > room and (parts := re.split(rf"{pause} ", sentence, maxsplit=1))[1:]:
            sentence = f"{parts[0]}."
    return sentence if len(sentence) <= room else sentence[: max(0, room - 3)].rstrip() + "..."
