"""Failures called by name: the classes of the error tree and the codes that `status` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vqa_async import errors
from vqa_async.errors import ConfigError, VQAError
from vqa_async.journal.codec import decode_line

_CODES = """
    bad_data_uri bad_id bad_image bad_image_reference bad_record bad_url batch_cancelled batch_expired
    batch_failed batch_missing connect content_filter
    content_policy_violation context_length_exceeded dns duplicate_id empty_response file_not_found
    forbidden format_not_allowed html_response image_count image_too_large internal invalid_text
    item_too_long line_too_long malformed_content malformed_response no_conversation no_user_turn not_a_file
    not_an_image not_an_object not_json path_outside_root protocol rate_limited refused rejected reset
    server_error timeout tls_broken too_deep too_large truncated_image unexpected_redirect unexpected_stream
    unexpected_tool_call unknown_role unreadable url_not_allowed
"""
CODES = frozenset(_CODES.split())
"""Codes that a failure may have, so that one which did not happen this time is no mistake. Endpoints have
more of their own: those count as known where the output holds one."""


class Kinds:
    """Some kinds of failures.

    Args:
        names: each a code, or a class of the error tree, with all below it: ``ImageError``, or ``image``.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {_plain(name): name for name in names}
        self._types = {type for name in self._names for type in _CLASSES.get(name, ())}
        self._seen: set[str] = set()

    def has(self, line: bytes) -> bool:
        """Whether the failure in ``line`` is one of them."""
        error = decode_line(line)["error"]
        code = str(error["code"])
        self._seen.add(code)
        return error["type"] in self._types or _plain(code) in self._names

    def require_known(self) -> None:
        """Refuse names that no failure can have, once the failures were looked through.

        Raises:
            ConfigError: there is one; the known ones are named.
        """
        known = {_plain(code) for code in CODES | self._seen} | set(_CLASSES)
        unknown = [name for plain, name in self._names.items() if plain not in known]
        if unknown:
            here = ", ".join(sorted(self._seen)) or "none"
            kinds = ", ".join(sorted({min(names, key=len) for names in _CLASSES.values()}))
            raise ConfigError(
                f"No failure is called {unknown[0]!r}. In this output there are: {here}. "
                f"All kinds: {kinds}. All codes: {', '.join(sorted(CODES | self._seen))}."
            )


def _plain(name: str) -> str:
    """A name as it is compared: ``ImageError``, ``image-error`` and ``image`` are one."""
    return name.lower().replace("_", "").replace("-", "").removesuffix("error")


def _below(kind: type[VQAError]) -> Iterator[str]:
    yield kind.__name__
    for child in kind.__subclasses__():
        yield from _below(child)


_CLASSES: dict[str, tuple[str, ...]] = {
    _plain(name): tuple(_below(getattr(errors, name))) for name in errors.__all__ if name != "VQAError"
}
