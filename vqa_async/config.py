"""Every option, once: name, default, unit and help.

Command-line flags, environment variables, TOML keys, ``open_engine(...)`` keywords and the option table of
the README all follow from the fields here; the string below a field is its help everywhere. Values check
themselves when made, so a Config that exists can be run.

Field names are flat: no two groups share one, because ``--max-workers``, ``VQA_MAX_WORKERS``,
``max_workers = 64`` in TOML and ``max_workers=64`` in Python all name the same field.

The API key is not an option. Only the NAME of the environment variable that holds it is, so no
configuration that is printed, compared or written down can contain it.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson

from vqa_async.errors import ConfigError

DEFAULT_KEY_VARIABLES = ("DF_API_KEY", "OPENAI_API_KEY")
"""Environment variables that are looked at for the key, in this order, when none is named."""

_MIB = 1 << 20


def _strings(value: object) -> tuple[str, ...]:
    """One string or several, as a tuple: Python callers and TOML files often give just one."""
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which API to ask."""

    base_url: tuple[str, ...] = ("https://api.openai.com/v1",)
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
        urls = _strings(self.base_url)
        _require(bool(urls), "No base URL: give one with --base-url, for example http://localhost:8000/v1.")
        object.__setattr__(self, "base_url", tuple(normalise_base_url(url) for url in urls))
        object.__setattr__(self, "header", _strings(self.header))
        for line in self.header:
            name, colon, value = line.partition(":")
            _require(
                bool(colon) and bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip())),
                "A --header is not of the form 'Name: value'.",
            )
            _require(value.isprintable(), f"The value of header {name.strip()} has a line break or control.")

    def headers(self) -> dict[str, str]:
        """The extra headers as a mapping."""
        split = (line.partition(":") for line in self.header)
        return {name.strip(): value.strip() for name, _, value in split}

    def key_variables(self) -> tuple[str, ...]:
        """The environment variables in which the API key is looked for, in order."""
        return (self.api_key_env,) if self.api_key_env else DEFAULT_KEY_VARIABLES

    def api_key(self, environ: Mapping[str, str] | None = None) -> str:
        """The API key from the environment, "" where none is set (fine for a local server).

        Raises:
            ConfigError: the variable named by ``api_key_env`` is not set, or the key cannot go in a header.
        """
        environ = os.environ if environ is None else environ
        for name in self.key_variables():
            if key := environ.get(name, "").strip():
                _require(
                    key.isascii() and key.isprintable() and " " not in key,
                    f"The API key in {name} has a space, line break or non-ASCII character: set it again.",
                )
                return key
        _require(
            not self.api_key_env,
            f"The environment variable {self.api_key_env} (from --api-key-env) is not set or is empty.",
        )
        return ""


def normalise_base_url(url: str) -> str:
    """``url`` without a trailing slash or ``/chat/completions``; ConfigError where it cannot be one."""
    # Never shown back: what is not understood may hold a password.
    cleaned = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    try:
        parts = urlsplit(cleaned)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigError("A base URL cannot be read: its host or port is malformed.") from None
    _require(
        parts.username is None and parts.password is None,
        "A base URL holds a user name or password. Take them out and use --api-key-env or --header.",
    )
    _require(
        parts.scheme in ("http", "https") and bool(host),
        f"Base URL {cleaned!r} is not an http:// or https:// address, such as http://localhost:8000/v1.",
    )
    _require(
        not parts.query and not parts.fragment,
        "A base URL has a '?' or '#' part, which has no place there: give just the address, up to /v1.",
    )
    return cleaned


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
        reserved = sorted({"model", "messages", "stream", "n"} & extra.keys())
        _require(
            not reserved,
            f"--extra-body may not set {', '.join(reserved)}: the engine sets it or cannot read the reply.",
        )
        _require(self.temperature is None or 0 <= self.temperature <= 2, "temperature must be from 0 to 2.")
        _require(self.max_tokens is None or self.max_tokens >= 1, "max_tokens must be at least 1.")

    def extra_fields(self) -> dict[str, Any]:
        """``extra_body`` as a mapping."""
        if not self.extra_body:
            return {}
        try:
            extra = orjson.loads(self.extra_body)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"--extra-body is not JSON: {error}.") from None
        _require(isinstance(extra, dict), "--extra-body must be a JSON object, such as '{\"top_p\": 0.9}'.")
        return dict(extra)


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a row are read and written."""

    image_key: str = "image"
    """Field that holds the image or images."""

    conversation_key: str = "conversation"
    """Field that holds the conversation."""

    output_key: str = "vqa"
    """Field that the answer is written to."""

    def __post_init__(self) -> None:
        for name in ("image_key", "conversation_key", "output_key"):
            _require(bool(getattr(self, name)), f"{name} must not be empty.")
        _require(
            self.output_key not in (self.image_key, self.conversation_key, "qa_pairs", "_meta", "error"),
            f"output_key {self.output_key!r} is taken by another field: choose another name.",
        )


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How images are prepared. What the API takes and is small enough goes out byte for byte."""

    max_side: int = 0
    """Shrink so that neither side is longer than this many pixels. 0: no limit."""

    max_pixels: int = 0
    """Shrink to at most this many pixels. 0: no limit."""

    max_bytes: int = 0
    """Re-encode until an image file has at most this many bytes. 0: no limit."""

    jpeg_quality: int = 90
    """JPEG quality where an image must be re-encoded, 1 to 95."""

    detail: Literal["auto", "low", "high"] | None = None
    """The API's own 'detail' setting for images. Default: not sent."""

    validate: Literal["header", "full"] = "header"
    """How images are checked before sending: header and end of file, or by decoding them in full."""

    fetch_images: bool = False
    """Download http(s) images and send them inline. Default: the URL itself is handed to the endpoint."""

    allow_private_urls: bool = False
    """Let --fetch-images reach private, loopback and link-local addresses."""

    max_file_bytes: int = 100 * _MIB
    """Refuse image files larger than this."""

    max_decode_pixels: int = 200_000_000
    """Refuse images with more pixels than this (decompression bombs). Phones make up to 200 million."""

    image_cache_bytes: int = 32 * _MIB
    """Keep encoded images up to this many bytes for records that ask about the same image."""

    encoded_bytes: int = 256 * _MIB
    """Encoded images in memory at once at most, over all records being worked on."""

    def __post_init__(self) -> None:
        for name in ("max_side", "max_pixels", "max_bytes", "image_cache_bytes"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative.")
        for name in ("max_file_bytes", "max_decode_pixels", "encoded_bytes"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1.")
        _require(1 <= self.jpeg_quality <= 95, "jpeg_quality must be from 1 to 95.")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once."""

    max_workers: int = 10
    """Requests in flight at most, over all endpoints."""

    max_response_bytes: int = 8 * _MIB
    """Refuse replies larger than this, after decompression."""

    max_outage: float = 600.0
    """Seconds for which every endpoint may be down before the run stops (resumable)."""

    def __post_init__(self) -> None:
        _require(1 <= self.max_workers <= 100_000, "max_workers must be from 1 to 100000.")
        _require(self.max_response_bytes >= 1024, "max_response_bytes must be at least 1024.")
        _require(self.max_outage >= 0, "max_outage must not be negative.")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds."""

    timeout: float = 600.0
    """Seconds for one attempt, from connecting to the last byte of the reply."""

    connect_timeout: float = 10.0
    """Seconds to open a connection, TLS included."""

    drain_timeout: float = 10.0
    """Seconds that requests in flight get to finish when a run is stopped."""

    def __post_init__(self) -> None:
        for name in ("timeout", "connect_timeout"):
            _require(0 < getattr(self, name) < 1e6, f"{name} must be a positive number of seconds.")
        _require(0 <= self.drain_timeout < 1e6, "drain_timeout must not be negative.")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again: full jitter, bounded in attempts and in time."""

    max_attempts: int = 8
    """Attempts per record at most, the first included."""

    max_retry_time: float = 900.0
    """Seconds after which a record is not tried again."""

    backoff_base: float = 0.5
    """The wait before attempt n+1 is random, up to backoff_base x 2^(n-1) seconds."""

    backoff_max: float = 30.0
    """The longest wait of our own, in seconds."""

    retry_after_max: float = 120.0
    """The longest Retry-After of a server that is honoured, in seconds; a longer one ends the record."""

    def __post_init__(self) -> None:
        _require(self.max_attempts >= 1, "max_attempts must be at least 1.")
        for name in ("max_retry_time", "backoff_base", "backoff_max", "retry_after_max"):
            _require(0 <= getattr(self, name) < 1e6, f"{name} must be a number of seconds, not negative.")


@dataclass(frozen=True, slots=True)
class JournalOptions:
    """How results are kept, and what a second run on the same output does."""

    fsync: Literal["always", "interval", "never"] = "interval"
    """Force results to the disk: before each is counted, once per fsync_interval, or leave it to the system.
    A killed process loses nothing in any mode; only a power cut can."""

    fsync_interval: float = 1.0
    """Seconds between syncs with --fsync interval."""

    retry_failed: bool = False
    """Also try records again whose failure is permanent."""

    allow_changed_settings: bool = False
    """Resume although the output was made with other settings."""

    repair: bool = False
    """Move damaged lines of the output to OUT.damaged.jsonl and run their records again."""

    def __post_init__(self) -> None:
        _require(0 < self.fsync_interval <= 3600, "fsync_interval must be above 0 and at most 3600 seconds.")


@dataclass(frozen=True, slots=True)
class Config:
    """All options, in their groups.

    Example:
        >>> Config.of(base_url="http://localhost:8000/v1", model="qwen-vl").limits.max_workers
        10
    """

    endpoint: Endpoint = field(default_factory=Endpoint)
    sampling: Sampling = field(default_factory=Sampling)
    columns: Columns = field(default_factory=Columns)
    images: ImageOptions = field(default_factory=ImageOptions)
    limits: Limits = field(default_factory=Limits)
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    journal: JournalOptions = field(default_factory=JournalOptions)

    @classmethod
    def of(cls, **options: Any) -> Config:
        """A Config from flat option names.

        Raises:
            ConfigError: an option is unknown (the nearest name is suggested) or its value cannot work.
        """
        known = option_groups()
        chosen: dict[str, dict[str, Any]] = {}
        for name, value in options.items():
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise ConfigError(f"There is no option {name!r}.{hint}")
            chosen.setdefault(known[name], {})[name] = value
        groups = {f.name: f.default_factory for f in fields(cls)}
        try:
            return cls(**{group: groups[group](**values) for group, values in chosen.items()})  # type: ignore[operator]
        except TypeError as error:
            raise ConfigError(f"An option has a value of the wrong type: {error}.") from None

    def answer_settings(self) -> dict[str, Any]:
        """The settings that change answers or their form: what a resumed run must have in common."""
        images = asdict(self.images)
        for name in ("image_cache_bytes", "encoded_bytes", "allow_private_urls", "max_file_bytes"):
            del images[name]
        return {"model": self.endpoint.model, **asdict(self.sampling), **asdict(self.columns), **images}


def option_groups() -> dict[str, str]:
    """Each option's name and the name of the group that it stands in."""
    defaults = Config()
    return {
        option.name: group.name
        for group in fields(Config)
        for option in fields(getattr(defaults, group.name))
    }
