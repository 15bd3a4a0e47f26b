"""An example as rows with the fields that the input had: what json, jsonl and csv keep."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from vqa_async.export.example import Example, Line
from vqa_async.export.options import ExportOptions
from vqa_async.export.origin import Origin
from vqa_async.export.pictures import Picture
from vqa_async.models import ImageRef

Row = dict[str, Any]


def guide_rows(
    example: Example, pictures: Sequence[Picture] | None, options: ExportOptions, origin: Origin
) -> Iterator[Row]:
    """The row's own fields with the answer's text, without the conversation that asked for it.

    The output form of the Image VQA Generation Pipeline: ``{"image": [...], "vqa": "- Q: ..."}``.
    """
    row = _repictured(example, pictures, origin)
    kept = {name: value for name, value in row.items() if name != origin.conversation_key}
    if example.error is not None:
        yield kept | {"error": example.error}
    elif options.pairs_as == "rows" and example.pairs:
        for pair in example.pairs:
            yield kept | {"question": pair.question, "answer": pair.answer}
    else:
        yield kept | {origin.output_key: example.text}


def table_rows(
    example: Example, pictures: Sequence[Picture] | None, options: ExportOptions, origin: Origin
) -> Iterator[Row]:
    """The same with the pairs of a record beside its text, since a table is read by column."""
    for row in guide_rows(example, pictures, options, origin):
        if origin.output_key in row and example.error is None:
            yield row | {"qa_pairs": [pair.content for pair in example.pairs]}
        else:
            yield row


def whole_rows(
    example: Example, pictures: Sequence[Picture] | None, options: ExportOptions, origin: Origin
) -> Iterator[Row]:
    """Everything that the journal has, its checksum apart."""
    row = _repictured(example, pictures, origin)
    meta = _meta(example)
    if example.error is not None:
        yield row | {"error": example.error, "_meta": meta}
    elif options.pairs_as == "rows" and example.pairs:
        for pair in example.pairs:
            yield row | {**pair.content, "_meta": meta | {"pair": pair.number}}
    else:
        pairs = [pair.content for pair in example.pairs]
        yield row | {origin.output_key: example.text, "qa_pairs": pairs, "_meta": meta}


def input_rows(
    example: Example, pictures: Sequence[Picture] | None, _: ExportOptions, origin: Origin
) -> Iterator[Row]:
    """A failed row as it was in the input, with its error: fit to be run again.

    Where its images are written anew, its id is written too, for it could not be told from them any more.
    Of a row with several questions only those are there that have failed.
    """
    row = _repictured(example, pictures, origin)
    if pictures is not None and row != example.row:
        row.setdefault("id", example.id)
    questions = [meta["question"] for line in example.lines if "question" in (meta := line["_meta"])]
    if questions and "questions" in row:
        row["questions"] = questions
    yield row | {"error": example.error}


def _meta(example: Example) -> Row:
    first, *others = (_without_sum(line) for line in example.lines)
    if not others and first["id"] == example.id:
        return first
    same: Row = {name: first[name] for name in ("index", "model", "endpoint") if name in first}
    return {"id": example.id, **same, "unanswered": example.unanswered, "parts": [first, *others]}


def _without_sum(line: Line) -> Row:
    return {name: value for name, value in line["_meta"].items() if name != "crc"}


def _repictured(example: Example, pictures: Sequence[Picture] | None, origin: Origin) -> Row:
    """The row with its images as the export has them."""
    row = dict(example.row)
    if not pictures:
        return row
    shown = [picture.data_uri for picture in pictures]
    by_value = {_key(ref): new for ref, new in zip(example.images, shown, strict=True)}
    field = row.get(origin.image_key)
    if isinstance(field, list) and len(field) == len(shown):
        row[origin.image_key] = shown
    elif isinstance(field, list):
        row[origin.image_key] = [_renamed(item, by_value) for item in field]
    elif field is not None:
        row[origin.image_key] = shown[0] if len(shown) == 1 else _renamed(field, by_value)
    turns = row.get(origin.conversation_key)
    if isinstance(turns, list):
        row[origin.conversation_key] = [_turn(turn, by_value) for turn in turns]
    return row


def _turn(turn: Any, names: Mapping[Any, str]) -> Any:
    if not isinstance(turn, dict) or not isinstance(turn.get("content"), list):
        return turn
    return turn | {"content": [_part(part, names) for part in turn["content"]]}


def _part(part: Any, names: Mapping[Any, str]) -> Any:
    if not isinstance(part, dict) or "image_url" not in part:
        return part
    url = part["image_url"]
    if isinstance(url, dict):
        return part | {"image_url": url | {"url": _renamed(url.get("url"), names)}}
    return part | {"image_url": _renamed(url, names)}


def _renamed(value: Any, names: Mapping[Any, str]) -> Any:
    return names.get(value, value) if isinstance(value, str) else value


def _key(ref: ImageRef) -> str | bytes:
    return ref.value
