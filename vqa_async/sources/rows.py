"""One row becomes one Record, or a Failure that says what is wrong with it and where.

Pure: no file is opened, and the clock is an argument. What an image field or a conversation may look like
stands in references.py and conversation.py; what else a row may ask, in questions.py and asks.py; who a
record is, in identity.py.

The row itself passes through untouched. It is read with orjson, so integers beyond 64 bits arrive as floats:
they could not be written in the results either.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import orjson

from vqa_async.config import PARAMS_KEY, Columns, Sampling
from vqa_async.errors import RecordError
from vqa_async.keytable import RecordTable
from vqa_async.models import Asked, Failure, Group, Message, Record
from vqa_async.prompts import Asking
from vqa_async.sources.asks import Ask, Asks, listed
from vqa_async.sources.conversation import read_conversation
from vqa_async.sources.identity import Identities, Identity, canonical, digest_of
from vqa_async.sources.pieces import MAX_TEXT_BYTES, Oversize
from vqa_async.sources.questions import Question, read_questions
from vqa_async.sources.references import describe, read_images

_SHOWN_CHARACTERS = 200

# orjson reads 1024 levels but writes 254, so a row in between could never be written to the results. Only
# texts with this many brackets can be that deep; others are not tried.
_SUSPECT_BRACKETS = 250


# orjson reads integers beyond 64 bit as floats, which would not be the row's own value any more. They are
# looked for with all digits made one, which takes a fifth of the time of a regular expression.
_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_NINETEEN_DIGITS = b"0" * 19


@dataclass(frozen=True, slots=True)
class Finished(Record):
    """A row that needs no request, because an earlier run has finished it: its conversation was not read.

    Which row it was is not said: there is one object for each state in which that run may have left it, for a
    resumed run goes through millions of them.
    """

    state: bytes = b""


@dataclass(frozen=True, slots=True)
class Several(Record):
    """The records of a row that asks several questions, in one, so that whoever reads rows gets one thing for
    each. ``Source`` takes it apart."""

    records: tuple[Record | Failure, ...] = ()


LEFT_OUT = Finished("", -1, {}, (), state=b"")
"""Stands for a row that is not wanted; whoever asks for only some rows passes over it."""


def _exact(text: bytes, row: object) -> object:
    """``row`` with every integer as it is written, where the standard library can read it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # thousands of digits, or nested too deep: checked by the caller
        return row


class RowReader:
    """Turns rows into records: conversation forms, image references, identity.

    One reader serves one input, because it knows which ids were given out.

    Args:
        columns: which fields hold the images and the conversation.
        prompt: question for rows without a conversation; "" makes such a row a Failure.
        asking: the same and more, such as templates; in place of ``prompt``.
        check_columns: raise ConfigError at the first row where the templates do not fit it; else that is a
            Failure like others.
        folder: where relative image paths are looked for first.
        clock: gives the Unix time in seconds, for ``Failure.finished_at``.
        known: what earlier runs know of records.
        is_finished: whether a record in that state needs no request.
        keep: whether a row (None for what is no row) with that id is wanted; for others there is LEFT_OUT.
            They have their ids nevertheless: those of the rest do not depend on what is wanted.

    Attributes:
        adapt: makes a row of ours of one in a form of its own, such as a batch request.
    """

    def __init__(
        self,
        columns: Columns,
        *,
        prompt: str = "",
        asking: Asking | None = None,
        check_columns: bool = True,
        folder: str = "",
        clock: Callable[[], float] = time.time,
        known: RecordTable | None = None,
        is_finished: Callable[[bytes], bool] = lambda _: False,
        keep: Callable[[dict[str, Any] | None, str], bool] | None = None,
    ) -> None:
        self.adapt: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self._keep = keep
        self._image_key = columns.image_key
        self._conversation_key = columns.conversation_key
        self._questions_key = columns.questions_key or None  # JSON has no such key
        self._or_questions = f" and no {columns.questions_key}" if columns.questions_key else ""
        self._asking = asking or Asking(Sampling(prompt=prompt))
        self._prompt = self._asking.prompt
        self._is_unchecked = check_columns and self._asking.has_templates
        self._is_usual = self._asking.is_usual and not columns.prompt_key
        self._asks = Asks(columns, self._asking)
        self._folder = folder
        self._clock = clock
        self._is_finished = is_finished
        self._finished: dict[bytes | None, Finished | None] = {None: None}
        self._identities = Identities(known)

    def read(
        self, row: object, *, index: int, where: str, written: dict[str, Any] | None = None
    ) -> Record | Failure:
        """The record that ``row`` asks for.

        Args:
            row: a dict; anything else is a Failure.
            index: position in the input, from 0.
            where: place in the input, in words, such as ``in.jsonl line 17``.
            written: the row as it passes through, where that is another: without the bytes of its images.
        """
        if not isinstance(row, dict):
            return self._not_an_object(row, index, where)
        if self.adapt is not None:
            row = self.adapt(row)
        shown: dict[Any, Any] = row if written is None else written
        questions = shown.get(self._questions_key)
        asks_several = questions is not None and questions not in _NONE
        if self._is_unchecked:
            self._is_unchecked = False
            self._asking.check({**row, "question": ""} if asks_several else row)
        if asks_several:
            return self._several(row, shown, questions, index, where)
        conversation = row.get(self._conversation_key)
        if not conversation and (conversation is None or isinstance(conversation, str | list)):
            conversation = self._prompt
        if self._is_usual and PARAMS_KEY not in row:
            return self._usual(row, shown, conversation, index, where)
        ask = self._asks.of_row(row, conversation)
        try:
            digest = digest_of(canonical(ask.content(row.get(self._image_key))))
        except RecordError as error:
            return self._unwritable(row, error, index, where)
        identity, wrong = self._identify(row, digest)
        if self._keep is not None and not self._keep(shown, identity.id):
            return LEFT_OUT
        ask.wrong = wrong or ask.wrong
        return self._record(row, shown, ask, identity, index, where)

    def _usual(
        self, row: dict[str, Any], shown: dict[str, Any], conversation: Any, index: int, where: str
    ) -> Record | Failure:
        """The record of a row that has nothing of its own but images and conversation."""
        images = row.get(self._image_key)
        try:
            digest = digest_of(canonical([listed(images), conversation]))
        except RecordError as error:
            return self._unwritable(row, error, index, where)
        identity, wrong = self._identify(row, digest)
        if self._keep is not None and not self._keep(shown, identity.id):
            return LEFT_OUT
        if (finished := self._finished_in(identity.state)) is not None:
            return finished
        if wrong is None:
            try:
                messages = self._messages(images, conversation)
            except RecordError as error:
                wrong = error
            else:
                return Record(identity.id, index, shown, messages, self._folder)
        return self._failure(identity, shown, wrong, index, where)

    def _record(
        self,
        row: dict[str, Any],
        shown: dict[str, Any],
        ask: Ask,
        identity: Identity,
        index: int,
        where: str,
    ) -> Record | Failure:
        if (finished := self._finished_in(identity.state)) is not None:
            return finished
        asked = Asked(question=ask.question, group=ask.group) if ask.group is not None else None
        try:
            if ask.wrong is not None:
                raise ask.wrong
            messages = self._messages(row.get(self._image_key), ask.conversation)
            asked = self._asks.asked(row, ask, identity.id, messages)
        except RecordError as error:
            return self._failure(identity, shown, error, index, where, asked)
        return Record(identity.id, index, shown, messages, self._folder, asked)

    # --- a list of questions ------------------------------------------------------------------------------

    def _several(
        self, row: dict[str, Any], shown: dict[str, Any], value: Any, index: int, where: str
    ) -> Record | Failure:
        try:
            images = canonical(listed(row.get(self._image_key)))
            content = canonical([value, row.get(PARAMS_KEY)])
        except RecordError as error:
            return self._unwritable(row, error, index, where)
        # A row without an id is known by its images alone, so that questions may be added to it.
        own = digest_of(images + (b"" if row.get("id") is None else content))
        parent, wrong = self._identify(row, own)
        if self._keep is not None and not self._keep(shown, parent.id):
            return LEFT_OUT
        try:
            if wrong is not None:
                raise wrong
            questions = read_questions(value, str(self._questions_key))
        except RecordError as error:
            return self._failure(parent, shown, error, index, where)
        records = [
            self._question(row, shown, question, Group(parent.id, number, len(questions)), index, where)
            for number, question in enumerate(questions, 1)
        ]
        return Several(parent.id, index, shown, (), self._folder, None, tuple(records))

    def _question(
        self,
        row: dict[str, Any],
        shown: dict[str, Any],
        question: Question,
        group: Group,
        index: int,
        where: str,
    ) -> Record | Failure:
        ask = self._asks.of_question(row, question, group)
        where = f"{where}, question {group.number}"
        id = f"{group.id}/{question.name(ask.conversation, ask.params)}"
        digest = digest_of(canonical(ask.content(row.get(self._image_key))))
        identity = self._identities.claim(id, digest)
        if identity is None:
            ask.wrong = RecordError(
                f"another of its questions has the id {question.id[:_SHOWN_CHARACTERS]!r}: ids must differ.",
                code="duplicate_id",
            )
            identity = self._identities.give(f"{id}!{digest.hex()[:16]}", digest)
        return self._record(row, shown, ask, identity, index, where)

    def read_json(self, text: bytes, *, index: int, where: str) -> Record | Failure:
        """The record in one JSON text; a Failure where it is not JSON, with the reason and the column."""
        try:
            row = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return self.broken(
                text, index=index, where=where, reason=f"not JSON: {error.msg} (column {error.pos + 1})"
            )
        if _NINETEEN_DIGITS in text.translate(_DIGITS):
            row = _exact(text, row)
        if text.count(b"[") + text.count(b"{") > _SUSPECT_BRACKETS and not _writable([row]):
            return self.broken(text, index=index, where=where, reason="nested too deep", code="too_deep")
        return self.read(row, index=index, where=where)

    def broken(
        self, raw: bytes, *, index: int, where: str, reason: str, code: str = "not_json"
    ) -> Failure | Finished:
        """The Failure for bytes that hold no row at all; they are shown up to 200 characters."""
        digest = digest_of(raw)
        identity = self._identities.give(f"broken-{digest.hex()}", digest)
        return self._failure(
            identity, {"_input": _shown(raw)}, RecordError(f"{reason}.", code=code), index, where
        )

    def passed_over(self, text: Oversize, *, index: int, where: str, what: str) -> Failure | Finished:
        """The Failure for a line or an item that is too long to be held."""
        identity = self._identities.give(f"broken-{text.digest.hex()}", text.digest)
        error = RecordError(
            f"the {what} has {len(text) >> 20} MiB; the limit is {MAX_TEXT_BYTES >> 20} MiB. "
            "Keep images beside the input rather than in it.",
            code=f"{what}_too_long",
        )
        return self._failure(identity, {"_input": _shown(text.start)}, error, index, where)

    def _messages(self, images: Any, conversation: Any) -> tuple[Message, ...]:
        references = read_images(images, self._image_key)
        if conversation == "":
            raise RecordError(
                f"it has no {self._conversation_key}{self._or_questions}: add one, name its field "
                "with --conversation-key, or give all rows a question with --prompt.",
                code="no_conversation",
            )
        return read_conversation(conversation, self._conversation_key, references)

    def _identify(self, row: dict[str, Any], digest: bytes) -> tuple[Identity, RecordError | None]:
        own = row.get("id")
        if own is None:
            return self._identities.give(digest.hex(), digest), None
        name = _own_id(own)
        if name is None:
            error = RecordError(f"id must be text or a whole number, not {describe(own)}.", code="bad_id")
            return self._identities.give(digest.hex(), digest), error
        identity = self._identities.claim(name, digest)
        if identity is not None:
            return identity, None
        error = RecordError(
            f"another row with other content has the id {name[:_SHOWN_CHARACTERS]!r} too: ids must differ.",
            code="duplicate_id",
        )
        return self._identities.give(f"{name}!{digest.hex()[:16]}", digest), error

    def _finished_in(self, state: bytes | None) -> Finished | None:
        """What stands for a row in that state, None where it is to be asked."""
        if state not in self._finished:
            assert state is not None
            finished = self._is_finished(state)
            self._finished[state] = Finished("", -1, {}, (), state=state) if finished else None
        return self._finished[state]

    def _not_an_object(self, row: object, index: int, where: str) -> Failure | Finished:
        error = RecordError(f"a row must be an object, not {describe(row)}.", code="not_an_object")
        try:
            digest = digest_of(canonical(row))
        except RecordError as unwritable:
            return self._unwritable(row, unwritable, index, where)
        identity = self._identities.give(f"broken-{digest.hex()}", digest)
        return self._failure(identity, {"_input": row}, error, index, where)

    def _unwritable(self, row: object, error: RecordError, index: int, where: str) -> Failure | Finished:
        # Only rows from Python code get here: no JSON text holds what JSON cannot hold.
        try:
            text = repr(row)
        except RecursionError:
            text = type(row).__name__
        raw = text.encode("utf-8", "backslashreplace")
        return self.broken(raw, index=index, where=where, reason=error.message.rstrip("."), code=error.code)

    def _failure(
        self,
        identity: Identity,
        row: dict[str, Any],
        error: RecordError,
        index: int,
        where: str,
        asked: Asked | None = None,
    ) -> Failure | Finished:
        # A question is wanted where its row is, which was judged before.
        if self._keep is not None and asked is None and not self._keep(None, identity.id):
            return LEFT_OUT
        if (finished := self._finished_in(identity.state)) is not None:
            return finished
        record = Record(identity.id, index, row, (), self._folder, asked)
        located = RecordError(f"{where}: {error.message}", code=error.code)
        return Failure(record, located, attempts=0, finished_at=self._clock())


_NONE: tuple[Any, ...] = ([], (), "")
"""What a column of questions holds where there are none."""


def _own_id(value: Any) -> str | None:
    if type(value) is str and value.isascii():  # the usual one, which can be written whatever it says
        return value or None
    if isinstance(value, bool) or not isinstance(value, str | int) or not _writable(value):
        return None
    return str(value) or None


def _writable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except orjson.JSONEncodeError:
        return False
    return True


def _shown(raw: bytes) -> str:
    # Four bytes a character at most; what is cut in the middle of one is replaced.
    return raw[: 4 * _SHOWN_CHARACTERS].decode("utf-8", "replace")[:_SHOWN_CHARACTERS]
