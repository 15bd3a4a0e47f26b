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
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import urlsplit

import orjson

from vqa_async.errors import ConfigError
from vqa_async.schemas import schema_text

DEFAULT_KEY_VARIABLES = ("DF_API_KEY", "OPENAI_API_KEY")
"""Environment variables that are looked at for the key, in this order, when none is named."""

PARAMS_KEY = "_params"
"""Field of a row that holds request parameters for it alone."""

SET_BY_ENGINE = frozenset(["model", "messages", "stream", "n"])
"""Request parameters that nobody else may set: the engine does, or cannot read the reply."""

InputFormat: TypeAlias = Literal[
    "auto", "json", "jsonl", "csv", "tsv", "parquet", "arrow", "webdataset", "batch", "folder"
]
"""What an input may be said to be, where its content and its name do not tell."""

_MIB = 1 << 20


def _strings(value: object) -> tuple[str, ...]:
    """One string or several, as a tuple: Python callers and TOML files often give just one."""
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _header_lines(value: object) -> tuple[str, ...]:
    """Headers as lines, each of which is one."""
    lines = _strings(value)
    _require(all(isinstance(line, str) for line in lines), "A --header is not of the form 'Name: value'.")
    for line in lines:
        name, colon, content = line.partition(":")
        _require(
            bool(colon) and bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip())),
            "A --header is not of the form 'Name: value'.",
        )
        _require(content.isprintable(), f"The value of header {name.strip()} has a line break or control.")
    return lines


def _as_mapping(lines: Iterable[str]) -> dict[str, str]:
    split = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in split}


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
        if key := environ.get(name, "").strip():
            _require(
                key.isascii() and key.isprintable() and " " not in key,
                f"The API key in {name} has a space, line break or non-ASCII character: set it again.",
            )
            return key
    _require(
        not api_key_env,
        f"The environment variable {api_key_env} (from --api-key-env) is not set or is empty.",
    )
    return ""


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
        _require(isinstance(self.base_url, str) and bool(self.base_url), "An endpoint has no base_url.")
        for name in ("model", "api_key_env"):
            _require(isinstance(getattr(self, name), str), f"The {name} of an endpoint must be a text.")
        for name in ("weight", "max_workers", "rpm", "tpm"):
            value = getattr(self, name)
            kind, said = (int, "a whole number") if name == "max_workers" else (int | float, "a number")
            _require(
                isinstance(value, kind) and not isinstance(value, bool),
                f"The {name} of an endpoint must be {said}, not {value!r}.",
            )
        object.__setattr__(self, "base_url", normalise_base_url(self.base_url))
        object.__setattr__(self, "header", _header_lines(self.header))
        where = f"of the endpoint {self.base_url}"
        _require(0 < self.weight < 1e12, f"The weight {where} must be above 0 and finite.")
        for name in ("max_workers", "rpm", "tpm"):
            _require(0 <= getattr(self, name) < 1e12, f"The {name} {where} must not be negative.")

    @classmethod
    def of(cls, value: NamedEndpoint | Mapping[str, Any] | str) -> NamedEndpoint:
        """An endpoint from a TOML table, or from its address alone."""
        if isinstance(value, NamedEndpoint):
            return value
        if isinstance(value, str):
            return cls(value)
        known = [option.name for option in fields(cls)]
        _require(isinstance(value, Mapping), "Each of the endpoints must be a table with a base_url.")
        for name in value:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else f" There are {', '.join(known)}."
            _require(name in known, f"There is no option {name!r} of an endpoint.{hint}")
        try:
            return cls(**value)
        except TypeError as error:
            raise ConfigError(f"An option of an endpoint is missing or of the wrong type: {error}.") from None

    def headers(self) -> dict[str, str]:
        """The extra headers as a mapping."""
        return _as_mapping(self.header)


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
        urls = _strings(self.base_url)
        _require(bool(urls), "No base URL: give one with --base-url, for example http://localhost:8000/v1.")
        object.__setattr__(self, "base_url", tuple(normalise_base_url(url) for url in urls))
        object.__setattr__(self, "header", _header_lines(self.header))

    def headers(self) -> dict[str, str]:
        """The extra headers as a mapping."""
        return _as_mapping(self.header)

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
        reserved = sorted(SET_BY_ENGINE & extra.keys())
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


Style: TypeAlias = Literal[
    "descriptive", "reasoning", "yes_no", "counting", "ocr", "multiple_choice", "spatial", "mixed"
]

_MOST_TEXT_BYTES = 1 << 20
"""Of a file that holds a template or a domain pack."""


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
        _require(
            self.style is None or self.style in get_args(Style),
            f"style must be one of {', '.join(get_args(Style))}, not {self.style!r}.",
        )
        _require(0 <= self.pairs <= 100, "pairs must be from 0 to 100.")
        _require(
            len(self.language) <= 60 and self.language.isprintable(),
            "language must be the name of a language on one line.",
        )
        # Files become their text here, so that a Config and the run file say all of what is asked.
        if self.domain.endswith(".toml") and "\n" not in self.domain:
            object.__setattr__(self, "domain", f"{_text_of(self.domain, '--domain')}\n")
        for name in ("prompt_template", "system_template"):
            value = getattr(self, name)
            if value.startswith("@"):
                text = _text_of(value[1:], f"--{name.replace('_', '-')}")
                # A comment in front of what would be taken for the name of a file the next time.
                object.__setattr__(self, name, f"{{##}}{text}" if text.startswith("@") else text)
            _require(not value or bool(getattr(self, name).strip()), f"--{name.replace('_', '-')} is blank.")

    @property
    def shapes_system(self) -> bool:
        """Whether anything is added to the system prompt of the run."""
        return bool(self.style or self.pairs or self.language or self.domain)


def _text_of(path: str, option: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_TEXT_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"The file {path} of {option} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The file {path} of {option} is not UTF-8 text.") from None
    _require(len(content) <= _MOST_TEXT_BYTES, f"The file {path} of {option} is longer than 1 MiB.")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")


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
        _require(0 <= self.reasks <= 20, "reasks must be from 0 to 20.")
        ceiling = self.max_tokens_ceiling
        _require(ceiling is None or ceiling >= 1, "max_tokens_ceiling must be at least 1.")

    def answer_settings(self) -> dict[str, Any]:
        """Those that change answers, where they are set: outputs that were made without them stay usable."""
        settings = {
            "structured": self.structured,
            "schema": self.schema,
            "max_tokens_ceiling": self.max_tokens_ceiling,
        }
        return {name: value for name, value in settings.items() if value}


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a row are read and written."""

    image_key: str = "image"
    """Field that holds the image or images."""

    conversation_key: str = "conversation"
    """Field that holds the conversation."""

    prompt_key: str = ""
    """Field that holds the question of a row without a conversation. Default: none does."""

    questions_key: str = "questions"
    """Field that holds a list of questions about the row, one request each. '': none does."""

    output_key: str = "vqa"
    """Field that the answer is written to."""

    def __post_init__(self) -> None:
        for name in ("image_key", "conversation_key", "output_key"):
            _require(bool(getattr(self, name)), f"{name} must not be empty.")
        read = (self.image_key, self.conversation_key, self.prompt_key, self.questions_key)
        _require(
            self.output_key not in (*read, PARAMS_KEY, "qa_pairs", "structured", "_meta", "error"),
            f"output_key {self.output_key!r} is taken by another field: choose another name.",
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which records of an input are asked about, in which order, and which of their fields are kept."""

    select: tuple[str, ...] = ()
    """Fields of a row to keep in the output, by comma or repeated; image, conversation, id and names that
    begin with _ are always kept. Default: all."""

    where: tuple[str, ...] = ()
    """Only rows whose field has this text: column=value, column!=value, or column= for none. Repeatable: all
    must hold."""

    shuffle: int | None = None
    """Seed for another order: records are drawn from a buffer of 10,000, or of 500 where images stand in the
    input itself."""

    shard: str = ""
    """Only the k-th of n parts: k/n, with k from 1. Which part a record is in follows from its id alone."""

    def __post_init__(self) -> None:
        names = [name.strip() for text in _strings(self.select) for name in text.split(",")]
        object.__setattr__(self, "select", tuple(filter(None, names)))
        object.__setattr__(self, "where", _strings(self.where))
        for text in self.where:
            _require(
                text.find("=") > text.startswith("!"),
                f"--where {text!r} must be column=value or column!=value.",
            )
        _require(
            self.shard == "" or self.part is not None, f"--shard {self.shard!r} must be k/n, such as 1/8."
        )

    def __bool__(self) -> bool:
        return bool(self.select or self.where or self.shard or self.shuffle is not None)

    def conditions(self) -> tuple[tuple[str, bool, str], ...]:
        """``where`` as column, whether it must be equal, and the text it is compared with."""
        split = (text.partition("=") for text in self.where)
        return tuple((name.removesuffix("!"), not name.endswith("!"), value) for name, _, value in split)

    @property
    def part(self) -> tuple[int, int] | None:
        """``shard`` as two numbers, the first from 0; None where it is none."""
        found = re.fullmatch(r"([1-9]\d{0,8})/([1-9]\d{0,8})", self.shard, re.ASCII)
        if found is None or int(found[1]) > int(found[2]):
            return None
        return int(found[1]) - 1, int(found[2])


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

    no_image_urls: bool = False
    """Refuse records whose images are http(s) URLs."""

    image_root: str = ""
    """Folder that local images must be in, links resolved: for records of others. Default: any file."""

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
        _require(
            not (self.no_image_urls and self.fetch_images),
            "--no-image-urls refuses what --fetch-images would download: choose one.",
        )
        if self.image_root:
            object.__setattr__(self, "image_root", os.path.realpath(self.image_root))
            _require(
                os.path.isdir(self.image_root),
                f"The folder {self.image_root} of --image-root does not exist.",
            )


@dataclass(frozen=True, slots=True)
class Limits:
    """How much at once."""

    max_workers: int | Literal["auto"] = 10
    """Requests in flight at most, over all endpoints. 'auto' finds how many each endpoint makes the best
    of."""

    start_workers: int = 8
    """With 'auto': requests in flight at first, at each endpoint."""

    most_workers: int = 2000
    """With 'auto': requests in flight at most, over all endpoints."""

    rpm: float = 0.0
    """Requests a minute at each endpoint at most. 0: what its replies tell, by their headers and 429s."""

    tpm: float = 0.0
    """Tokens a minute at each endpoint at most, prompt and completion. 0: what its replies tell."""

    max_response_bytes: int = 8 * _MIB
    """Refuse replies larger than this, after decompression."""

    on_outage: Literal["wait", "stop"] = "wait"
    """When every endpoint is down: wait and probe them now and then, for up to max_outage; or stop the run,
    which the same command resumes."""

    max_outage: float = 600.0
    """Seconds for which every endpoint may be down, or refuse with 429, before the run stops (resumable)."""

    hedge: str = ""
    """Send a request again, to another endpoint if there is one, when its answer takes longer than that of
    this share of requests, such as p95; the first answer counts. Costs 2 % more requests at most. Default:
    off."""

    def __post_init__(self) -> None:
        _require(
            isinstance(self.max_workers, int) or self.max_workers == "auto",
            f"max_workers must be a number or 'auto', not {self.max_workers!r}.",
        )
        for name in ("max_workers", "start_workers", "most_workers"):
            value = getattr(self, name)
            _require(value == "auto" or 1 <= value <= 100_000, f"{name} must be from 1 to 100000.")
        for name in ("rpm", "tpm", "max_outage"):
            _require(0 <= getattr(self, name) < 1e12, f"{name} must not be negative.")
        _require(self.max_response_bytes >= 1024, "max_response_bytes must be at least 1024.")
        _require(
            not self.hedge or re.fullmatch(r"p[5-9]\d(\.\d)?", self.hedge) is not None,
            f"hedge must be a percentile from p50 to p99, such as p95, not {self.hedge!r}.",
        )

    @property
    def is_adaptive(self) -> bool:
        """Whether each endpoint's width is found by trying."""
        return isinstance(self.max_workers, str)

    @property
    def width_bound(self) -> int:
        """Requests in flight at most, over all endpoints."""
        return self.max_workers if isinstance(self.max_workers, int) else self.most_workers

    def bounded(self, most: int) -> Limits:
        """The same with a lower bound."""
        return replace(self, most_workers=most) if self.is_adaptive else replace(self, max_workers=most)

    def hedge_share(self) -> float:
        """The share of requests that are not sent again, 0 where none is."""
        return float(self.hedge[1:]) / 100 if self.hedge else 0.0


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run may cost. Once that is used up, it ends drained, and the same command resumes."""

    max_requests: int = 0
    """Requests that this run may send, retries included. 0: no limit."""

    max_tokens_total: int = 0
    """Tokens that this run may spend, prompts and answers together. 0: no limit."""

    max_cost: float = 0.0
    """What this run may cost, in US dollars. Prices are those below, else of the genai-prices package
    (extra 'cost'). 0: no limit."""

    price_input: float | None = None
    """Price of a million prompt tokens, in US dollars. Default: looked up by the model's name."""

    price_output: float | None = None
    """Price of a million answer tokens, in US dollars."""

    deadline: float = 0.0
    """Seconds after which the run stops. 0: none."""

    def __post_init__(self) -> None:
        for name in ("max_requests", "max_tokens_total", "max_cost", "deadline"):
            _require(0 <= getattr(self, name) < 1e18, f"{name} must not be negative.")
        for name in ("price_input", "price_output"):
            price = getattr(self, name)
            _require(price is None or 0 <= price < 1e9, f"{name} must not be negative.")
        _require(
            (self.price_input is None) == (self.price_output is None),
            "Give both --price-input and --price-output, or neither.",
        )


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds."""

    timeout: float = 600.0
    """Seconds for one attempt, from connecting to the last byte of the reply."""

    connect_timeout: float = 10.0
    """Seconds to open a connection, TLS included."""

    stall_timeout: float = 60.0
    """Seconds in which nothing of a request is taken, or nothing more comes of a reply that has begun, after
    which the attempt is over. Waiting for the first byte of an answer does not count."""

    stall_notice: float = 60.0
    """Seconds without any record finished after which it is said what everything waits for. 0: never."""

    drain_timeout: float = 10.0
    """Seconds that requests in flight get to finish when a run is stopped; when a budget is used up, as long
    as they need."""

    def __post_init__(self) -> None:
        _require(0 <= self.stall_notice < 1e6, "stall_notice must not be negative.")
        for name in ("timeout", "connect_timeout", "stall_timeout"):
            _require(0 < getattr(self, name) < 1e6, f"{name} must be a positive number of seconds.")
        _require(0 <= self.drain_timeout < 1e6, "drain_timeout must not be negative.")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again: full jitter, bounded in attempts and in time."""

    max_attempts: int = 8
    """Attempts per record at most, the first included."""

    max_retry_time: float = 900.0
    """Seconds after which a record is not tried again; waiting for an endpoint that is down or limited does
    not count."""

    backoff_base: float = 0.5
    """The wait before attempt n+1 is random, up to backoff_base x 2^(n-1) seconds."""

    backoff_max: float = 30.0
    """The longest wait of our own, in seconds."""

    retry_after_max: float = 120.0
    """The longest Retry-After of an error other than 429 that is honoured, in seconds; a longer one ends the
    record. A 429 is waited for up to max_outage, by all who ask that endpoint."""

    retry_share: float = 0.5
    """Retries at most for each answer; beyond that they are slowed down, so that a bad hour does not double
    the load. 0: no such bound."""

    def __post_init__(self) -> None:
        _require(self.max_attempts >= 1, "max_attempts must be at least 1.")
        _require(0 <= self.retry_share <= 100, "retry_share must be from 0 to 100.")
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

    retry_failed: bool | tuple[str, ...] = False
    """Also try records again whose failure is permanent. With names of kinds of errors, as 'status' shows
    them (--retry-failed=timeout,image): try those again, and no others."""

    allow_changed_settings: bool = False
    """Resume although the output was made with other settings."""

    repair: bool = False
    """Move damaged lines of the output to OUT.damaged.jsonl and run their records again."""

    def __post_init__(self) -> None:
        if not isinstance(self.retry_failed, bool):
            words = ",".join(_strings(self.retry_failed)).split(",")
            object.__setattr__(self, "retry_failed", tuple(filter(None, (word.strip() for word in words))))
            _require(bool(self.retry_failed), "--retry-failed= names no kind of error: name one, or none.")
        _require(0 < self.fsync_interval <= 3600, "fsync_interval must be above 0 and at most 3600 seconds.")


BASIC_CHECKS = ("empty", "repeated", "no_question", "refusal", "length", "ai_leak", "prompt_leak")
"""Checks of pairs that need no model, no library and a few microseconds."""

EXTRA_CHECKS = ("near_duplicate", "language")
"""Of one answer too, but with the libraries of the extra `quality`."""

RUN_CHECKS = ("common", "near_duplicate_run")
"""Against all other pairs of the run, so only in hindsight."""

_CHECK_SETS = {"basic": BASIC_CHECKS, "all": (*BASIC_CHECKS, *EXTRA_CHECKS, *RUN_CHECKS), "none": ()}


@dataclass(frozen=True, slots=True)
class Quality:
    """Which question-answer pairs are good enough. Those that are not stay in the output, with flags."""

    checks: str = "basic"
    """Checks of pairs, with commas between: basic (empty, repeated, no_question, refusal, length, ai_leak,
    prompt_leak); near_duplicate and language (extra 'quality'); common and near_duplicate_run, against the
    whole run; all; none."""

    min_answer_chars: int = 0
    """Check 'length': the shortest answer, in characters. 0: any, for '4' and '红' are answers."""

    max_answer_chars: int = 2000
    """Check 'length': the longest answer and question, in characters; what is longer is rarely one pair. 0:
    any."""

    answer_language: str = ""
    """Check 'language': the language that is wanted, as a code such as en or zh."""

    near_duplicate_ratio: float = 0.9
    """From which similarity on texts are near-duplicates, from 0 to 1; 0.9 is a word or two in a sentence."""

    accept: int = 0
    """Go on until so many records are accepted, that is have a pair without a flag (with --verify: after
    that), or the input is used up. 0: answer all."""

    def __post_init__(self) -> None:
        self.chosen()
        for name in ("min_answer_chars", "max_answer_chars", "accept"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative.")
        _require(0 < self.near_duplicate_ratio <= 1, "near_duplicate_ratio must be above 0 and at most 1.")
        _require(
            "language" not in self.chosen() or bool(self.answer_language),
            "The check 'language' needs the language that is wanted: --answer-language en.",
        )

    def chosen(self) -> frozenset[str]:
        """The names of the checks that are on; of 'all', those that can be."""
        found: set[str] = set()
        for name in filter(None, (name.strip().replace("-", "_") for name in self.checks.split(","))):
            known = {**_CHECK_SETS, **{check: (check,) for check in _CHECK_SETS["all"]}}
            _require(name in known, f"There is no check {name!r} for --checks. There are {', '.join(known)}.")
            found.update(known[name])
            if name == "all" and not self.answer_language:
                found.discard("language")
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether pairs are put to a model once more, and to which."""

    verify: bool = False
    """After the run, put each pair without flags to a model again, with its image. What that
    says is kept in OUT.checks.jsonl, and the same command resumes it too."""

    verify_mode: Literal["answer", "judge"] = "answer"
    """answer: it answers the question without being told our answer, and the two are compared. judge: it is
    told, and gives a mark."""

    verify_model: str = ""
    """Model that verifies. Default: that of the run, though it agrees with its own mistakes."""

    verify_base_url: tuple[str, ...] = ()
    """Address of the API that verifies. Default: that of the run."""

    verify_api_key_env: str = ""
    """Name of the environment variable that holds its API key. Default: as for the run."""

    verify_threshold: float = 0.5
    """Agreement, from 0 to 1, below which a pair is flagged 'disagreement'. Other words for the same are
    mostly above 0.6, other things below 0.4; a judge's 3 of 5 is 0.5."""

    def __post_init__(self) -> None:
        urls = tuple(normalise_base_url(url) for url in _strings(self.verify_base_url))
        object.__setattr__(self, "verify_base_url", urls)
        _require(
            self.verify_mode in ("answer", "judge"),
            f"verify_mode must be answer or judge, not {self.verify_mode!r}.",
        )
        _require(0 <= self.verify_threshold <= 1, "verify_threshold must be from 0 to 1.")


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where the work of a run is done."""

    engine: Literal["local", "ray"] = "local"
    """What does the work: this process, or Ray Data (extra 'ray'), for what one machine cannot do. Limits and
    budgets stay those of the whole run."""

    ray_address: str = ""
    """With --engine ray: the cluster, as Ray knows it: auto, HOST:6379 or ray://HOST:10001. Default: one of
    its own on this machine, ended with the run."""

    ray_actors: int = 0
    """With --engine ray: processes that ask, each with its share of the limits. 0: one a machine, but 2 at
    least."""

    def __post_init__(self) -> None:
        _require(self.engine in ("local", "ray"), f"engine must be local or ray, not {self.engine!r}.")
        _require(0 <= self.ray_actors <= 10_000, "ray_actors must be from 0 to 10000.")
        _require(
            self.engine == "ray" or not (self.ray_address or self.ray_actors),
            "--ray-address and --ray-actors need --engine ray.",
        )


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
    distribution: Distribution = field(default_factory=Distribution, kw_only=True)
    endpoints: tuple[NamedEndpoint, ...] = ()

    def __post_init__(self) -> None:
        given = (self.endpoints,) if isinstance(self.endpoints, str | Mapping) else self.endpoints
        object.__setattr__(self, "endpoints", tuple(NamedEndpoint.of(value) for value in given))
        _require(
            not self.endpoints or self.endpoint.base_url == (DEFAULT_BASE_URL,),
            "Endpoints are named both by base_url and in [[endpoints]]: use one of the two.",
        )
        self._require_format_of_ours()
        self._require_one_source(
            "prompt_template", prompt=self.sampling.prompt, prompt_key=self.columns.prompt_key
        )
        self._require_one_source("system_template", system_prompt=self.sampling.system_prompt)

    def _require_format_of_ours(self) -> None:
        _require(
            not self.answers.structured or "response_format" not in self.sampling.extra_fields(),
            "--structured sets response_format, and --extra-body sets it too: give one of the two.",
        )
        ceiling, least = self.answers.max_tokens_ceiling, self.sampling.max_tokens
        _require(
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
