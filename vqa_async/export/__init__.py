"""Journal -> files that others read, in input order, with bounded memory.

`ordered` gives the answers of an output in the order of the input; `forms` says what each form keeps of a
line; `write` puts them into a file that appears only when it is whole.
"""

from vqa_async.export.forms import FORMATS, ExportFormat, format_for
from vqa_async.export.write import export

__all__ = ["FORMATS", "ExportFormat", "export", "format_for"]
