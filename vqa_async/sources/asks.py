"""What a row asks where it is more than images and a conversation: templates, a column of prompts, a list of
questions, a style, parameters. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vqa_async.config import PARAMS_KEY, Columns
from vqa_async.errors import RecordError
from vqa_async.models import Asked, Group, Message
from vqa_async.prompts import Asking
from vqa_async.sources.questions import Question, read_params
from vqa_async.sources.references import describe

_NOTHING = Asked()


@dataclass(slots=True)
class Ask:
    """What a row, or a question of its list, asks; ``wrong`` says why it cannot be asked."""

    conversation: Any
    params: Any = None
    question: str = ""
    group: Group | None = None
    wrong: RecordError | None = None

    def content(self, images: Any) -> list[Any]:
        """What its digest is taken of. Parameters count where there are any."""
        content = [listed(images), self.conversation]
        return content if self.params is None or self.params == {} else [*content, self.params]


class Asks:
    """Finds what is asked.

    Args:
        columns: the fields of a row.
        asking: templates, style and system prompts of the run.
    """

    def __init__(self, columns: Columns, asking: Asking) -> None:
        self._conversation_key = columns.conversation_key
        self._prompt_key = columns.prompt_key
        self._asking = asking

    def of_row(self, row: dict[str, Any], conversation: Any) -> Ask:
        """What ``row`` asks; ``conversation`` where neither a template nor a column of prompts says."""
        ask = Ask(conversation, row.get(PARAMS_KEY))
        try:
            if self._asking.template is not None:
                ask.conversation = self._asking.template.render(row)
            elif self._prompt_key and not row.get(self._conversation_key):
                ask.conversation = self._prompt(row) or conversation
        except RecordError as error:
            ask.wrong = error
        return ask

    def _prompt(self, row: dict[str, Any]) -> str:
        value = row.get(self._prompt_key)
        if value is not None and not isinstance(value, str):
            raise RecordError(f"{self._prompt_key} must be text, not {describe(value)}.", code="bad_prompt")
        return value if value and not value.isspace() else ""

    def of_question(self, row: dict[str, Any], question: Question, group: Group) -> Ask:
        """What one question of the list in ``row`` asks."""
        ask = Ask(question.text, question=question.text, group=group)
        try:
            ask.params = _merged(row.get(PARAMS_KEY), question.params)
            if self._asking.template is not None:
                ask.conversation = self._asking.template.render({**row, "question": question.text})
        except RecordError as error:
            ask.wrong = error
        return ask

    def asked(self, row: dict[str, Any], ask: Ask, id: str, messages: tuple[Message, ...]) -> Asked | None:
        """What of the request is the record's own, beside its messages.

        Raises:
            RecordError: its parameters cannot be sent, or the template of the system prompt does not work.
        """
        params = read_params(ask.params)
        has_system = any(message.role == "system" for message in messages)
        style, system = "", None
        if ask.group is not None:
            system = self._asking.system_for_question({**row, "question": ask.question})
        elif not has_system:  # a style is told by the system prompt, and the row keeps its own
            style = self._asking.style_of(id)
            system = self._asking.system_for(row, style)
        asked = Asked(params, system, style, ask.question, ask.group)
        return None if asked == _NOTHING else asked


def listed(images: Any) -> Any:
    """The image field in its one canonical form: ``"a.png"`` and ``["a.png"]`` ask the same."""
    if images is None:
        return []
    return images if isinstance(images, list | tuple) else [images]


def _merged(params: Any, own: Any) -> Any:
    """A row's parameters with those of one of its questions in their place.

    Raises:
        RecordError: the row's are none; what is wrong with the question's is found with the whole.
    """
    if own is None:
        return params
    return {**(read_params(params) or {}), **own} if isinstance(own, dict) else own
