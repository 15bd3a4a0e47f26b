"""All options together: what an engine is opened with."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from vqa_async.config.asking import Answers, Prompting, Sampling
from vqa_async.config.endpoints import DEFAULT_BASE_URL, Endpoint, NamedEndpoint
from vqa_async.config.images import ImageOptions
from vqa_async.config.pace import Budget, Limits, RetryPolicy, Timeouts
from vqa_async.config.quality import Quality, Verification
from vqa_async.config.results import BatchOptions, JournalOptions, Observability
from vqa_async.config.rows import Columns, Selection
from vqa_async.config.values import require
from vqa_async.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Config:
    """All options, in their groups.

    Example:
        >>> Config.of(base_url="http://localhost:8000/v1", model="qwen-vl").limits.max_workers
        10
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    sampling: Sampling = field(default_factory=Sampling)
    prompting: Prompting = field(default_factory=Prompting, kw_only=True)
    answers: Answers = field(default_factory=Answers, kw_only=True)
    columns: Columns = field(default_factory=Columns)
    selection: Selection = field(default_factory=Selection)
    images: ImageOptions = field(default_factory=ImageOptions)
    limits: Limits = field(default_factory=Limits)
    budget: Budget = field(default_factory=Budget)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    journal: JournalOptions = field(default_factory=JournalOptions)
    quality: Quality = field(default_factory=Quality, kw_only=True)
    verification: Verification = field(default_factory=Verification, kw_only=True)
    batches: BatchOptions = field(default_factory=BatchOptions, kw_only=True)
    observability: Observability = field(default_factory=Observability, kw_only=True)
    endpoints: tuple[NamedEndpoint, ...] = ()

    def __post_init__(self) -> None:
        given = (self.endpoints,) if isinstance(self.endpoints, str | Mapping) else self.endpoints
        object.__setattr__(self, "endpoints", tuple(NamedEndpoint.of(value) for value in given))
        require(
            not self.endpoints or self.endpoint.base_url == (DEFAULT_BASE_URL,),
            "Endpoints are named both by base_url and in [[endpoints]]: use one of the two.",
        )
        self._require_format_of_ours()
        self._require_one_source(
            "prompt_template", prompt=self.sampling.prompt, prompt_key=self.columns.prompt_key
        )
        self._require_one_source("system_template", system_prompt=self.sampling.system_prompt)

    def _require_format_of_ours(self) -> None:
        require(
            not self.answers.structured or "response_format" not in self.sampling.extra_fields(),
            "--structured sets response_format, and --extra-body sets it too: give one of the two.",
        )
        ceiling, least = self.answers.max_tokens_ceiling, self.sampling.max_tokens
        require(
            ceiling is None or least is None or ceiling > least,
            f"max_tokens_ceiling must be above max_tokens, which is {least}.",
        )

    def _require_one_source(self, template: str, **others: str | None) -> None:
        given = [name for name, value in others.items() if value and getattr(self.prompting, template)]
        for name in given:
            flags = f"--{template} takes the place of --{name}".replace("_", "-")
            raise ConfigError(f"{flags}: give one of the two.")

    def all_endpoints(self) -> tuple[NamedEndpoint, ...]:
        """The endpoints to ask, each with its own model, key variable, headers and rates filled in."""
        run = self.endpoint
        named = self.endpoints or tuple(NamedEndpoint(url) for url in dict.fromkeys(run.base_url))
        return tuple(
            replace(
                one,
                model=one.model or run.model,
                api_key_env=one.api_key_env or run.api_key_env,
                header=(*run.header, *one.header),
                rpm=one.rpm or self.limits.rpm,
                tpm=one.tpm or self.limits.tpm,
            )
            for one in named
        )

    @property
    def model(self) -> str:
        """The name of the model; of several, all their names."""
        return ", ".join(dict.fromkeys(one.model for one in self.all_endpoints()))

    @classmethod
    def of(cls, **options: Any) -> Config:
        """A Config from flat option names.

        Raises:
            ConfigError: an option is unknown (the nearest name is suggested) or its value cannot work.
        """
        known = option_groups()
        chosen: dict[str, dict[str, Any]] = {}
        endpoints = options.pop("endpoints", ())
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"There is no option {name!r}.{hint}")
            chosen.setdefault(known[name], {})[name] = value
        groups = option_classes()
        try:
            return cls(
                **{group: groups[group](**values) for group, values in chosen.items()}, endpoints=endpoints
            )
        except TypeError as error:
            raise ConfigError(f"An option has a value of the wrong type: {error}.") from None

    def answer_settings(self) -> dict[str, Any]:
        """The settings that change answers or their form: what a resumed run must have in common."""
        images = asdict(self.images)
        # What only decides which records are refused changes no answer.
        for name in ("image_cache_bytes", "encoded_bytes", "allow_private_urls", "max_file_bytes"):
            del images[name]
        for name in ("image_root", "no_image_urls"):
            del images[name]
        asked = {**asdict(self.sampling), **asdict(self.prompting), **asdict(self.columns)}
        return {"model": self.model, **asked, **images, **self.answers.answer_settings()}


def option_classes() -> dict[str, Any]:
    """The classes that options stand in, by their names in Config."""
    return {f.name: f.default_factory for f in fields(Config) if f.name != "endpoints"}


def option_groups() -> dict[str, str]:
    """Each option's name and the name of the group that it stands in."""
    return {option.name: name for name, group in option_classes().items() for option in fields(group)}
