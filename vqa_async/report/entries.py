"""An example of the output as the page has it: what people look at, clipped where it has no end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from vqa_async.export.example import Example, Pair
from vqa_async.export.origin import Origin
from vqa_async.journal.json_text import to_json
from vqa_async.models import ImageRef
from vqa_async.quality.keeping import DISAGREEMENT, Scores
from vqa_async.quality.verdicts import pair_id
from vqa_async.report.figures import Answered, Figures

Entry: TypeAlias = dict[str, Any]

LONGEST_TEXT = 20_000
"""Characters of an answer that the page shows: more than anybody reads, and far less than a model that
repeats itself can write."""

LONGEST_FIELD = 2_000
"""The same for whatever else stands in a row."""

MOST_PAIRS = 500
MOST_IMAGES = 100
MOST_FIELDS = 100


@dataclass(frozen=True, slots=True)
class Shown:
    """A pair with all that is known against it.

    Attributes:
        pair: the pair.
        flags: its own, and that of its verification.
        agreement: of the verifying model, from 0 to 1; None where it was not heard.
    """

    pair: Pair
    flags: tuple[str, ...]
    agreement: float | None


class Judge:
    """Adds what the verifying model said to pairs.

    Args:
        scores: agreement by the id of a pair's check; None where nothing was verified.
        threshold: below this agreement a pair counts as flagged.
    """

    def __init__(self, scores: Scores | None, threshold: float) -> None:
        self._scores = scores
        self._threshold = threshold

    def __call__(self, pair: Pair) -> Shown:
        if self._scores is None:
            return Shown(pair, pair.flags, None)
        score = self._scores(pair_id(pair.line_id, pair.number + 1, pair.question, pair.answer))
        disagrees = score is not None and score < self._threshold
        return Shown(pair, (*pair.flags, DISAGREEMENT) if disagrees else pair.flags, score)


def count(example: Example, shown: Sequence[Shown], figures: Figures) -> None:
    """Take an example into the figures."""
    if example.error is not None:
        for line in example.lines:
            error, meta = _dict(line.get("error")), line["_meta"]
            figures.count_failure(
                _text(error.get("code")),
                _whole(error.get("attempts")),
                retryable=bool(meta.get("retryable")),
            )
        return
    for line in example.lines:
        figures.count_answer(_answered(line["_meta"]))
    figures.count_row([(one.pair.answer, one.flags) for one in shown], example.text, len(example.images))
    figures.verified += sum(one.agreement is not None for one in shown)


def _answered(meta: dict[str, Any]) -> Answered:
    usage = _dict(meta.get("usage"))
    return Answered(
        model=_text(meta.get("model")),
        endpoint=_text(meta.get("endpoint")),
        style=_text(meta.get("style")),
        finish_reason=_text(meta.get("finish_reason")),
        latency_s=_number(meta.get("latency_s")),
        finished_at=_number(meta.get("finished_at")),
        prompt_tokens=_whole(usage.get("prompt_tokens")),
        completion_tokens=_whole(usage.get("completion_tokens")),
        attempts=_whole(meta.get("attempts")),
    )


def entry(example: Example, shown: Sequence[Shown], images: Sequence[Any], origin: Origin) -> Entry:
    """The example for the page; what is empty is left out.

    Args:
        shown: its pairs.
        images: what the page knows of each of its images.
        origin: which fields of its row are shown elsewhere.
    """
    meta = example.lines[0]["_meta"]
    made: Entry = {
        "id": example.id,
        "index": meta.get("index"),
        "images": list(images),
        "pairs": [_pair(one, example.id) for one in shown[:MOST_PAIRS]],
        "more": max(0, len(shown) - MOST_PAIRS),
        "text": "" if shown else clipped(example.text, LONGEST_TEXT),
        "asked": list(_asked(example, origin)),
        "row": _row(example.row, origin),
        "error": _error(example),
        "unanswered": example.unanswered,
        "model": _text(meta.get("model")),
        "endpoint": _text(meta.get("endpoint")),
        "style": _text(meta.get("style")),
        "finish": _text(meta.get("finish_reason")),
        "structured": _field(example.lines[0].get("structured")),
        "latency": max((_number(line["_meta"].get("latency_s")) for line in example.lines), default=0),
        "attempts": max((_whole(line["_meta"].get("attempts")) for line in example.lines), default=0),
        "tokens": [_tokens(example, name) for name in ("prompt_tokens", "completion_tokens")],
        "at": _number(meta.get("finished_at")),
    }
    return {name: value for name, value in made.items() if value or name in ("id", "index")}


def _pair(one: Shown, id: str) -> list[Any]:
    """Question, answer, flags, agreement; then the record and the number, where they are not the obvious."""
    pair = one.pair
    made = [
        clipped(pair.question, LONGEST_TEXT),
        clipped(pair.answer, LONGEST_TEXT),
        list(one.flags),
        one.agreement,
        pair.number,
    ]
    return made if pair.line_id == id else [*made, pair.line_id]


def _asked(example: Example, origin: Origin) -> Iterator[list[str]]:
    """Role and text of each turn, images as a mark; the raw field where it could not be read."""
    if not example.asked and example.row.get(origin.conversation_key):
        yield ["", clipped(_shown(example.row[origin.conversation_key]), LONGEST_FIELD)]
    for message in example.asked:
        parts = ["<image>" if isinstance(part, ImageRef) else part for part in message.parts]
        yield [message.role, clipped("\n".join(parts), LONGEST_FIELD)]


def _row(row: dict[str, Any], origin: Origin) -> list[list[str]]:
    elsewhere = {origin.image_key, origin.conversation_key, "id", "structured", "_meta"}
    own = [[name, _field(value)] for name, value in row.items() if name not in elsewhere]
    return [[clipped(name, LONGEST_FIELD), text] for name, text in own[:MOST_FIELDS] if text]


def _error(example: Example) -> dict[str, Any] | None:
    error = example.error
    if error is None:
        return None
    return {
        "code": _text(error.get("code")) or "unknown",
        "message": clipped(_shown(error.get("message") or "It is not said why."), LONGEST_FIELD),
        "status": error.get("status") if isinstance(error.get("status"), int) else None,
        "retryable": bool(example.lines[0]["_meta"].get("retryable")),
    }


def _tokens(example: Example, name: str) -> int:
    return sum(_whole(_dict(line["_meta"].get("usage")).get(name)) for line in example.lines)


def _field(value: Any) -> str:
    return "" if value is None else clipped(_shown(value), LONGEST_FIELD)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()


def clipped(text: str, most: int) -> str:
    """``text``, or its beginning and how much more there is."""
    return text if len(text) <= most else f"{text[:most]}… ({len(text) - most:,} more characters)"


# A right checksum says that a line was not changed, not that this version of ours wrote it.
def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return clipped(value, LONGEST_FIELD) if isinstance(value, str) else ""


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) and 0 <= value < 1e12 else 0.0


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 53 else 0
