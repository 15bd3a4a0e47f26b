"""Inputs as a lazy stream of records: a file, a folder of images, a pipe, or rows that Python code holds.

    references.py    an image field -> image references
    conversation.py  a conversation in any of its forms -> messages, images in place
    identity.py      ids that survive reordering, and the rule for repeats
    questions.py     a row's list of questions, and its own request parameters
    asks.py          what else it may ask: by templates, styles, columns
    rows.py          one row -> Record or Failure (these six are pure)
    chunks.py        the bytes of a file, a pipe or standard input
    pieces.py        a text that arrives in pieces, held up to a limit
    jsonl.py         bytes -> lines -> rows
    json_values.py   bytes -> items of a JSON array, or values one after the other -> rows
    folder.py        a tree of images -> rows
    formats.py       which kind of file it is
    source.py        one way to open any of them

A row that is no record becomes a Failure in its place and the rows after it go on; only an input that cannot
be read as a whole ends in InputError. Memory does not depend on the length of the input, but for about 20
bytes a record by which repeated ids are noticed.
"""

from vqa_async.sources.formats import InputFormat
from vqa_async.sources.rows import Finished, RowReader
from vqa_async.sources.source import Rows, Source, open_source, places_of, rows_source

__all__ = [
    "Finished",
    "InputFormat",
    "RowReader",
    "Rows",
    "Source",
    "open_source",
    "places_of",
    "rows_source",
]
