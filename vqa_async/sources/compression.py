"""Compressed bytes -> bytes, as a stream: gzip and zstd, told by their first bytes. Pure.

Any number of members may follow each other, as after ``cat a.gz b.gz``. What goes in is given in small
slices, so that what stands before a damaged place comes out before the error, and what comes out is bounded
however well it was packed.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from typing import Any, Protocol

from vqa_async.errors import ConfigError, InputError

MOST_BYTES = 1 << 18
"""Longest piece that comes out."""

_SLICE = 1 << 12
_GZIP = b"\x1f\x8b"
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18")  # the second is a frame to be skipped
_MAX_WINDOW_LOG = 27  # 128 MiB: what `zstd --long` makes, and the most that it reads unasked

SUFFIXES = (".gz", ".zst")
"""Taken off a name before it is looked at for what the content is."""


class Decompressor:
    """Unpacks one stream.

    Args:
        name: what the input is called in messages.
        method: ``gzip`` or ``zstd``, from ``compression_of``.
    """

    def __init__(self, name: str, method: str) -> None:
        self._name = name
        self._method = method
        self._member: _Member | None = None
        self._start = b""  # of a member: too short yet to be told

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What ``data`` holds, in pieces of at most ``MOST_BYTES``.

        Raises:
            InputError: it is damaged; what stands before that place was given.
        """
        for at in range(0, len(data), _SLICE):
            yield from self._unpack(data[at : at + _SLICE])

    def end(self) -> None:
        """Called after the last byte.

        Raises:
            InputError: the stream is cut off.
        """
        if self._member is not None or self._start:
            raise InputError(
                f"{self._name} is cut off: its {self._method} stream has no end. The records before that "
                "place were read; get the whole file and run the same command again."
            )

    def _unpack(self, data: bytes) -> Iterator[bytes]:
        while data or (self._member is not None and self._member.has_more):
            if self._member is None:
                data = self._begin(data)
                if self._member is None:
                    return
            try:
                piece = self._member.unpack(data)
            except _damage(self._method):
                raise self._damaged("it cannot be unpacked further") from None
            data = b""
            if piece:
                yield piece
            if self._member.is_over:
                data, self._member = self._member.rest, None

    def _begin(self, data: bytes) -> bytes:
        """Begin a member with ``data``, if it is enough to tell that it is one; what is left for it."""
        data = self._start + data
        if self._method == "gzip":
            data = data.lstrip(b"\0")  # tapes are filled up with zeros
        self._start = data if len(data) < 4 else b""
        if len(data) < 4:
            return b""
        if compression_of(data) != self._method:
            raise self._damaged("something else follows its end")
        self._member = _Gzip() if self._method == "gzip" else _Zstd(self._name)
        return data

    def _damaged(self, why: str) -> InputError:
        return InputError(
            f"{self._name} is damaged: {why} ({self._method}). The records before that place were read; mend "
            "the file and run the same command again."
        )


def compression_of(head: bytes) -> str:
    """``gzip`` or ``zstd``, if bytes that begin so are packed by it; else ""."""
    if head.startswith(_GZIP):
        return "gzip"
    return "zstd" if _ZSTD.match(head) else ""


def unpacked_name(name: str) -> str:
    """``name`` without the suffix of its compression."""
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return f"{name[:-4]}.tar" if name.lower().endswith(".tgz") else name


class _Member(Protocol):
    @property
    def is_over(self) -> bool: ...

    @property
    def rest(self) -> bytes: ...

    @property
    def has_more(self) -> bool: ...

    def unpack(self, data: bytes) -> bytes: ...


class _Gzip:
    def __init__(self) -> None:
        self._stream = zlib.decompressobj(wbits=31)

    def unpack(self, data: bytes) -> bytes:
        return self._stream.decompress(self._stream.unconsumed_tail + data, MOST_BYTES)

    @property
    def has_more(self) -> bool:
        return bool(self._stream.unconsumed_tail)

    @property
    def is_over(self) -> bool:
        return self._stream.eof

    @property
    def rest(self) -> bytes:
        return self._stream.unused_data


class _Zstd:
    def __init__(self, name: str) -> None:
        zstd = _zstd_library(name)
        limit = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
        self._stream = zstd.ZstdDecompressor(options=limit)

    def unpack(self, data: bytes) -> bytes:
        piece: bytes = self._stream.decompress(data, MOST_BYTES)
        return piece

    @property
    def has_more(self) -> bool:
        return not (self._stream.needs_input or self._stream.eof)

    @property
    def is_over(self) -> bool:
        return bool(self._stream.eof)

    @property
    def rest(self) -> bytes:
        rest: bytes = self._stream.unused_data
        return rest


def _zstd_library(name: str) -> Any:
    try:
        from compression import zstd  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        try:
            from backports import zstd
        except ImportError:
            raise ConfigError(
                f"{name} is compressed with zstd, which needs an extra: pip install 'vqa-async[zstd]'."
            ) from None
    return zstd


def _damage(method: str) -> type[Exception]:
    if method == "gzip":
        return zlib.error
    error: type[Exception] = _zstd_library("").ZstdError
    return error
