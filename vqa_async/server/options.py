"""How the embedded endpoint behaves, each option once: name, default, unit and help.

The flags of ``vqa-async serve`` and the keywords of ``running_server(...)`` are these fields; the string
below a field is its help. Values check themselves when made. Nothing here opens a socket.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from vqa_async.errors import ConfigError

_MIB = 1 << 20


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Everything that can be ordered of the endpoint.

    Raises:
        ConfigError: a value cannot work; the message names the option.

    Example:
        >>> ServerOptions(latency=0.2, error_rate=("503=0.1",)).error_rates()
        {503: 0.1}
    """

    host: str = "127.0.0.1"
    """Address to listen on. The default is reachable from this machine only."""

    port: int | None = None
    """Port to listen on; 0 takes any free one. Default: 8000 on the command line, any free one in Python."""

    model: tuple[str, ...] = ("looks-1",)
    """Model name to answer to; any other is a 404. Repeatable."""

    api_key: tuple[str, ...] = field(default=(), repr=False)
    """Key to accept as 'Authorization: Bearer KEY'; others get a 401. Repeatable. Default: none."""

    decode: bool = True
    """Decode and describe the images. Without it every answer is the same: for load tests."""

    ocr: bool = False
    """Read the text on the images too, with a small OCR model (extra 'ocr'). A stand-in to try things with,
    and no vision model: it reads, and understands nothing."""

    max_images: int = 0
    """Refuse requests with more images than this. 0: no limit."""

    max_body_bytes: int = 256 * _MIB
    """Refuse request bodies larger than this, after decompression."""

    latency: float = 0.0
    """Mean time to answer, in seconds."""

    latency_distribution: Literal["fixed", "uniform", "exponential", "lognormal"] = "fixed"
    """How times to answer spread around their mean."""

    latency_spread: float = 0.5
    """Half width of 'uniform' as a share of the mean (0 to 1), or sigma of 'lognormal'."""

    tokens_per_second: float = 0.0
    """Speed of writing: adds completion tokens / this to every answer's time. 0: instant."""

    max_concurrency: int = 0
    """Requests worked on at once at most. 0: no limit."""

    overload: Literal["queue", "429"] = "queue"
    """What requests beyond max_concurrency get: a place in the queue, or a 429."""

    knee: int = 0
    """Saturation: with more requests than this at work, answers take longer in proportion. 0: never."""

    rpm: int = 0
    """Requests per minute; beyond it a 429 that says when to come back. 0: no limit."""

    tpm: int = 0
    """Tokens per minute, prompt and completion; beyond it a 429 that says when to come back. 0: no limit."""

    error_rate: tuple[str, ...] = ()
    """Share of requests to answer with an HTTP error, as STATUS=RATE, such as 503=0.1. Repeatable."""

    retry_after: float = 0.0
    """Seconds to ask for in Retry-After with ordered 429s and 503s and when overloaded. 0: do not say."""

    malformed_rate: float = 0.0
    """Share of requests answered 200 with a bad body: empty, HTML, half the JSON, no choice, no content."""

    wrong_json_rate: float = 0.0
    """Share of answers wanted as JSON that are other JSON than was asked for, unless it is asked again."""

    refuse_response_format: Literal["none", "json_schema", "all"] = "none"
    """Answer 400 where response_format asks for a schema, or for any JSON, as some servers do."""

    cut_rate: float = 0.0
    """Share of replies to cut off halfway, after promising the full length."""

    disconnect_rate: float = 0.0
    """Share of requests to hang up on without any reply."""

    drip: float = 0.0
    """Send replies byte by byte, with this many seconds between bytes. 0: at once."""

    drip_rate: float = 1.0
    """Share of replies that drip, where drip is set."""

    batch_max_requests: int = 50_000
    """Requests that an input file of a batch may have. The default is OpenAI's."""

    batch_max_bytes: int = 200_000_000
    """Bytes that an input file of a batch may have. The default is OpenAI's 200 MB."""

    batch_delay: float = 0.0
    """Seconds that a batch is in progress before its requests are answered."""

    batch_expiry: float = 0.0
    """Share of the requests of each batch for which its time does not suffice: it ends as expired."""

    batch_missing_rate: float = 0.0
    """Share of the requests of batches that are in neither file of results."""

    seed: int = 0
    """Seed of faults and latencies: the same seed gives the same sequence of each."""

    def __post_init__(self) -> None:
        for name in ("model", "api_key", "error_rate"):
            value = getattr(self, name)
            object.__setattr__(self, name, (value,) if isinstance(value, str) else tuple(value))
        self._check_door()
        self._check_pace()
        self._check_faults()

    def error_rates(self) -> Mapping[int, float]:
        """``error_rate`` as a mapping from HTTP status to share of requests."""
        rates: dict[int, float] = {}
        for line in self.error_rate:
            found = re.fullmatch(r"([45]\d\d)=(0?\.\d+|[01](?:\.\d*)?)", line.strip())
            _require(
                bool(found),
                f"error_rate {line!r} is not STATUS=RATE, such as 503=0.1.",
            )
            assert found is not None
            _require(int(found[1]) not in rates, f"error_rate gives status {found[1]} twice.")
            rates[int(found[1])] = float(found[2])
        return rates

    def _check_door(self) -> None:
        _require(bool(self.host.strip()), "host must not be empty: 127.0.0.1 is this machine.")
        _require(self.port is None or 0 <= self.port <= 65535, "port must be from 0 to 65535.")
        _require(bool(self.model) and all(self.model), "model must be at least one name, and none empty.")
        _require(
            all(key and key.isascii() and key.isprintable() for key in self.api_key),
            "api_key must not be empty or hold control or non-ASCII characters.",
        )
        _require(self.decode or not self.ocr, "ocr reads decoded images: leave out --no-decode.")
        _require(self.max_images >= 0, "max_images must not be negative.")
        _require(self.max_body_bytes >= 1024, "max_body_bytes must be at least 1024.")
        _require(self.batch_max_requests >= 1, "batch_max_requests must be at least 1.")
        _require(self.batch_max_bytes >= 1, "batch_max_bytes must be at least 1.")

    def _check_pace(self) -> None:
        for name in ("latency", "latency_spread", "tokens_per_second", "retry_after", "drip", "batch_delay"):
            value = getattr(self, name)
            _require(math.isfinite(value) and 0 <= value < 1e6, f"{name} must be a number, 0 or more.")
        for name in ("max_concurrency", "knee", "rpm", "tpm"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative.")
        _require(
            self.latency_distribution != "uniform" or self.latency_spread <= 1,
            "latency_spread of a uniform distribution must be from 0 to 1: a latency cannot be negative.",
        )
        _require(self.latency_spread <= 5, "latency_spread must be at most 5.")

    def _check_faults(self) -> None:
        rates = {
            name: getattr(self, name)
            for name in ("malformed_rate", "cut_rate", "disconnect_rate", "drip_rate")
        }
        for name, rate in rates.items():
            _require(0 <= rate <= 1, f"{name} must be from 0 to 1.")
        for name in ("wrong_json_rate", "batch_expiry", "batch_missing_rate"):
            _require(0 <= getattr(self, name) <= 1, f"{name} must be from 0 to 1.")
        # A request has one fault at most, so their shares add up. Dripping is no fault: the reply is whole.
        total = sum(rates.values()) - self.drip_rate + sum(self.error_rates().values())
        _require(total <= 1 + 1e-9, f"The fault rates add up to {total:g}; together they must not exceed 1.")
