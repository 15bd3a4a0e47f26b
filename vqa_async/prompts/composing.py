"""A system prompt from its parts: the prompt itself, domain, style, number, language, form. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from vqa_async.config import Prompting
from vqa_async.prompts.defaults import FORM
from vqa_async.prompts.packs import DomainPack, domain_pack, styles


class Composition:
    """What is added to system prompts, by style; composed once for each.

    Args:
        prompting: the options.
        brings_form: whether the text form is told although neither style nor pairs are asked for.

    Raises:
        ConfigError: the domain is none.
    """

    def __init__(self, prompting: Prompting, *, brings_form: bool) -> None:
        self._prompting = prompting
        self._pack = domain_pack(prompting.domain) if prompting.domain else None
        self._brings_form = brings_form or bool(prompting.style or prompting.pairs)
        self._generating: dict[str, str] = {}
        self._answering = _paragraphs(self._domain(), _answer_language(prompting.language))

    def generating(self, prompt: str, style: str) -> str:
        """``prompt`` with all that is asked of pairs of that style; as it is, where nothing is."""
        if not self._prompting.shapes_system:
            return prompt
        if style not in self._generating:
            self._generating[style] = _paragraphs(*self._parts(style))
        return _paragraphs(prompt, self._generating[style])

    def answering(self, prompt: str) -> str:
        """``prompt`` with what also holds where a question is given: domain and language."""
        return _paragraphs(prompt, self._answering) if self._answering else prompt

    def _parts(self, style: str) -> Iterable[str]:
        prompting = self._prompting
        yield self._domain()
        if style:
            yield styles()[style].instruction
            yield self._pack.styles.get(style, "") if self._pack else ""
        if prompting.pairs:
            yield _number(prompting.pairs)
        if prompting.language:
            yield _language(prompting.language)
        if self._brings_form:
            yield FORM

    def _domain(self) -> str:
        pack: DomainPack | None = self._pack
        return pack.system if pack else ""


def _number(pairs: int) -> str:
    if pairs == 1:
        return "Write exactly 1 question-answer pair."
    return f"Write exactly {pairs} question-answer pairs."


def _language(language: str) -> str:
    return (
        f"Write all questions and answers in {language}, whatever language this text or the question is in. "
        "Only text quoted from the image stays in its own language."
    )


def _answer_language(language: str) -> str:
    if not language:
        return ""
    return f"Answer in {language}. Only text quoted from the image stays in its own language."


def _paragraphs(*parts: str) -> str:
    return "\n\n".join(part for part in parts if part)
