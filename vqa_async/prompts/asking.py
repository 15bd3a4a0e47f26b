"""How records are asked, from the options: the run's system prompt, and what a single row has of its own."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from vqa_async.config import Config, Prompting, Sampling
from vqa_async.prompts.composing import Composition
from vqa_async.prompts.defaults import ANSWERING_SYSTEM_PROMPT, DEFAULT_SYSTEM_PROMPT
from vqa_async.prompts.packs import single_styles
from vqa_async.prompts.templates import Template


class Asking:
    """What is asked of a model, row by row.

    Args:
        sampling: system prompt and question of the run.
        prompting: styles, domain and templates.

    Attributes:
        prompt: question for rows without one, "" where there is none.
        template: the template of the question, None where there is none.
        system: the run's system prompt, for whatever has no other; "" sends none.

    Raises:
        ConfigError: the domain is none, or a template cannot be read.
    """

    def __init__(self, sampling: Sampling | None = None, prompting: Prompting | None = None) -> None:
        sampling, prompting = sampling or Sampling(), prompting or Prompting()
        given = sampling.system_prompt
        self.prompt = sampling.prompt
        self.template = _template(prompting.prompt_template, "--prompt-template")
        self._system_template = _template(prompting.system_template, "--system-template")
        self._style = prompting.style or ""
        self._base = DEFAULT_SYSTEM_PROMPT if given is None else given
        self._composition = Composition(
            prompting, brings_form=given is None and not prompting.system_template
        )
        self.system = self._composition.generating(self._base, self._style)
        answering = self._composition.answering(ANSWERING_SYSTEM_PROMPT if given is None else given)
        self._answering = None if answering == self.system else answering

    @property
    def has_templates(self) -> bool:
        """Whether there is a template that a first row should be held against."""
        return self.template is not None or self._system_template is not None

    @property
    def is_usual(self) -> bool:
        """Whether every row with a question of its own is asked that, under the run's system prompt."""
        return not (self.has_templates or self._style)

    def check(self, row: Mapping[str, Any]) -> None:
        """Hold the templates against the first row.

        Raises:
            ConfigError: they cannot work.
        """
        for template in filter(None, (self.template, self._system_template)):
            template.check(row)

    def style_of(self, id: str) -> str:
        """The style that a record with this id gets, "" where none is asked for."""
        if self._style != "mixed":
            return self._style
        digest = blake2b(id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        choices = single_styles()
        return choices[int.from_bytes(digest) % len(choices)]

    def system_for(self, row: Mapping[str, Any], style: str) -> str | None:
        """The system prompt for a row that gets ``style``; None where it is the run's.

        Raises:
            RecordError: the template does not work for the row.
        """
        if self._system_template is not None:
            return self._composition.generating(self._system_template.render(row), style)
        return self._composition.generating(self._base, style) if style != self._style else None

    def system_for_question(self, row: Mapping[str, Any]) -> str | None:
        """The same for a question that the row brings, where an answer is wanted and no new questions.

        Raises:
            RecordError: the template does not work for the row.
        """
        if self._system_template is not None:
            return self._composition.answering(self._system_template.render(row))
        return self._answering

    def all_systems(self) -> dict[str, str]:
        """Each system prompt that pairs may be asked for with, by style, but for templates of it."""
        names = single_styles() if self._style == "mixed" else (self._style,)
        return {name: self._composition.generating(self._base, name) for name in names}


def asking_for(config: Config) -> Asking:
    """How records are asked with these options; see ``Asking``."""
    return Asking(config.sampling, config.prompting)


def wording(config: Config) -> dict[str, str]:
    """What our data files make of the options, for the run file: they may be worded better one day."""
    if not config.prompting.shapes_system:
        return {}
    return {"instructions": "\n\n".join(asking_for(config).all_systems().values())}


def _template(text: str, option: str) -> Template | None:
    return Template(text, option) if text else None
