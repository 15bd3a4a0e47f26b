"""Looks already taken, by digest of the image as sent: a load test sends the same image thousands of times.

Images are decoded in a few threads so that the loop stays free, each once even if many requests bring it
at the same moment. Bounded: the least recently used look goes first. How many distinct images came is
counted apart from the cache, at some 20 bytes an image.

Where text is read too, there is one thread, since that keeps the processor busy by itself, and those who wait
for it are bounded: beyond them a request is told to come back.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from vqa_async.keytable import KeyTable
from vqa_async.server.looks import Look, Reading, look_at
from vqa_async.server.refusals import Refusal, retry_headers

_THREADS = 4  # each may hold one decoded image, and those can be large
_MAX_LOOKS = 8192  # a look takes about half a kilobyte
_MOST_UNREAD = 128  # images that wait to be read: about half a minute's work
_COME_BACK_S = 5.0


class Gallery:
    """``data:`` URIs in, Looks out. It owns threads until closed.

    Args:
        max_looks: how many looks are remembered.
        read: looks for text, in a thread; None where nobody does.
        most_unread: how many images may wait for that.
    """

    def __init__(
        self, max_looks: int = _MAX_LOOKS, read: Reading | None = None, most_unread: int = _MOST_UNREAD
    ) -> None:
        self._max_looks = max_looks
        self._read = read
        self._most_unread = most_unread
        self._looks: OrderedDict[str, Look] = OrderedDict()
        self._decoding: dict[str, asyncio.Future[Look]] = {}
        self._pool = ThreadPoolExecutor(_THREADS if read is None else 1, thread_name_prefix="vqa-look")
        self.forget_count()

    def close(self) -> None:
        """Let the threads go; looks asked for and not yet taken are cancelled."""
        # Not waited for: a decode at work ends on its own, and nobody is left to read its result.
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def distinct(self) -> int:
        """How many different images were decoded or recognised since counting began."""
        return len(self._counted)

    def forget_count(self) -> None:
        """Begin counting distinct images anew; the looks are kept."""
        self._counted = KeyTable(key_bytes=8, value_bytes=0)

    async def look(self, uri: str) -> Look:
        """The look of the image in ``uri``.

        Raises:
            ImageError: it is not a whole image.
            Refusal: 429, where too many images wait for their text to be read.
        """
        digest = sha256(uri.encode("utf-8", "surrogatepass")).hexdigest()
        look = self._looks.get(digest)
        if look is None:
            # Shielded, because other requests may be waiting for the same image.
            look = await asyncio.shield(self._decoding.get(digest) or self._decode(digest, uri))
        else:
            self._looks.move_to_end(digest)
        self._counted.set(digest, b"")
        return look

    def _decode(self, digest: str, uri: str) -> asyncio.Future[Look]:
        if self._read is not None and len(self._decoding) >= self._most_unread:
            said = f"Overloaded: {self._most_unread} images are waiting for their text to be read."
            raise Refusal(
                429, said, type="rate_limit_error", code="overloaded", headers=retry_headers(_COME_BACK_S)
            )
        future = asyncio.get_running_loop().run_in_executor(self._pool, look_at, uri, self._read)
        self._decoding[digest] = future
        future.add_done_callback(lambda done: self._keep(digest, done))
        return future

    def _keep(self, digest: str, done: asyncio.Future[Look]) -> None:
        del self._decoding[digest]
        # Asking for the exception also marks it as seen, should every request for it have been given up.
        if done.cancelled() or done.exception() is not None:
            return
        self._looks[digest] = done.result()
        if len(self._looks) > self._max_looks:
            self._looks.popitem(last=False)
