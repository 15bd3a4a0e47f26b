"""What each export form keeps of a line. One entry a form."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqa_async.errors import ConfigError

Line = dict[str, Any]


def guide_form(line: Line, conversation_key: str) -> Line:
    """The row's own fields with the answer's text, without the conversation that asked for it.

    The output form of the Image VQA Generation Pipeline: ``{"image": [...], "vqa": "- Q: ..."}``.
    """
    dropped = ("qa_pairs", "_meta", conversation_key)
    return {name: value for name, value in line.items() if name not in dropped}


def whole_line(line: Line, conversation_key: str) -> Line:
    """Everything that the journal has, its checksum apart."""
    meta = {name: value for name, value in line["_meta"].items() if name != "crc"}
    return line | {"_meta": meta}


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One form: which fields are kept, and whether the file is one JSON array or a line for each."""

    select: Callable[[Line, str], Line]
    is_array: bool


FORMATS = {
    "json": ExportFormat(guide_form, is_array=True),
    "jsonl": ExportFormat(whole_line, is_array=False),
}


def format_for(path: Path, name: str = "") -> ExportFormat:
    """The form called ``name``, or the one that the suffix of ``path`` stands for.

    Raises:
        ConfigError: neither names a known form.
    """
    chosen = name or path.suffix.lower().removeprefix(".")
    if chosen not in FORMATS:
        known = ", ".join(FORMATS)
        what = f"There is no export format {chosen!r}" if chosen else f"The name {path} has no suffix"
        raise ConfigError(f"{what} (known formats: {known}). Give one with --format.")
    return FORMATS[chosen]
