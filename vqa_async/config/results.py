"""How results are kept, and what is told of a run while it goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from vqa_async.config.values import require, strings


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

    despite_batches: bool = False
    """Also ask about records that wait in a batch, which are then paid for twice; the first answer counts."""

    repair: bool = False
    """Move damaged lines of the output to OUT.damaged.jsonl and run their records again."""

    def __post_init__(self) -> None:
        if not isinstance(self.retry_failed, bool):
            words = ",".join(strings(self.retry_failed)).split(",")
            object.__setattr__(self, "retry_failed", tuple(filter(None, (word.strip() for word in words))))
            require(bool(self.retry_failed), "--retry-failed= names no kind of error: name one, or none.")
        require(0 < self.fsync_interval <= 3600, "fsync_interval must be above 0 and at most 3600 seconds.")


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """What is handed to a provider's batch API at once, and how often it is asked how that stands."""

    batch_requests: int = 50_000
    """Requests in one batch at most. The default is OpenAI's limit."""

    batch_bytes: int = 200_000_000
    """Bytes in one file of requests at most. The default is OpenAI's limit of 200 MB, read as decimal: so it
    holds whichever is meant."""

    batch_poll: float = 60.0
    """Seconds between two looks at batches that are waited for, at most; the first looks come sooner."""

    def __post_init__(self) -> None:
        require(self.batch_requests >= 1, "batch_requests must be at least 1.")
        require(self.batch_bytes >= 1, "batch_bytes must be at least 1.")
        require(0 < self.batch_poll <= 86_400, "batch_poll must be above 0 and at most a day.")


LogLevel: TypeAlias = Literal["debug", "info", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Observability:
    """How a run can be watched from outside. Changes no answer."""

    metrics_port: int | None = None
    """Serve metrics for Prometheus at http://HOST:PORT/metrics while the run goes on; 0 takes a free port and
    says which. Needs the extra 'metrics'. Default: none are kept."""

    metrics_host: str = "127.0.0.1"
    """Address that metrics are served at; 0.0.0.0 lets other machines read them."""

    otel: bool = False
    """Spans and metrics of each request by OpenTelemetry, with the names of its GenAI conventions, never with
    prompts, answers or images. Needs the extra 'otel' and a program that has set up the SDK."""

    log_level: LogLevel | None = None
    """Log from this level on; debug shows each request with images elided and keys masked. Default: info with
    log_file, else nothing. On the command line only: a program sets up logging itself."""

    log_format: Literal["text", "json"] = "text"
    """Log lines for people, or one JSON object a line."""

    log_file: str = ""
    """File that log lines are added to. Default: standard error."""

    def __post_init__(self) -> None:
        require(
            self.metrics_port is None or 0 <= self.metrics_port <= 65535,
            "metrics_port must be from 0 to 65535.",
        )
        require(bool(self.metrics_host), "metrics_host must not be empty.")
        levels = get_args(LogLevel)
        require(
            self.log_level is None or self.log_level in levels,
            f"log_level must be one of {', '.join(levels)}, not {self.log_level!r}.",
        )
        require(self.log_format in ("text", "json"), "log_format must be text or json.")

    @property
    def logs(self) -> bool:
        """Whether log lines are wanted."""
        return bool(self.log_level or self.log_file)
