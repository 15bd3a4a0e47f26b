"""What is asked, and what an answer is to be: prompts, parameters, styles, schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import orjson

from vqa_async.config.values import require, text_of
from vqa_async.errors import ConfigError
from vqa_async.schemas import schema_text

PARAMS_KEY = "_params"
"""Field of a row that holds request parameters for it alone."""


SET_BY_ENGINE = frozenset(["model", "messages", "stream", "n"])
"""Request parameters that nobody else may set: the engine does, or cannot read the reply."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """What is asked, and how the model answers."""

    system_prompt: str | None = None
    """System prompt of every request; a record with a system turn of its own keeps that; '' sends none.
    Default: that of the pipeline guide, which asks for question-answer pairs."""

    prompt: str = ""
    """Question for rows without a conversation, and for folders of images instead of the usual one."""

    temperature: float | None = None
    """Sampling temperature. Default: the endpoint's."""

    max_tokens: int | None = None
    """Length of an answer at most, in tokens. Default: the endpoint's."""

    seed: int | None = None
    """Sampling seed, where the endpoint honours one."""

    extra_body: str = ""
    """JSON object whose fields are added to every request, such as '{"top_p": 0.9}'."""

    def __post_init__(self) -> None:
        if isinstance(self.extra_body, Mapping):  # what Python callers have at hand
            object.__setattr__(self, "extra_body", orjson.dumps(dict(self.extra_body)).decode())
        extra = self.extra_fields()
        reserved = sorted(SET_BY_ENGINE & extra.keys())
        require(
            not reserved,
            f"--extra-body may not set {', '.join(reserved)}: the engine sets it or cannot read the reply.",
        )
        require(self.temperature is None or 0 <= self.temperature <= 2, "temperature must be from 0 to 2.")
        require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens must be at least 1.")

    def extra_fields(self) -> dict[str, Any]:
        """``extra_body`` as a mapping."""
        if not self.extra_body:
            return {}
        try:
            extra = orjson.loads(self.extra_body)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"--extra-body is not JSON: {error}.") from None
        require(isinstance(extra, dict), "--extra-body must be a JSON object, such as '{\"top_p\": 0.9}'.")
        return dict(extra)


Style: TypeAlias = Literal[
    "descriptive", "reasoning", "yes_no", "counting", "ocr", "multiple_choice", "spatial", "mixed"
]


@dataclass(frozen=True, slots=True)
class Prompting:
    """Styles, domains and templates of questions."""

    style: Style | None = None
    """What kind of question-answer pairs the system prompt asks for; 'mixed' takes another kind for each
    record, by its id. 'vqa-async prompts' shows them."""

    pairs: int = 0
    """How many pairs the system prompt asks for. 0: as the model likes."""

    language: str = ""
    """Language that the system prompt asks for, by its name, such as German."""

    domain: str = ""
    """Domain pack for the system prompt: medical, security, e-commerce, documents, charts, or a .toml file of
    your own."""

    prompt_template: str = ""
    """Question of every row instead of its own: a Jinja template over its columns, or @FILE with
    one."""

    system_template: str = ""
    """System prompt of every row: a Jinja template over its columns, or @FILE with one."""

    def __post_init__(self) -> None:
        require(
            self.style is None or self.style in get_args(Style),
            f"style must be one of {', '.join(get_args(Style))}, not {self.style!r}.",
        )
        require(0 <= self.pairs <= 100, "pairs must be from 0 to 100.")
        require(
            len(self.language) <= 60 and self.language.isprintable(),
            "language must be the name of a language on one line.",
        )
        # Files become their text here, so that a Config and the run file say all of what is asked.
        if self.domain.endswith(".toml") and "\n" not in self.domain:
            object.__setattr__(self, "domain", f"{text_of(self.domain, '--domain')}\n")
        for name in ("prompt_template", "system_template"):
            value = getattr(self, name)
            if value.startswith("@"):
                text = text_of(value[1:], f"--{name.replace('_', '-')}")
                # A comment in front of what would be taken for the name of a file the next time.
                object.__setattr__(self, name, f"{{##}}{text}" if text.startswith("@") else text)
            require(not value or bool(getattr(self, name).strip()), f"--{name.replace('_', '-')} is blank.")

    @property
    def shapes_system(self) -> bool:
        """Whether anything is added to the system prompt of the run."""
        return bool(self.style or self.pairs or self.language or self.domain)


@dataclass(frozen=True, slots=True)
class Answers:
    """In which form answers are asked for, and what is done about those that have not got it."""

    structured: bool = False
    """Ask for pairs as JSON by a schema (response_format). An endpoint that does not take it is asked for
    JSON, and then in words."""

    schema: str = ""
    """JSON schema of your own for answers: a file, or module:Model for a pydantic model. The answer is kept
    as 'structured'. Needs the extra 'structured'."""

    reasks: int = 1
    """With --structured: times that a record is asked again, with the reason, because its answer does not
    fit."""

    max_tokens_ceiling: int | None = None
    """Ask again with twice the max_tokens, up to this, where an answer was cut off. Default: it is kept as it
    is, and marked."""

    def __post_init__(self) -> None:
        # It becomes its text here, so that a Config and the run file say all of what is asked.
        object.__setattr__(self, "schema", schema_text(self.schema))
        object.__setattr__(self, "structured", bool(self.structured or self.schema))
        require(0 <= self.reasks <= 20, "reasks must be from 0 to 20.")
        ceiling = self.max_tokens_ceiling
        require(ceiling is None or ceiling >= 1, "max_tokens_ceiling must be at least 1.")

    def answer_settings(self) -> dict[str, Any]:
        """Those that change answers, where they are set: outputs that were made without them stay usable."""
        settings = {
            "structured": self.structured,
            "schema": self.schema,
            "max_tokens_ceiling": self.max_tokens_ceiling,
        }
        return {name: value for name, value in settings.items() if value}
