"""The panel below a notebook's cell: one piece of output that is replaced, and gone when the run is over."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from rich.text import Text


def as_html(lines: Sequence[Text]) -> str:
    """The lines as text of equal width, in the notebook's own colours; nothing in it is markup of others."""
    text = html.escape("\n".join(line.plain for line in lines))
    return f'<pre style="line-height:1.35;margin:0">{text}</pre>'


@contextmanager
def notebook_cell() -> Iterator[Callable[[Sequence[Text]], None]]:
    """Gives a function that shows lines in the place of the last ones."""
    notebook = import_module("IPython.display")  # there, where a notebook is
    cell = notebook.display(notebook.HTML(""), display_id=True)
    try:
        yield lambda lines: cell.update(notebook.HTML(as_html(lines)))
    finally:
        cell.update(notebook.HTML(""))
