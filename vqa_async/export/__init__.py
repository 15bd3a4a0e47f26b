"""Journal -> data sets that others read, in input order, with bounded memory.

Inside, from the bottom up:

    options        what can be chosen            summary        what was done, in numbers
    origin         what the run says of rows     ordered        the lines in the order of the input
    example        a row with its answers        selection      which pairs stay
    splits         by image, never by row        pictures       images: where, what bytes, copies
    conversations  an example as turns           rows, trainers, parquet, shards    the forms' rows
    files          JSON and CSV                  folders        replaced as a whole
    card           README.md                     llamafactory   dataset_info.json
    forms          all forms, one entry each     write          one export

Adding a form is an entry in ``forms``. Names are loaded when they are first used: the command line needs the
options each time, and the rest for one command of many.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vqa_async.export.forms import FORMATS, ExportFormat, format_for
    from vqa_async.export.options import ExportOptions
    from vqa_async.export.summary import ExportSummary
    from vqa_async.export.write import export, export_dataset

__all__ = [
    "FORMATS",
    "ExportFormat",
    "ExportOptions",
    "ExportSummary",
    "export",
    "export_dataset",
    "format_for",
]

_HOMES = {
    "export": "write",
    "export_dataset": "write",
    "ExportOptions": "options",
    "ExportSummary": "summary",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES.get(name, 'forms')}"), name)
