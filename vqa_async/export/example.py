"""One row of the input with all that was answered about it: what every form is made of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, TypeAlias

from vqa_async.errors import RecordError
from vqa_async.export.origin import Origin
from vqa_async.models import ImageRef, Message, QAPair
from vqa_async.qa import format_pairs
from vqa_async.sources.conversation import read_conversation
from vqa_async.sources.references import read_images

Line: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Pair:
    """A pair as the output has it.

    Attributes:
        content: ``question``, ``answer`` and whatever else was noted about it.
        line_id: id of the record whose answer it is from.
        number: its place in that answer, from 0.
    """

    content: dict[str, Any]
    line_id: str
    number: int

    @property
    def question(self) -> str:
        """What is asked."""
        return str(self.content.get("question", ""))

    @property
    def answer(self) -> str:
        """What is answered."""
        return str(self.content.get("answer", ""))

    @property
    def flags(self) -> tuple[str, ...]:
        """What quality checks have found."""
        flags = self.content.get("flags")
        return tuple(map(str, flags)) if isinstance(flags, list) else ()


@dataclass(frozen=True, slots=True)
class Example:
    """A row and its answers.

    Attributes:
        id: of the record; of the row, where that has several questions.
        row: the row as it was in the input.
        images: all its images, in the order in which the model saw them.
        asked: its conversation, images in place; () where that cannot be read.
        pairs: what was read from the answers.
        text: the answer; the pairs as text, where there are several answers or some pairs were left out.
        lines: the lines of the output.
        unanswered: questions of the row that have failed.
    """

    id: str
    row: dict[str, Any]
    images: tuple[ImageRef, ...]
    asked: tuple[Message, ...]
    pairs: tuple[Pair, ...]
    text: str
    lines: tuple[Line, ...]
    unanswered: int = 0

    @property
    def error(self) -> dict[str, Any] | None:
        """Why it has no answer, if it has none."""
        return self.lines[0].get("error") if "retryable" in self.lines[0]["_meta"] else None

    def keeping(self, pairs: tuple[Pair, ...]) -> Example:
        """The same with these pairs alone, in its text too."""
        return replace(self, pairs=pairs, text=_text_of(pairs))


def examples(lines: Iterable[Line], origin: Origin, *, ungrouped: bool = False) -> Iterator[Example]:
    """The examples that lines in order make: one each, or one of all the lines about one row."""
    for (_, parent), members in groupby(lines, _by_line if ungrouped else _by_row):
        yield _example(parent, tuple(members), origin)


def _by_line(line: Line) -> tuple[bool, str]:
    return False, line["_meta"]["id"]


def _by_row(line: Line) -> tuple[bool, str]:
    group = line["_meta"].get("group")
    if isinstance(group, dict) and "id" in group:
        return "retryable" in line["_meta"], str(group["id"])
    return _by_line(line)


def _example(id: str, lines: tuple[Line, ...], origin: Origin) -> Example:
    first = lines[0]
    failed = "retryable" in first["_meta"]
    ours = ("_meta", "error") if failed else ("_meta", "qa_pairs", origin.output_key)
    row = {name: value for name, value in first.items() if name not in ours}
    asked, images = _asked(row, origin)
    grouped = id != first["_meta"]["id"]
    pairs = () if failed else tuple(pair for line in lines for pair in _pairs(line, origin))
    text = _text_of(pairs) if grouped else "" if failed else str(first.get(origin.output_key, ""))
    total = first["_meta"]["group"].get("of") if grouped else None
    missing = total - len(lines) if isinstance(total, int) and not failed else 0
    return Example(id, row, images, asked, pairs, text, lines, max(0, missing))


def _pairs(line: Line, origin: Origin) -> Iterator[Pair]:
    meta = line["_meta"]
    found = line.get("qa_pairs") or ()
    if not found and meta.get("question"):  # it is known, whatever the form of its answer
        found = ({"question": str(meta["question"]), "answer": str(line.get(origin.output_key, ""))},)
    for number, content in enumerate(found):
        yield Pair(content, meta["id"], number)


def _text_of(pairs: Iterable[Pair]) -> str:
    return format_pairs(QAPair(pair.question, pair.answer) for pair in pairs)


def _asked(row: dict[str, Any], origin: Origin) -> tuple[tuple[Message, ...], tuple[ImageRef, ...]]:
    """The conversation and its images; what is wrong with a row that failed leaves less."""
    images: list[ImageRef] = []
    try:
        images = read_images(row.get(origin.image_key), origin.image_key)
        conversation = row.get(origin.conversation_key) or origin.prompt
        asked = read_conversation(conversation, origin.conversation_key, images)
    except RecordError:
        return (), tuple(images)
    return asked, tuple(part for m in asked for part in m.parts if isinstance(part, ImageRef))
