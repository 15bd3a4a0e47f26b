"""The pairs of an output as a source of records: each a question about the images of its line.

Read in the order in which they were answered, a line at a time, so memory stays flat. Who a record is follows
from the pair itself (``pair_id``), so what was verified is not asked again, and an edited pair is. What goes
to OUT.checks.jsonl holds the pair and no image.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from vqa_async.config import Columns
from vqa_async.errors import ImageError, InputError, JournalDamaged, RecordError
from vqa_async.journal.codec import decode_line
from vqa_async.journal.scanning import read_lines
from vqa_async.keytable import RecordTable
from vqa_async.models import Failure, ImageRef, Message, Record, Result, Success
from vqa_async.quality.verdicts import VerifyMode, pair_id, score_of, verifying_question
from vqa_async.review.scores import SCORE
from vqa_async.sources import Finished, Source, StoredImages
from vqa_async.sources.conversation import read_conversation
from vqa_async.sources.locations import folder_of
from vqa_async.sources.references import read_images

_LINES_PER_TURN = 64
"""After so many lines the others get their turn: some milliseconds."""


def pairs_source(
    output: Path,
    run: dict[str, Any],
    *,
    mode: VerifyMode,
    known: RecordTable,
    is_finished: Callable[[bytes], bool],
) -> Source:
    """A record for each pair of ``output`` that bears no flag.

    Args:
        output: OUT.jsonl; an unfinished end is passed over.
        run: content of its run file, which says what its input and its columns were.
        mode: whether the question is asked, or the pair put to a judge.
        known: what earlier verifications know.
        is_finished: whether a record in that state needs no request.
    """
    settings = run.get("settings", {})
    columns = Columns(**{f.name: settings[f.name] for f in fields(Columns) if f.name in settings})
    pairs = _Pairs(columns, folder_of(str(run.get("input", "-"))), mode, known, is_finished)
    size = output.stat().st_size if output.exists() else 0
    return Source(
        pairs.read(output),
        name=str(output),
        folder=pairs.folder,
        fraction=lambda: min(1.0, pairs.consumed / size) if size else None,
    )


def scored(result: Result, mode: VerifyMode) -> Result:
    """``result`` of a pair's record with the agreement in its row."""
    if not isinstance(result, Success):
        return result
    row = {**result.record.row, SCORE: score_of(mode, str(result.record.row["answer"]), result.text)}
    return replace(result, record=replace(result.record, row=row), pairs=())


class _Pairs:
    def __init__(
        self,
        columns: Columns,
        folder: str,
        mode: VerifyMode,
        known: RecordTable,
        is_finished: Callable[[bytes], bool],
    ) -> None:
        self.folder = folder
        self.consumed = 0
        self._columns = columns
        self._mode = mode
        self._known = known
        self._is_finished = is_finished
        self._stored = StoredImages(folder)

    async def read(self, output: Path) -> AsyncGenerator[Record | Failure, None]:
        index = 0
        try:
            with output.open("rb") as file, self._stored:
                for number, line in enumerate(_lines_of(output, read_lines(file))):
                    if number % _LINES_PER_TURN == 0:
                        await asyncio.sleep(0)
                    self.consumed = file.tell()
                    for record in self._records(line, index):
                        yield record
                        index += 1
        except OSError as error:
            raise InputError(f"The output {output} cannot be read: {error.strerror}.") from None

    def _records(self, line: dict[str, Any], index: int) -> Iterator[Record | Failure]:
        for number, pair in enumerate(line["qa_pairs"], 1):
            if not pair.get("flags"):
                yield self._record(line, number, pair, index)
                index += 1

    def _record(
        self, line: dict[str, Any], number: int, pair: dict[str, Any], index: int
    ) -> Record | Failure:
        question, answer = pair["question"], pair["answer"]
        of = line["_meta"]["id"]
        id = pair_id(of, number, question, answer)
        state = self._known.get(id)
        if state is not None and self._is_finished(state):
            return Finished(id, -1, {}, (), state=state)
        row = {"id": id, "record": of, "pair": number, "question": question, "answer": answer}
        try:
            images = self._images(line)
        except RecordError as error:
            return Failure(
                Record(id, index, row, (), self.folder), error, attempts=0, finished_at=time.time()
            )
        text = verifying_question(self._mode, question, answer)
        return Record(id, index, row, (Message("user", (*images, text)),), self.folder)

    def _images(self, line: dict[str, Any]) -> tuple[ImageRef, ...]:
        """The images of a line, in the order in which the model saw them."""
        images = read_images(line.get(self._columns.image_key), self._columns.image_key)
        conversation = line.get(self._columns.conversation_key)
        if conversation:
            messages = read_conversation(conversation, self._columns.conversation_key, images)
            images = [part for m in messages for part in m.parts if isinstance(part, ImageRef)]
        return tuple(map(self._whole, images))

    def _whole(self, image: ImageRef) -> ImageRef:
        """``image``, with its bytes where it stands in a file of the input."""
        if image.kind != "path":
            return image
        try:
            stored = self._stored.get(str(image.value))
        except InputError as error:
            raise ImageError(f"Image {image.value!s}: {error.message}", code="file_not_found") from None
        return image if stored is None else ImageRef("bytes", stored)


def _lines_of(output: Path, lines: Iterator[Any]) -> Iterator[dict[str, Any]]:
    """The lines that are whole; what cannot be read may only stand at the end."""
    torn = 0
    for line in lines:
        if line.meta is None:
            torn = torn or line.number
        elif torn:
            raise JournalDamaged(
                f"{output}, line {torn}, is not as it was written. Run its command again with --repair first."
            )
        else:
            yield decode_line(line.data)
