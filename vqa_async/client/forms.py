"""In which form each endpoint is asked for a structured answer, and what it takes.

Everybody is asked for the best form at first. An endpoint that refuses one is asked for the next: at once by
all, where it named what it refused; else by the record that met with it, and by the others once that has
been answered, for until then the record itself may have been to blame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vqa_async.chat import RequestForm
from vqa_async.endpoints import EndpointState
from vqa_async.errors import RequestError
from vqa_async.structured import MODES, refuses_form, surely_refuses_form

_SAYS = {"json_schema": "a schema", "json_object": "JSON"}


class FormRefused(Exception):
    """The endpoint does not take the form of the request; the record can be asked about in the next."""


class Forms:
    """The forms, best first, and which of them each endpoint takes.

    Args:
        forms: builders of bodies, one for each of ``structured.MODES``; a single one where nothing is asked
            of the form of answers.
        notice: told in a sentence when an endpoint is asked in another form from now on.
    """

    __slots__ = ("_at", "_forms", "_notice")

    def __init__(self, forms: Sequence[RequestForm], notice: Callable[[str], None] = lambda _: None) -> None:
        self._forms = tuple(forms)
        self._notice = notice
        self._at: dict[EndpointState, int] = {}

    def form(self, number: int) -> RequestForm:
        """The form of this number, 0 for the best."""
        return self._forms[number]

    def of(self, endpoint: EndpointState) -> int:
        """The number of the form that ``endpoint`` is asked in."""
        return self._at.get(endpoint, 0)

    def best(self) -> int:
        """The number of the best form that is not known to be refused."""
        return min(self._at.values(), default=0)

    def refused(self, endpoint: EndpointState, number: int, error: RequestError) -> bool:
        """Told of each error: whether it is the form that is refused, and there is another."""
        if number + 1 >= len(self._forms) or not refuses_form(error):
            return False
        if surely_refuses_form(error):
            self._step_down(endpoint, number + 1)
        return True

    def taken(self, endpoint: EndpointState, number: int) -> None:
        """Told of each answer: ``endpoint`` takes the form of this number."""
        if number:
            self._step_down(endpoint, number)

    def _step_down(self, endpoint: EndpointState, number: int) -> None:
        before = self.of(endpoint)
        if number <= before:
            return
        self._at[endpoint] = number
        instead = (
            "asking in words instead" if number + 1 == len(self._forms) else "asking for JSON, and in words"
        )
        refused = _SAYS[MODES[number - 1]]
        self._notice(f"{endpoint.url} does not take a response_format that asks for {refused}: {instead}.")
