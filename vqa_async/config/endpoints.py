"""Where requests go: addresses, models, headers, and the name of the variable that holds the key."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from vqa_async.config.values import as_mapping, header_lines, require, strings
from vqa_async.errors import ConfigError

DEFAULT_KEY_VARIABLES = ("DF_API_KEY", "OPENAI_API_KEY")
"""Environment variables that are looked at for the key, in this order, when none is named."""


def key_variables(api_key_env: str) -> tuple[str, ...]:
    """The environment variables in which an API key is looked for, in order."""
    return (api_key_env,) if api_key_env else DEFAULT_KEY_VARIABLES


def find_api_key(api_key_env: str, environ: Mapping[str, str] | None = None) -> str:
    """The API key from the environment, "" where none is set (fine for a local server).

    Raises:
        ConfigError: the variable named by ``api_key_env`` is not set, or the key cannot go in a header.
    """
    environ = os.environ if environ is None else environ
    for name in key_variables(api_key_env):
        if key := usable_key(environ.get(name, ""), f"in {name}"):
            return key
    require(
        not api_key_env,
        f"The environment variable {api_key_env} (from --api-key-env) is not set or is empty.",
    )
    return ""


def usable_key(key: str, where: str) -> str:
    """An API key as it goes into a header, without the blanks around it that come with files.

    Raises:
        ConfigError: it cannot go in one; ``where`` it stands is said, and nothing of it.
    """
    key = key.strip()
    require(
        key.isascii() and key.isprintable() and " " not in key,
        f"The API key {where} has a space, line break or non-ASCII character: set it again.",
    )
    return key


@dataclass(frozen=True, slots=True)
class NamedEndpoint:
    """One of several endpoints that differ in more than their address: ``[[endpoints]]`` in TOML.

    Attributes:
        base_url: address of an OpenAI-compatible API, with or without /chat/completions.
        model: its name for the model; default: that of the run.
        api_key_env: name of the environment variable that holds its key; default: as for the run.
        header: extra request headers 'Name: value', besides those of the run.
        weight: how much of the work it gets beside the others, where all have room.
        max_workers: requests in flight there at most; 0: only the bound over all endpoints.
        rpm: requests a minute there at most; 0: as for the run.
        tpm: tokens a minute there at most; 0: as for the run.
    """

    base_url: str
    model: str = ""
    api_key_env: str = ""
    header: tuple[str, ...] = field(default=(), repr=False)
    weight: float = 1.0
    max_workers: int = 0
    rpm: float = 0.0
    tpm: float = 0.0

    def __post_init__(self) -> None:
        require(isinstance(self.base_url, str) and bool(self.base_url), "An endpoint has no base_url.")
        for name in ("model", "api_key_env"):
            require(isinstance(getattr(self, name), str), f"The {name} of an endpoint must be a text.")
        for name in ("weight", "max_workers", "rpm", "tpm"):
            value = getattr(self, name)
            kind, said = (int, "a whole number") if name == "max_workers" else (int | float, "a number")
            require(
                isinstance(value, kind) and not isinstance(value, bool),
                f"The {name} of an endpoint must be {said}, not {value!r}.",
            )
        object.__setattr__(self, "base_url", normalise_base_url(self.base_url))
        object.__setattr__(self, "header", header_lines(self.header))
        where = f"of the endpoint {self.base_url}"
        require(0 < self.weight < 1e12, f"The weight {where} must be above 0 and finite.")
        for name in ("max_workers", "rpm", "tpm"):
            require(0 <= getattr(self, name) < 1e12, f"The {name} {where} must not be negative.")

    @classmethod
    def of(cls, value: NamedEndpoint | Mapping[str, Any] | str) -> NamedEndpoint:
        """An endpoint from a TOML table, or from its address alone."""
        if isinstance(value, NamedEndpoint):
            return value
        if isinstance(value, str):
            return cls(value)
        known = [option.name for option in fields(cls)]
        require(isinstance(value, Mapping), "Each of the endpoints must be a table with a base_url.")
        for name in value:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(known)}."
            require(name in known, f"There is no option {name!r} of an endpoint.{hint}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ConfigError(f"An option of an endpoint is missing or of the wrong type: {error}.") from None

    def headers(self) -> dict[str, str]:
        """The extra headers as a mapping."""
        return as_mapping(self.header)


DEFAULT_BASE_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which API to ask."""

    base_url: tuple[str, ...] = (DEFAULT_BASE_URL,)
    """Address of an OpenAI-compatible API, with or without /chat/completions. Repeat it for several."""

    model: str = ""
    """Name of the model, as the endpoint knows it."""

    api_key_env: str = ""
    """Name of the environment variable that holds the API key. Default: DF_API_KEY, then OPENAI_API_KEY."""

    header: tuple[str, ...] = field(default=(), repr=False)
    """Extra request header 'Name: value', for gateways. Repeatable."""

    insecure: bool = False
    """Do not verify TLS certificates. Only for a test server of your own."""

    trust_env: bool = False
    """Use the proxies named by HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

    def __post_init__(self) -> None:
        urls = strings(self.base_url)
        require(bool(urls), "No base URL: give one with --base-url, for example http://localhost:8000/v1.")
        object.__setattr__(self, "base_url", tuple(normalise_base_url(url) for url in urls))
        object.__setattr__(self, "header", header_lines(self.header))

    def headers(self) -> dict[str, str]:
        """The extra headers as a mapping."""
        return as_mapping(self.header)

    def key_variables(self) -> tuple[str, ...]:
        """The environment variables in which the API key is looked for, in order."""
        return key_variables(self.api_key_env)

    def api_key(self, environ: Mapping[str, str] | None = None) -> str:
        """The API key from the environment, "" where none is set (fine for a local server).

        Raises:
            ConfigError: the variable named by ``api_key_env`` is not set, or the key cannot go in a header.
        """
        return find_api_key(self.api_key_env, environ)


def normalise_base_url(url: str) -> str:
    """``url`` without a trailing slash or ``/chat/completions``; ConfigError where it cannot be one."""
    # Never shown back: what is not understood may hold a password.
    cleaned = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    try:
        parts = urlsplit(cleaned)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("A base URL cannot be read: its host or port is malformed.") from None
    require(
        parts.username is None and parts.password is None,
        "A base URL holds a user name or password. Take them out and use --api-key-env or --header.",
    )
    require(
        parts.scheme in ("http", "https") and bool(host),
        f"Base URL {cleaned!r} is not an http:// or https:// address, such as http://localhost:8000/v1.",
    )
    require(
        not parts.query and not parts.fragment,
        "A base URL has a '?' or '#' part, which has no place there: give just the address, up to /v1.",
    )
    return cleaned
