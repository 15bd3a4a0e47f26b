"""Asking again: for an answer that fits, for one that is whole, or in another form where one is refused.

What failed on its way is not the matter here (retry.py): these requests were answered, and each is paid for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from vqa_async.chat import Body, excerpt
from vqa_async.client.course import Course, detached, idempotency_key
from vqa_async.client.forms import FormRefused, Forms
from vqa_async.endpoints import EndpointState
from vqa_async.errors import RequestError, ResponseError
from vqa_async.models import AttemptFailed, Completion, Message, QAPair, Record, Success, Usage
from vqa_async.qa import answer_pairs, parse_pairs
from vqa_async.structured import Structure, Unfit, ask_again

_MOST_QUOTED = 20_000
"""Characters of its own answer that a model is shown again."""

_FIRST_ROOM = 512
"""Tokens to begin with where neither the request nor the reply tells how many there were."""


class NotGood(Exception):
    """An answer that is not good enough, as the error that it is if nothing better comes.

    Attributes:
        error: that error.
        text: the answer.
        room: length to ask for next, in tokens; None where more room is not what it wants.
        reason: what to tell the model, so that it does better; "" where that would not help.
    """

    def __init__(
        self, error: ResponseError, *, text: str = "", room: int | None = None, reason: str = ""
    ) -> None:
        super().__init__(error.message)
        self.error = error
        self.text = text
        self.room = room
        self.reason = reason


class Asking:
    """What is asked for one record, as it changes from answer to answer.

    Attributes:
        room: length of the answer at most, in tokens; None: as the request's parameters say.
        usage: what the answers took that were no good.
        reasks: how often the record was asked again with a reason.
        least: the number of the best form that this record still tries, for each endpoint.
        tried: the number of the form that each endpoint was asked in last.
    """

    __slots__ = ("_bodies", "_messages", "least", "reasks", "room", "tried", "usage")

    def __init__(self, record: Record) -> None:
        self._messages = record.messages
        self._bodies: dict[int, tuple[Body, str]] = {}
        self.room: int | None = None
        self.usage = Usage()
        self.reasks = 0
        self.least: dict[EndpointState, int] = {}
        self.tried: dict[EndpointState, int] = {}

    def body(self, course: Course, forms: Forms, number: int) -> tuple[Body, str]:
        """The request in the form of this number, with its idempotency key."""
        built = self._bodies.get(number)
        if built is None:
            record = course.record
            body = forms.form(number).body(self._messages, course.images, record.asked, self.room)
            built = self._bodies[number] = body, idempotency_key(record, body)
        return built

    def give_room(self, tokens: int) -> None:
        """Ask the same, with more room for the answer."""
        self.room = tokens
        self._bodies.clear()

    def give_reason(self, record: Record, answer: str, reason: str) -> None:
        """Show the model what it answered last, and say what is wrong with it."""
        said = (Message("assistant", (answer[:_MOST_QUOTED],)), Message("user", (reason,)))
        self._messages = (*record.messages, *(said if answer.strip() else said[1:]))
        self.reasks += 1
        self._bodies.clear()

    def spent(self, usage: Usage) -> None:
        """An answer that is no good took so much."""
        self.usage = _sum(self.usage, usage)


class Reasks:
    """Asks until an answer is good, or no more is to be done.

    Args:
        forms: the forms of requests.
        structure: the form that answers are to have; None where any will do.
        most: times that a record is asked again with a reason.
        ceiling: length up to which answers that were cut off are asked for again; None: they are not.
    """

    __slots__ = ("_ceiling", "_most", "_structure", "forms")

    def __init__(
        self, forms: Forms, structure: Structure | None, *, most: int = 0, ceiling: int | None = None
    ) -> None:
        self.forms = forms
        self._structure = structure
        self._most = most
        self._ceiling = ceiling

    async def until_good(self, course: Course, answered: Callable[[Course], Awaitable[Success]]) -> Success:
        """``answered(course)``, again and again where it must be.

        Raises:
            RequestError: the record has no answer that is good enough.
        """
        self.begin(course)
        while True:
            course.body, course.once = self._asking(course).body(course, self.forms, self.forms.best())
            try:
                return await answered(course)
            except FormRefused:
                course.count -= 1  # it says nothing of the record
            except NotGood as answer:
                self._ask_again(course, answer)
            except ResponseError as error:
                room = self._more_room(course, Usage()) if error.cut_off else None
                if room is None:
                    raise
                self._ask_again(course, NotGood(error, room=room))
            course.endpoint = None  # it has done nothing for which another would be better

    def begin(self, course: Course) -> None:
        """Nothing of ``course`` was asked yet."""
        course.asking = Asking(course.record)

    def first_body(self, course: Course) -> Body:
        """What ``course`` is to be asked first."""
        self.begin(course)
        return self._asking(course).body(course, self.forms, self.forms.best())[0]

    def would_ask_again(self, course: Course, error: RequestError) -> bool:
        """Whether it is for want of room that there is no answer, and there is more."""
        is_cut_off = isinstance(error, ResponseError) and error.cut_off
        return is_cut_off and self._more_room(course, Usage()) is not None

    def _ask_again(self, course: Course, answer: NotGood) -> None:
        """Change what is asked, so that a better answer may come; else raise the error that this one is."""
        asking, error = self._asking(course), answer.error
        assert course.endpoint is not None
        error.endpoint = course.endpoint.url
        if not course.may_retry():
            raise error
        if answer.room is not None:
            asking.give_room(answer.room)
        elif answer.reason and asking.reasks < self._most:
            asking.give_reason(course.record, answer.text, answer.reason)
        else:
            raise error
        course.notify(AttemptFailed(course.record.id, detached(error), course.count, 0.0))

    # --- one request --------------------------------------------------------------------------------------

    def ask(self, course: Course, endpoint: EndpointState) -> None:
        """Put what ``endpoint`` is to be asked into ``course``."""
        asking = self._asking(course)
        number = max(self.forms.of(endpoint), asking.least.get(endpoint, 0))
        asking.tried[endpoint] = number
        course.body, course.once = asking.body(course, self.forms, number)

    def refused(self, course: Course, endpoint: EndpointState, error: RequestError) -> bool:
        """Whether it is the form that ``endpoint`` refuses, and there is another."""
        asking = self._asking(course)
        number = asking.tried[endpoint]
        if not self.forms.refused(endpoint, number, error):
            return False
        asking.least[endpoint] = number + 1
        return True

    def taken(self, course: Course, endpoint: EndpointState) -> None:
        """``endpoint`` has answered."""
        self.forms.taken(endpoint, self._asking(course).tried[endpoint])

    def lost(self, course: Course, usage: Usage) -> None:
        """A reply that is no answer took so much."""
        self._asking(course).spent(usage)

    # --- one answer ---------------------------------------------------------------------------------------

    def read(
        self, completion: Completion, course: Course, clean: Callable[[str], str]
    ) -> tuple[Completion, tuple[QAPair, ...], Any]:
        """The answer as it is kept, its pairs, and its value where the user has a schema.

        Raises:
            NotGood: it is to be asked for again, or cannot be used.
        """
        asking = self._asking(course)
        cut_off = completion.finish_reason == "length"
        if cut_off and (room := self._more_room(course, completion.usage)) is not None:
            asking.spent(completion.usage)
            raise NotGood(_cut_off(room), room=room)
        asked = course.record.asked
        question = asked.question if asked is not None else ""
        text, value = completion.text, None
        pairs: tuple[QAPair, ...]
        if self._structure is None:
            pairs = answer_pairs(question, text) if question else parse_pairs(text)
        else:
            reading = self._structure.read(text, cut_off=cut_off, question=question, clean=clean)
            if isinstance(reading, Unfit):
                asking.spent(completion.usage)
                # What was cut off would be again: no reason helps.
                reason = "" if cut_off else ask_again(reading.reason, self._structure.schema)
                raise NotGood(_unfit(reading.reason, text), text=text, reason=reason)
            text, pairs, value = reading
        return replace(completion, text=text, usage=_sum(asking.usage, completion.usage)), pairs, value

    def _more_room(self, course: Course, usage: Usage) -> int | None:
        """Twice the length that an answer had, None where that is not allowed."""
        if self._ceiling is None:
            return None
        asking = self._asking(course)
        had = (
            asking.room
            or self.forms.form(0).room(course.record.asked)
            or usage.completion_tokens
            or _FIRST_ROOM
        )
        room = min(self._ceiling, 2 * had)
        return room if room > had else None

    def _asking(self, course: Course) -> Asking:
        assert isinstance(course.asking, Asking)
        return course.asking


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(one.prompt_tokens + other.prompt_tokens, one.completion_tokens + other.completion_tokens)


def _cut_off(room: int) -> ResponseError:
    return ResponseError(
        f"The answer was cut off at max_tokens: it is asked for again with {room:,}.", code="cut_off"
    )


def _unfit(reason: str, text: str) -> ResponseError:
    return ResponseError(
        f"The answer does not have the form that was asked for: {reason}.",
        code="invalid_structure",
        excerpt=excerpt(text.encode("utf-8", "replace")),
    )
