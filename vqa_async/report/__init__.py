"""Journal -> one page to look through: figures, plots, and every record with its images.

Inside, from the bottom up:

    options     what can be chosen              wording     numbers as people say them
    safe        text of strangers in a page     spread      values and times, counted in bounded memory
    figures     what is counted                 entries     a record as the page has it
    facts       what stands at its top          plots       the drawings, in their units
    drawing     what a drawing is made of       thumbnails  small copies of images
    sample      which records are in it         blocks      records and images as they stand in the page
    page        templates, style, policy        write       one report

The look is in ``templates/``, the same for a report and for the live page of ``dashboard``. Adding a plot is
a function in ``plots``; a fact, a line in ``facts``; a filter, a line in ``templates/filters.js``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqa_async.report.options import ReportOptions
    from vqa_async.report.write import ReportSummary, write_report

__all__ = ["ReportOptions", "ReportSummary", "write_report"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'options' if name == 'ReportOptions' else 'write'}"), name)
