"""Inputs as a lazy stream of records: files of many kinds, folders, addresses, a pipe, or rows at hand.

    references.py     an image field -> image references
    conversation.py   a conversation in any of its forms -> messages, images in place
    identity.py       ids that survive reordering, and the rule for repeats
    questions.py      a row's list of questions, and its own request parameters
    asks.py           what else it may ask: by templates, styles, columns
    rows.py           one row -> Record or Failure (these six are pure)
    batch_requests.py a line of OpenAI's Batch API -> row
    embedded.py       rows of tables: images that stand in them, and how these are referred to
    stored_images.py  such a reference -> the bytes of the image
    chunks.py         the bytes of a file, a pipe, standard input or an address, unpacked
    compression.py    gzip, zstd
    remote.py         s3://, gs://, https://, ... through fsspec
    own_thread.py     blocking work beside the event loop
    pieces.py         a text that arrives in pieces, held up to a limit
    jsonl.py          bytes -> lines -> rows
    json_values.py    bytes -> items of a JSON array, or values one after the other -> rows
    csv_rows.py       bytes -> rows of CSV and TSV
    tables.py         Parquet and Arrow files -> rows
    shards.py         WebDataset tar shards -> rows
    hub.py            hf:// names -> rows
    row_batches.py    rows of the last three, handed over from a thread
    folder.py         a tree of images -> rows
    saved_dataset.py  what save_to_disk left -> its files
    locations.py      what the user named -> files
    formats.py        which kind of file it is
    files.py          those files, one after the other, each by its reader
    selection.py      which records, in which order, with which fields
    source.py         one way to open any of them

A row that is no record becomes a Failure in its place and the rows after it go on; only an input that cannot
be read as a whole ends in InputError. Memory does not depend on the length of the input, but for about 20
bytes a record by which repeated ids are noticed.

The same record has the same id in every form: texts are texts, nulls of a table are absent keys, a cell of
JSON is what it says. Images that stand in the input itself count by their bytes, wherever they lie; in the
rows that are written, a reference stands for them: ``train.parquet#17/image/0/cat.png``, ``a.tar#17.jpg``.
"""

from vqa_async.config import InputFormat
from vqa_async.sources.locations import folder_of, local_files
from vqa_async.sources.remote import shown
from vqa_async.sources.rows import Finished, RowReader
from vqa_async.sources.source import Rows, Source, open_source, places_of, rows_source
from vqa_async.sources.stored_images import SharedImages, StoredImages, image_bytes

__all__ = [
    "Finished",
    "InputFormat",
    "RowReader",
    "Rows",
    "SharedImages",
    "Source",
    "StoredImages",
    "folder_of",
    "image_bytes",
    "local_files",
    "open_source",
    "places_of",
    "rows_source",
    "shown",
]
