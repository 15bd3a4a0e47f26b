"""Styles and domain packs: data files of this package, and packs of a user's own, checked when they are read.

A pack is TOML: `purpose` (shown to people), `system` (told to the model with every question), and if it
likes a table `styles` with what it adds to single styles.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, get_args

from vqa_async.config import Style
from vqa_async.errors import ConfigError

DOMAINS = ("medical", "security", "e-commerce", "documents", "charts")
"""Names of our own packs."""


@dataclass(frozen=True, slots=True)
class QuestionStyle:
    """One style: why one would want it, and what the model is told."""

    purpose: str
    instruction: str


@dataclass(frozen=True, slots=True)
class DomainPack:
    """What a model is told about a domain.

    Attributes:
        purpose: what the pack is for, for people.
        system: what is told with every question.
        styles: what is added to single styles, by their names.
    """

    purpose: str
    system: str
    styles: Mapping[str, str] = field(default_factory=dict)


@cache
def styles() -> Mapping[str, QuestionStyle]:
    """All styles by their names, ``mixed`` the last."""
    tables = tomllib.loads(_own_text("styles.toml"))
    return {name: QuestionStyle(t["purpose"], t["instruction"].strip()) for name, t in tables.items()}


def single_styles() -> tuple[str, ...]:
    """The styles that ``mixed`` chooses from."""
    return tuple(name for name in styles() if name != "mixed")


def domain_pack(domain: str) -> DomainPack:
    """The pack of ours that is called ``domain``, or the one whose TOML text it is.

    Raises:
        ConfigError: there is none of this name, or the text is no pack.
    """
    if "\n" in domain:
        return _pack(domain, "The domain pack")
    if domain in DOMAINS:
        return _pack(_own_text("domains", f"{domain}.toml"), domain)
    near = difflib.get_close_matches(domain, DOMAINS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(DOMAINS)}."
    raise ConfigError(f"There is no domain {domain!r}. {hint} A pack of your own is a file named *.toml.")


def _own_text(*path: str) -> str:
    return files(__package__).joinpath(*path).read_text(encoding="utf-8")


def _pack(text: str, name: str) -> DomainPack:
    try:
        content = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{name} is not TOML: {error}.") from None
    for key in content:
        if key not in ("purpose", "system", "styles"):
            raise ConfigError(f"{name} has {key!r}, but a pack has purpose, system and styles.")
    by_style = content.get("styles", {})
    if not isinstance(by_style, dict):
        raise ConfigError(f"{name}: styles must be a table: begin it with [styles].")
    for style in by_style:
        if style not in get_args(Style):
            raise ConfigError(f"{name} adds to a style {style!r}; styles are {', '.join(get_args(Style))}.")
    added = {style: _text(value, f"styles.{style}", name) for style, value in by_style.items()}
    return DomainPack(
        _text(content.get("purpose"), "purpose", name), _text(content.get("system"), "system", name), added
    )


def _text(value: Any, key: str, name: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{name}: {key} must be a text that is not empty.")
    return value.strip()
