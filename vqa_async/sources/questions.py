"""What a row may ask besides a conversation: a list of questions; and parameters of its own. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from vqa_async.config import PARAMS_KEY, SET_BY_ENGINE
from vqa_async.errors import RecordError
from vqa_async.sources.identity import canonical
from vqa_async.sources.references import describe

_MOST_QUESTIONS = 10_000
_MOST_PARAMS_BYTES = 100_000
_FIELDS = ("question", "id", PARAMS_KEY)


@dataclass(frozen=True, slots=True)
class Question:
    """One question of a row's list.

    Attributes:
        text: the question.
        id: its name in the list, "" where it has none.
        params: request parameters of its own, as they stand there.
    """

    text: str
    id: str = ""
    params: Any = None

    def name(self, asked: Any, params: Any) -> str:
        """What tells it from the others of the row: its id, else a digest of what is asked. Its place in
        the list does not count, so an answer stays with its question when others are put before it."""
        if self.id:
            return self.id
        return blake2b(canonical([asked, params or None]), digest_size=6).hexdigest()


def read_questions(value: Any, field: str) -> list[Question]:
    """The questions in the field of a row.

    Raises:
        RecordError: it holds no list of questions.
    """
    if not isinstance(value, list | tuple):
        raise _wrong(f"{field} must be a list of questions, not {describe(value)}.")
    if len(value) > _MOST_QUESTIONS:
        raise _wrong(f"{field} has {len(value):,} questions; {_MOST_QUESTIONS:,} is the most for one row.")
    return [_read_question(one, f"{field}[{number}]") for number, one in enumerate(value)]


def _read_question(value: Any, path: str) -> Question:
    if isinstance(value, str):
        return Question(_text(value, path))
    if not isinstance(value, dict):
        raise _wrong(f"{path} must be a text or an object, not {describe(value)}.")
    if unknown := [name for name in value if name not in _FIELDS]:
        raise _wrong(f"{path} has {str(unknown[0])[:40]!r}, but a question has {', '.join(_FIELDS)}.")
    id = value.get("id")
    if isinstance(id, bool) or not isinstance(id, str | int | None):
        raise _wrong(f"{path}.id must be text or a whole number, not {describe(id)}.")
    return Question(
        _text(value.get("question"), f"{path}.question"), "" if id is None else str(id), value.get(PARAMS_KEY)
    )


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _wrong(f"{path} must be text, not {describe(value)}.")
    if not value or value.isspace():
        raise _wrong(f"{path} is empty.")
    return value


def _wrong(message: str) -> RecordError:
    return RecordError(message, code="bad_questions")


def read_params(value: Any) -> Mapping[str, Any] | None:
    """Request parameters for a record alone, from its row; None where there are none.

    Raises:
        RecordError: they cannot be sent, or would change what the engine relies on.
    """
    if value is None or value == {}:
        return None
    if not isinstance(value, dict):
        raise _refused(f"must be an object, not {describe(value)}")
    if reserved := sorted(SET_BY_ENGINE & value.keys()):
        raise _refused(f"may not set {', '.join(reserved)}: the run does, or cannot read the reply")
    if len(canonical(value)) > _MOST_PARAMS_BYTES:
        raise _refused(f"is longer than {_MOST_PARAMS_BYTES:,} bytes")
    _require_number(value, "temperature", 0, 2)
    _require_number(value, "max_tokens", 1, 1e9)
    return value


def _require_number(params: Mapping[str, Any], name: str, least: float, most: float) -> None:
    value = params.get(name)
    if value is None:
        return
    kind: Any = int if name == "max_tokens" else int | float
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value <= most:
        said = "a whole number from 1 on" if name == "max_tokens" else f"a number from {least} to {most}"
        raise _refused(f"has a {name} that is not {said}")


def _refused(what: str) -> RecordError:
    return RecordError(f"{PARAMS_KEY} {what}.", code="bad_params")
