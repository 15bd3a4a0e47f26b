"""Images for records: read and encode in threads, share what is asked for twice, bound what is in memory.

Strategy: an image that must be waited for or decoded takes one hop to a thread, in which it is read, checked,
re-encoded and turned into base64. A small file that the system holds in memory and that goes out as it is
needs neither: it is prepared on the spot, since the hop would cost more than the work. Records that ask for
the same image at the same time wait for one piece of work; later ones find it in the cache. A record waits
once, for the bytes of all its images together, so that two records with half of theirs each can never wait
for each other. Looking up an image that is cached costs one ``stat`` and no hop.

Downloading is not done here: it is a function given by whoever owns the network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeAlias

from vqa_async.config import ImageOptions
from vqa_async.errors import ConfigError, ImageError, InputError
from vqa_async.images.budget import ByteBudget
from vqa_async.images.cache import ImageCache
from vqa_async.images.files import GUESSED_BYTES, Source, check_size, locate, read, read_if_cached
from vqa_async.images.prepare import pass_through, prepare_file, prepare_url
from vqa_async.models import ImageRef, PreparedImage

Fetch: TypeAlias = Callable[[str], Awaitable[bytes]]
Stored: TypeAlias = Callable[[str], bytes | None]
_Made: TypeAlias = tuple[PreparedImage, Hashable]

_NO_IMAGES: AbstractAsyncContextManager[tuple[PreparedImage, ...]] = nullcontext(())


@dataclass(frozen=True, slots=True)
class ImageStatistics:
    """What a loader did and holds.

    Attributes:
        encodes: images encoded, and those that were tried in a thread.
        cache_hits: images that were there already, or being made for another record.
        cached_bytes: bytes of encoded images kept in the cache.
        bytes_in_use: bytes held by records being worked on.
        waiting: records waiting for bytes.
    """

    encodes: int
    cache_hits: int
    cached_bytes: int
    bytes_in_use: int
    waiting: int


class _Work:
    """An image being made, and how many wait for it."""

    __slots__ = ("future", "key", "waiters")

    def __init__(self, key: Hashable, future: asyncio.Future[_Made]) -> None:
        self.key = key
        self.future = future
        self.waiters = 0

    async def made(self) -> PreparedImage:
        """The image, once it is made."""
        # Shielded: a record that is cancelled must not take the work from the others.
        image, _ = await asyncio.shield(self.future)
        return image


class _Prepared:
    """The images of one record, as an async context manager."""

    __slots__ = ("_folder", "_held", "_loader", "_refs")

    def __init__(self, loader: ImageLoader, refs: Sequence[ImageRef], folder: str) -> None:
        self._loader = loader
        self._refs = refs
        self._folder = folder
        self._held = 0

    async def __aenter__(self) -> tuple[PreparedImage, ...]:
        self._held, images = await self._loader._hold(self._refs, self._folder)
        return images

    async def __aexit__(self, *exc: object) -> None:
        self._loader._budget.give_back(self._held)


class ImageLoader:
    """Prepares the images of records. Belongs to one event loop.

    Args:
        options: limits, quality, sizes of cache and budget.
        fetch: downloads a URL, under its own limits; needed only with ``fetch_images``.
        stored: reads an image that stands in a table or a shard, by its reference; called in threads. Without
            it there are no such images.
        threads: how many images are worked on at once; default: one per processor.

    Raises:
        ConfigError: ``fetch_images`` is set and there is nothing to fetch with.

    Example:
        >>> async with ImageLoader(ImageOptions(max_side=1024)) as loader:
        ...     async with loader.prepare(record.images, record.folder) as images:
        ...         body = build(record, images)
    """

    def __init__(
        self,
        options: ImageOptions,
        *,
        fetch: Fetch | None = None,
        stored: Stored | None = None,
        threads: int | None = None,
    ) -> None:
        if options.fetch_images and fetch is None:
            raise ConfigError("fetch_images is set, but there is nothing to fetch images with.")
        self._options = options
        self._fetch = fetch
        self._stored = stored
        self._threads = ThreadPoolExecutor(threads or os.cpu_count() or 1, thread_name_prefix="vqa-images")
        self._budget = ByteBudget(options.encoded_bytes)
        self._cache = ImageCache(options.image_cache_bytes)
        self._working: dict[Hashable, _Work] = {}
        self._downloads: set[asyncio.Task[_Made]] = set()
        self._closed = False
        self._encodes = 0
        self._hits = 0

    def __repr__(self) -> str:
        return f"ImageLoader({len(self._working)} in work, {self._budget!r}, {self._cache!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop: what has not begun is dropped, what a thread is in the middle of ends unheard."""
        self._closed = True
        for work in list(self._working.values()):
            work.future.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._downloads:
            await asyncio.wait(self._downloads)

    def statistics(self) -> ImageStatistics:
        """What was done and is held, now."""
        return ImageStatistics(
            self._encodes, self._hits, self._cache.bytes, self._budget.in_use, self._budget.waiting
        )

    def prepare(
        self, images: Sequence[ImageRef], folder: str
    ) -> AbstractAsyncContextManager[tuple[PreparedImage, ...]]:
        """The images of one record, encoded, in order; their bytes are held until the block is left.

        Args:
            images: where the record says they are.
            folder: where relative paths are tried first; then the working directory.

        Raises:
            ImageError: on entering, one of them cannot be sent.
        """
        return _Prepared(self, images, folder) if images else _NO_IMAGES

    async def _hold(self, refs: Sequence[ImageRef], folder: str) -> tuple[int, tuple[PreparedImage, ...]]:
        """The images of a record, and the bytes of the budget that they hold."""
        if self._closed:
            raise RuntimeError("This ImageLoader is closed.")
        sources = [locate(ref, folder, self._options) for ref in refs]
        estimate = sum(map(self._estimate, sources))
        at_once = self._budget.take_at_once(estimate)
        held = await self._budget.take(estimate) if at_once is None else at_once
        images: tuple[PreparedImage, ...] | None = None
        begun: list[PreparedImage | _Work] = []
        try:
            if at_once is None:
                sources = [locate(ref, folder, self._options) for ref in refs]  # files may have changed
            begun.extend(map(self._begin, sources))  # keeps what it has, should a later one not begin
            images = tuple([item if isinstance(item, PreparedImage) else await item.made() for item in begun])
        finally:
            for item in begun:
                if isinstance(item, _Work):
                    self._leave(item)
            if images is None:  # an error, or cancelled: nothing may stay held
                self._budget.give_back(held)
        # What was shrunk leaves room for others; what grew is charged in full.
        return self._budget.change(held, sum([image.size for image in images])), images

    def _estimate(self, source: Source) -> int:
        """Bytes of base64 that an image will probably have."""
        if source.kind != "url":
            return source.size * 4 // 3
        return GUESSED_BYTES if self._options.fetch_images else source.size

    def _begin(self, source: Source) -> PreparedImage | _Work:
        """The image if it is there, else the work on it, joined or started."""
        if source.kind == "url" and not self._options.fetch_images:
            return prepare_url(str(source.content))
        if (kept := self._cache.get(source.key)) is not None:
            self._hits += 1
            return kept
        work = self._working.get(source.key)
        if work is None:
            if (made := self._make_at_once(source)) is not None:
                return made
            work = self._start(source)
        else:
            self._hits += 1
        work.waiters += 1
        return work

    def _make_at_once(self, source: Source) -> PreparedImage | None:
        """The image, where that takes neither waiting nor decoding; else None."""
        data = read_if_cached(source, self._options)
        image = pass_through(data, source.name, self._options) if data is not None else None
        if image is not None:
            self._encodes += 1
            self._cache.keep(source.key, image)
        return image

    def _start(self, source: Source) -> _Work:
        future: asyncio.Future[_Made]
        if source.kind == "url":
            future = task = asyncio.create_task(self._download(source))
            self._downloads.add(task)
            task.add_done_callback(self._downloads.discard)
        else:
            future = self._in_thread(source)
        work = self._working[source.key] = _Work(source.key, future)
        future.add_done_callback(lambda _: self._retire(work))
        return work

    def _in_thread(self, source: Source) -> asyncio.Future[_Made]:
        self._encodes += 1
        return asyncio.get_running_loop().run_in_executor(
            self._threads, _make, source, self._options, self._stored
        )

    async def _download(self, source: Source) -> _Made:
        assert self._fetch is not None  # checked when the loader was made
        data = await self._fetch(str(source.content))
        check_size(len(data), source.name, self._options)
        return await self._in_thread(Source(source.name, source.key, len(data), "bytes", data))

    def _leave(self, work: _Work) -> None:
        """One waiter less; work that nobody waits for is dropped."""
        work.waiters -= 1
        if not work.waiters and not work.future.done():
            work.future.cancel()
            self._forget(work)

    def _retire(self, work: _Work) -> None:
        """Keep what was made. Errors are not kept: the file may be mended meanwhile."""
        self._forget(work)
        if not work.future.cancelled() and work.future.exception() is None:
            image, key = work.future.result()
            self._cache.keep(key, image)

    def _forget(self, work: _Work) -> None:
        if self._working.get(work.key) is work:
            del self._working[work.key]


def _make(source: Source, options: ImageOptions, stored: Stored | None) -> _Made:
    """All of the work on one image: runs in a thread."""
    data, key = _read_stored(source, options, stored) if source.kind == "stored" else read(source, options)
    return prepare_file(data, source.name, options), key


def _read_stored(source: Source, options: ImageOptions, stored: Stored | None) -> tuple[bytes, Hashable]:
    try:
        data = None if stored is None else stored(str(source.content))
    except InputError as error:
        raise ImageError(f"Image {source.name} cannot be read: {error.message}", code="unreadable") from None
    if data is None:
        raise ImageError(f"Image {source.name} was not found: check the path.", code="file_not_found")
    check_size(len(data), source.name, options)
    return data, source.key
