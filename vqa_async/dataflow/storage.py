"""The files of a pipeline: its first input, and what each step leaves."""

from __future__ import annotations

import copy
from pathlib import Path

from vqa_async.errors import ConfigError
from vqa_async.sources import folder_of

CACHE_TYPES = ("json", "jsonl", "csv", "parquet")


class FileStorage:
    """Files of a pipeline: the first input, then one file for each step.

    Args:
        first_entry_file_name: input of the first step, in any form that ``sources`` read. Cells of a CSV are
            text, as they stand there: ``007`` stays ``007``, and a row can be asked before the whole column
            was seen. Where numbers matter, give JSONL or Parquet.
        cache_path: folder for the step files; made when needed.
        file_name_prefix: start of their names.
        cache_type: ``json`` (the guide's form), ``jsonl``, ``csv`` or ``parquet`` (extra ``parquet``).
    """

    def __init__(
        self,
        first_entry_file_name: str,
        cache_path: str = "./cache",
        file_name_prefix: str = "dataflow_cache_step",
        cache_type: str = "json",
    ) -> None:
        if cache_type in ("pickle", "pkl"):
            raise ConfigError(
                f"Pickle files can run code when they are read: choose {', '.join(CACHE_TYPES)}."
            )
        if cache_type not in CACHE_TYPES:
            raise ConfigError(f"There is no cache_type {cache_type!r} (known: {', '.join(CACHE_TYPES)}).")
        self.first_entry_file_name = first_entry_file_name
        self.cache_path = cache_path
        self.file_name_prefix = file_name_prefix
        self.cache_type = cache_type
        self.operator_step = -1

    def step(self) -> FileStorage:
        """This storage, one step on: what the next operator reads and writes."""
        self.operator_step += 1
        return copy.copy(self)

    def reset(self) -> FileStorage:
        """Back to before the first step."""
        self.operator_step = -1
        return self

    @property
    def input_file(self) -> str:
        """What this step reads: the first input, or the rows of the step before with all their fields."""
        if self.operator_step <= 0:
            return self.first_entry_file_name
        return str(self._rows(self.operator_step))

    @property
    def image_folder(self) -> str:
        """Where relative image paths are looked for first, in each step: the folder of the first input. Rows
        pass through untouched, so what they name lies there and not beside the files of a step."""
        return folder_of(self.first_entry_file_name)

    @property
    def journal_file(self) -> Path:
        """Where this step keeps its answers as they come."""
        return self._journal(self.operator_step + 1)

    @property
    def output_file(self) -> Path:
        """What this step leaves for people and other tools."""
        return self._stem(self.operator_step + 1, self.cache_type)

    @property
    def rows_file(self) -> Path:
        """What this step leaves for the next: the rows with all their fields, in the order of the input."""
        return self._rows(self.operator_step + 1)

    def _rows(self, step: int) -> Path:
        return self._stem(step, "jsonl" if self.cache_type == "jsonl" else "rows.jsonl")

    def _journal(self, step: int) -> Path:
        return self._stem(step, "journal.jsonl")

    def _stem(self, step: int, suffix: str) -> Path:
        return Path(self.cache_path) / f"{self.file_name_prefix}_step{step}.{suffix}"
