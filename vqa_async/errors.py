"""Everything that can go wrong, as one tree split by what the caller does next.

    VQAError
      ConfigError            fix the settings
        InputError           fix the input file: it cannot be read as a whole
      RecordError            fix the input: a Failure for this record
        ImageError
      RequestError           (endpoint, attempts, elapsed_s)
        TransportError       retry: connect, reset, timeout, TLS
        StatusError          (status, retry_after_s, code, excerpt)
          RateLimited        retry, and slow everyone down
          ServerError        retry
          AuthError          stop the run
          QuotaExceeded      stop the run
          ModelNotFound      stop the run
          EndpointNotFound   stop the run: no chat API at this address
          Rejected           do not retry: content filter, too long, bad image
        ResponseError        200, but not a completion: retry, bounded
        BatchError           a batch gave no answer: ask live, or in another batch
      BudgetReached          stop the run: it may not cost more, or not take longer
      ClusterError           stop the run: what does the work elsewhere has failed
      JournalError           stop the run: the files cannot be trusted
        JournalLocked        another run holds the output
        JournalDamaged       a line was changed or lost; `--repair` mends it
        SettingsChanged      the output was made with other settings
        BatchesPending       its records wait in batches: fetch them first
        DiskError            the disk is full or failing; finished lines are safe

Two facts steer the engine and are plain attributes, never text to be parsed: ``retryable`` (another
attempt of the same record may succeed, now or in the next run) and ``stops_run`` (no record can
succeed until somebody changes something). ``code`` is a short stable word for the cause.

Foreign exceptions are translated once, where they enter (transport, images, journal, sources), and are
not chained: those of HTTP clients carry the request headers, and with them the key.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "AuthError",
    "BatchError",
    "BatchesPending",
    "BudgetReached",
    "ClusterError",
    "ConfigError",
    "DiskError",
    "EndpointNotFound",
    "ImageError",
    "InputError",
    "JournalDamaged",
    "JournalError",
    "JournalLocked",
    "ModelNotFound",
    "QuotaExceeded",
    "RateLimited",
    "RecordError",
    "Rejected",
    "RequestError",
    "ResponseError",
    "ServerError",
    "SettingsChanged",
    "StatusError",
    "TransportError",
    "VQAError",
]


class VQAError(Exception):
    """Root of every error this package raises on purpose.

    Attributes:
        message: one sentence for a person: what, where, what to do next.
        code: a short stable word for the cause, such as ``not_an_image``.
        retryable: whether another attempt of the same record may succeed.
        stops_run: whether no record can succeed until somebody changes something.
    """

    code: str = "error"
    retryable: bool = False
    stops_run: bool = False

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions are remade from their arguments alone, which would lose the facts between processes.
        return _remade, (type(self), self.args, self.__dict__)


def _remade(kind: type[VQAError], args: tuple[Any, ...], facts: dict[str, Any]) -> VQAError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(facts)
    return error


class ConfigError(VQAError):
    """The settings cannot work; nothing was sent."""

    code = "config"
    stops_run = True


class InputError(ConfigError):
    """The input as a whole cannot be read: missing, empty, not JSON, not UTF-8."""

    code = "input"


class RecordError(VQAError):
    """This row is not a record that can be asked about."""

    code = "bad_record"


class ImageError(RecordError):
    """An image of this record cannot be sent: missing, not an image, truncated, too large."""

    code = "bad_image"


class RequestError(VQAError):
    """Asking the endpoint failed.

    Attributes:
        endpoint: base URL that was asked.
        attempts: how many requests were sent for this record, this one included.
        elapsed_s: seconds from the first attempt to this error.
    """

    code = "request"

    def __init__(self, message: str, *, endpoint: str = "", code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.endpoint = endpoint
        self.attempts = 0
        self.elapsed_s = 0.0


class TransportError(RequestError):
    """No complete reply arrived. ``code`` says why:

    connect, dns, timeout, reset, tls_broken, protocol (what came is not HTTP): worth another attempt;
    tls (no valid certificate), bad_header (it cannot be sent): stop the run; too_large, bad_url, forbidden (a
    private address): permanent.
    """

    code = "transport"
    retryable = True


class StatusError(RequestError):
    """The endpoint answered with an HTTP error.

    Attributes:
        status: HTTP status code.
        retry_after_s: seconds the server asked to wait, None when it did not say.
        excerpt: at most 300 characters of the reply, with secrets removed.
    """

    code = "status"

    def __init__(
        self,
        message: str,
        *,
        status: int,
        endpoint: str = "",
        retry_after_s: float | None = None,
        code: str | None = None,
        excerpt: str = "",
    ) -> None:
        super().__init__(message, endpoint=endpoint, code=code)
        self.status = status
        self.retry_after_s = retry_after_s
        self.excerpt = excerpt


class RateLimited(StatusError):
    """429: wait, and let everyone at this endpoint wait."""

    code = "rate_limited"
    retryable = True


class ServerError(StatusError):
    """5xx, 408, 409: the server's trouble, worth another attempt."""

    code = "server_error"
    retryable = True


class AuthError(StatusError):
    """401 or 403: the key is missing, wrong or not allowed."""

    code = "auth"
    retryable = True
    stops_run = True


class QuotaExceeded(StatusError):
    """The account has no credit or quota left; waiting does not help."""

    code = "insufficient_quota"
    retryable = True
    stops_run = True


class ModelNotFound(StatusError):
    """The endpoint does not serve this model."""

    code = "model_not_found"
    retryable = True
    stops_run = True


class EndpointNotFound(StatusError):
    """There is no chat API at this address: wrong path, or a redirect elsewhere."""

    code = "endpoint_not_found"
    retryable = True
    stops_run = True


class Rejected(StatusError):
    """The endpoint will not answer this record: content filter, too long, bad image."""

    code = "rejected"


class ResponseError(RequestError):
    """The endpoint answered 200 with something that is not a completion.

    Attributes:
        excerpt: at most 300 characters of the reply, with secrets removed.
        retryable: False where the model did answer, though not with text (refusal, tool call, nothing).
        cut_off: whether it is for want of room that there is no answer (max_tokens).
    """

    code = "malformed_response"
    retryable = True
    cut_off: bool = False

    def __init__(
        self,
        message: str,
        *,
        endpoint: str = "",
        code: str | None = None,
        excerpt: str = "",
        retryable: bool = True,
    ) -> None:
        super().__init__(message, endpoint=endpoint, code=code)
        self.excerpt = excerpt
        self.retryable = retryable


class BatchError(RequestError):
    """A batch ended without an answer to this record: expired, cancelled, failed as a whole, or left out."""

    code = "batch_missing"
    retryable = True


class BudgetReached(VQAError):
    """The run has used up what it was given: requests, tokens, money, time. The same command goes on."""

    code = "budget"
    retryable = True
    stops_run = True


class ClusterError(VQAError):
    """What does the work elsewhere has failed. What was answered is kept; the same command goes on."""

    code = "cluster"
    retryable = True
    stops_run = True


class JournalError(VQAError):
    """The output files cannot be trusted or used."""

    code = "journal"
    stops_run = True


class JournalLocked(JournalError):
    """Another run holds this output."""

    code = "locked"


class JournalDamaged(JournalError):
    """A finished line was changed, lost or is not ours."""

    code = "damaged"


class SettingsChanged(JournalError):
    """The output was made with settings that give other answers."""

    code = "settings_changed"


class BatchesPending(JournalError):
    """Records of this output wait in batches: to ask about them live would pay for them twice."""

    code = "batches_pending"


class DiskError(JournalError):
    """Writing failed: the disk is full or failing. What was finished before is safe."""

    code = "disk"
