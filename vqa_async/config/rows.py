"""Which rows of an input are asked about, and where in them everything stands."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from vqa_async.config.asking import PARAMS_KEY
from vqa_async.config.values import require, strings
from vqa_async.parts import is_auto, part_of_task

InputFormat: TypeAlias = Literal[
    "auto", "json", "jsonl", "csv", "tsv", "parquet", "arrow", "webdataset", "batch", "folder"
]
"""What an input may be said to be, where its content and its name do not tell."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a row are read and written."""

    image_key: str = "image"
    """Field that holds the image or images."""

    conversation_key: str = "conversation"
    """Field that holds the conversation."""

    prompt_key: str = ""
    """Field that holds the question of a row without a conversation. Default: none does."""

    questions_key: str = "questions"
    """Field that holds a list of questions about the row, one request each. '': none does."""

    output_key: str = "vqa"
    """Field that the answer is written to."""

    def __post_init__(self) -> None:
        for name in ("image_key", "conversation_key", "output_key"):
            require(bool(getattr(self, name)), f"{name} must not be empty.")
        read = (self.image_key, self.conversation_key, self.prompt_key, self.questions_key)
        require(
            self.output_key not in (*read, PARAMS_KEY, "qa_pairs", "structured", "_meta", "error"),
            f"output_key {self.output_key!r} is taken by another field: choose another name.",
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of an input are asked about, in which order, and which of their fields are kept."""

    select: tuple[str, ...] = ()
    """Fields of a row to keep in the output, by comma or repeated; image, conversation, id and names that
    begin with _ are always kept. Default: all."""

    where: tuple[str, ...] = ()
    """Only rows whose field has this text: column=value, column!=value, or column= for none. Repeatable: all
    must hold."""

    shuffle: int | None = None
    """Seed for another order: records are drawn from a buffer of 10,000, or of 500 where images stand in the
    input itself."""

    shard: str = ""
    """Only the k-th of n parts: k/n, with k from 1. Which part a record is in follows from its id alone.
    auto: from the task of a Slurm array; auto/n: also from that of a Kubernetes indexed Job."""

    def __post_init__(self) -> None:
        if is_auto(self.shard):
            object.__setattr__(self, "shard", part_of_task(self.shard, os.environ))
        names = [name.strip() for text in strings(self.select) for name in text.split(",")]
        object.__setattr__(self, "select", tuple(filter(None, names)))
        object.__setattr__(self, "where", strings(self.where))
        for text in self.where:
            require(
                text.find("=") > text.startswith("!"),
                f"--where {text!r} must be column=value or column!=value.",
            )
        require(
            self.shard == "" or self.part is not None,
            f"--shard {self.shard!r} must be k/n, such as 1/8, or auto.",
        )

    def __bool__(self) -> bool:
        return bool(self.select or self.where or self.shard or self.shuffle is not None)

    def conditions(self) -> tuple[tuple[str, bool, str], ...]:
        """``where`` as column, whether it must be equal, and the text it is compared with."""
        split = (text.partition("=") for text in self.where)
        return tuple((name.removesuffix("!"), not name.endswith("!"), value) for name, _, value in split)

    @property
    def part(self) -> tuple[int, int] | None:
        """``shard`` as two numbers, the first from 0; None where it is none."""
        found = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", self.shard, re.ASCII)
        if found is None or int(found[1]) > int(found[2]):
            return None
        return int(found[1]) - 1, int(found[2])
