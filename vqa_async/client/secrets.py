"""What was sent to an endpoint and must not appear in anything that is kept: keys, secret headers."""

from __future__ import annotations

from collections.abc import Iterable

from vqa_async.errors import ResponseError, StatusError, VQAError
from vqa_async.retry import header
from vqa_async.transport import Response


class Secrets:
    """Strings that must not appear in anything that is kept.

    Not all that is given can be one: local servers take EMPTY or none for a key, gateways want headers such
    as ``X-Team: blue``, and to blot these out would spoil answers. A secret is long, or more than a word.
    """

    def __init__(self, given: Iterable[str]) -> None:
        words = {word for secret in given for word in (secret, *secret.split())}
        self._texts = tuple(sorted(filter(_is_secret, words), key=len, reverse=True))
        self._bytes = tuple(text.encode() for text in self._texts)

    def removed(self, text: str) -> str:
        """``text`` without them; the same object where it holds none."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, "[removed]")
        return text

    def removed_from(self, response: Response) -> Response:
        """``response`` without them: before parts are cut out of it, or a cut might leave half of one."""
        body = response.body
        for secret in self._bytes:
            if secret in body:
                body = body.replace(secret, b"[removed]")
        location = header(response.headers, "location") if 300 <= response.status < 400 else ""
        clean = self.removed(location)
        if body is response.body and clean is location:
            return response
        return Response(response.status, {"Location": clean} if clean else response.headers, body)

    def redact(self, error: VQAError) -> None:
        """Take them out of ``error``, and what is too long."""
        error.message = self.removed(error.message)[:500]
        error.args = (error.message,)
        if isinstance(error, StatusError | ResponseError):
            error.excerpt = self.removed(error.excerpt)


def _is_secret(word: str) -> bool:
    is_word = word.isalpha() or not any(map(str.isalpha, word))
    return len(word) >= 20 or (len(word) >= 6 and not is_word)
