"""Which records are wanted, in which order, with which of their fields. Pure.

Rows are judged after they have their ids, so that a row that is left out changes no id of another; and before
it is known whether they are answered already, so that a resumed run makes the same choice.
"""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from hashlib import blake2b
from typing import Any, TypeAlias

import orjson

from vqa_async.config import Columns, Selection
from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources.rows import LEFT_OUT, Finished, Several

_Results: TypeAlias = AsyncGenerator[Record | Failure, None]

SHUFFLED = 10_000
"""Records that are held to draw from."""
SHUFFLED_EMBEDDED = 500
"""The same where they hold their images: it may not depend on how large these are, or a resumed run, which
does not look at images that are done with, would draw in another order."""


def wanted(selection: Selection) -> Callable[[dict[str, Any] | None, str], bool] | None:
    """Whether a row with an id is wanted; None where all are. What is no row is judged by its id alone."""
    conditions, part = selection.conditions(), selection.part
    if not (conditions or part):
        return None

    def keep(row: dict[str, Any] | None, id: str) -> bool:
        if part is not None and part_of(id, part[1]) != part[0]:
            return False
        if row is None:
            return True
        return all((as_text(row.get(name)) == text) is equal for name, equal, text in conditions)

    return keep


def part_of(id: str, parts: int) -> int:
    """Which of so many parts the record with this id is in, from 0."""
    digest = blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % parts


def as_text(value: Any) -> str:
    """A field as it is compared: text as it is, nothing as nothing, all else as JSON writes it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else orjson.dumps(value, default=str).decode()


async def selected(
    results: _Results, selection: Selection, columns: Columns, *, embedded: Callable[[], bool]
) -> _Results:
    """``results`` without those that were left out, in the order and with the fields that are asked for.

    Args:
        results: all of them, in the order of the input.
        selection: what is asked for.
        columns: names of fields that are always kept.
        embedded: whether records hold their images; asked when the first is there.
    """
    asked = {columns.conversation_key, columns.prompt_key, columns.questions_key}
    kept = {"id", columns.image_key, *asked, *selection.select}
    chosen = results if selection.shuffle is None else _shuffled(results, selection.shuffle, embedded)
    async with aclosing(results), aclosing(chosen):
        async for result in chosen:
            if result is not LEFT_OUT:
                yield _narrowed(result, kept) if selection.select else result


async def _shuffled(results: _Results, seed: int, embedded: Callable[[], bool]) -> _Results:
    draw, held, size, broken = random.Random(seed), list[Record | Failure](), 0, None
    try:
        async for result in results:
            if result is LEFT_OUT:
                continue
            size = size or (SHUFFLED_EMBEDDED if embedded() else SHUFFLED)
            if len(held) < size:
                held.append(result)
                continue
            at = draw.randrange(size)
            drawn, held[at] = held[at], result
            yield drawn
    except InputError as error:
        broken = error  # what was read before it comes first
    draw.shuffle(held)
    while held:
        yield held.pop()
    if broken is not None:
        raise broken


def _narrowed(result: Record | Failure, kept: set[str]) -> Record | Failure:
    if isinstance(result, Finished):
        return result
    if isinstance(result, Failure):
        record = _narrowed_record(result.record, kept)
        return Failure(record, result.error, result.attempts, result.finished_at)
    return _narrowed_record(result, kept)


def _narrowed_record(record: Record, kept: set[str]) -> Record:
    row = {name: value for name, value in record.row.items() if name in kept or name.startswith("_")}
    if isinstance(record, Several):
        return replace(record, row=row, records=tuple(_narrowed(one, kept) for one in record.records))
    return replace(record, row=row)
