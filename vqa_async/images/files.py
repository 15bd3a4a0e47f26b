"""From a reference to bytes: paths, ``data:`` URIs and bytes. Nothing here looks at what the bytes mean.

``locate`` is cheap (one ``stat``) and runs where the record is taken; ``read`` blocks and runs in a thread.
Only regular files are read, once, from one descriptor, and never beyond the size it had when opened: a
pipe, a device or a file that grows can neither hang nor fill the process.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Hashable
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple
from urllib.parse import urlsplit

import pybase64

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.models import ImageRef

# O_NONBLOCK: opening a pipe would otherwise wait for a writer. Some platforms lack one flag or another.
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_SCHEME = re.compile(r"(?i)(file:|[a-z][a-z0-9+.-]+://)")
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_SMALL = 256 * 1024
"""Files up to this size are prepared where the record is taken, if memory holds them: 0.1 to 0.2 ms of work,
and a hop to a thread and back costs as much."""
_CONTAINER = re.compile(r"(?i)\.(parquet|arrow|tar(\.(gz|zst))?|tgz)$")
"""Files that images stand in, which references name before their #."""
GUESSED_BYTES = 1 << 20
"""Charged for an image of which nothing is known before it is there: a common size of photos on the web."""
_SHOWN = 200
"""Characters of a path or address that a message shows."""


class Source(NamedTuple):
    """An image that was found and not yet read.

    Attributes:
        name: how messages call it.
        key: what tells it from every other content; the cache goes by it.
        size: bytes of the image file, as far as is known before reading.
        content: the path that was found, the URL or data: URI, or the bytes; for what stands in a file of
            many (kind ``stored``) the path of that, #, and where.
    """

    name: str
    key: Hashable
    size: int
    kind: str
    content: str | bytes


def locate(ref: ImageRef, folder: str, options: ImageOptions) -> Source:
    """Find an image without reading it.

    Args:
        ref: where the record says it is.
        folder: where a relative path is tried first; then the working directory.
        options: ``max_file_bytes`` is applied.

    Raises:
        ImageError: it is not there, not a regular file, too large, or at an address that is not taken.
    """
    if isinstance(ref.value, bytes):
        return _located_content(ref.kind, f"({len(ref.value):,} bytes)", ref.value, len(ref.value), options)
    if ref.kind == "data" or ref.value[:5].lower() == "data:":
        name = f"(data: URI of {len(ref.value):,} characters)"
        return _located_content("data", name, ref.value, len(ref.value) * 3 // 4, options)
    if ref.kind == "url":
        return _located_url(ref.value, options)
    return _located_file(ref.value, folder, options)


def read(source: Source, options: ImageOptions) -> tuple[bytes, Hashable]:
    """The bytes of an image file, and the key that belongs to them.

    The key differs from the source's where the file was replaced after it was found.

    Raises:
        ImageError: it cannot be read, or is no longer what was found.
    """
    if isinstance(source.content, bytes):
        return source.content, source.key
    if source.kind == "data":
        return _decode_data_uri(source.content, source.name), source.key
    return _read_file(source.content, source.name, options)


def read_if_cached(source: Source, options: ImageOptions) -> bytes | None:
    """The bytes of a small file that the system holds in memory, without ever waiting for a disk.

    Only for a file that was found in the same turn of the event loop: its key is taken to be right still.

    None where they are not there, the file is not small or no longer of its size, or the system cannot tell
    (RWF_NOWAIT is Linux's, and not every file system has it): then ``read`` is called, in a thread.

    Raises:
        ImageError: it is no longer in ``image_root``.
    """
    if source.kind != "path" or source.size > _SMALL or not _NOWAIT:
        return None
    path = str(source.content)
    try:
        fd = os.open(path, _FLAGS)
    except OSError:
        return None
    try:
        _require_opened_inside(fd, path, source.name, options)
        # The last byte tells for the file: small files are read in, and thrown out, as a whole.
        if not source.size or os.preadv(fd, [bytearray(1)], source.size - 1, _NOWAIT) != 1:
            return None
        data = os.read(fd, source.size + 1)
        return data if len(data) == source.size else None
    except OSError:
        return None
    finally:
        os.close(fd)


def check_size(size: int, name: str, options: ImageOptions) -> None:
    """Refuse what is larger than ``max_file_bytes``.

    Raises:
        ImageError: it is.
    """
    if size > options.max_file_bytes:
        raise ImageError(
            f"Image {name} has {size:,} bytes, over max_file_bytes ({options.max_file_bytes:,}): "
            "shrink it or raise the limit.",
            code="too_large",
        )


def _located_content(kind: str, name: str, content: str | bytes, size: int, options: ImageOptions) -> Source:
    check_size(size, name, options)
    text = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    # Hashed here, not in a thread: reading the row that held it cost as much.
    return Source(name, (kind, sha256(text).digest()), size, kind, content)


def _located_url(url: str, options: ImageOptions) -> Source:
    name = _shown(re.sub(r"//[^/@]*@", "//", re.split(r"[?#]", url, maxsplit=1)[0]))
    if _UNPRINTABLE.search(url) or not _is_web_address(url):
        raise ImageError(
            f"Image {name} is not an http:// or https:// address: give such a URL or a path.",
            code="url_not_allowed",
        )
    if options.no_image_urls:
        raise ImageError(
            f"Image {name} is a URL, and --no-image-urls refuses those: give a path instead.",
            code="url_not_allowed",
        )
    return Source(name, ("url", url), len(url.encode()), "url", url)


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        return False


def _located_file(path: str, folder: str, options: ImageOptions) -> Source:
    source = _found(path, folder, options)
    if source is not None:
        return source
    if "#" in path and (source := _located_inside(path, folder, options)) is not None:
        return source
    places = f" in {_shown(folder)} or" if folder else ""
    where = "" if os.path.isabs(path) else f"{places} in the working directory"
    raise ImageError(f"Image {_shown(path)} was not found{where}: check the path.", code="file_not_found")


def _located_inside(path: str, folder: str, options: ImageOptions) -> Source | None:
    """An image that stands in a table or a shard, as written rows refer to it: ``train.parquet#17/image``."""
    container, _, inside = path.rpartition("#")
    if not inside or not re.search(_CONTAINER, container):
        return None
    # Its size is that of the image, which nobody knows yet.
    whole = _found(container, folder, replace(options, max_file_bytes=sys.maxsize))
    if whole is None:
        return None
    return Source(_shown(path), (whole.key, inside), GUESSED_BYTES, "stored", f"{whole.content!s}#{inside}")


def _found(path: str, folder: str, options: ImageOptions) -> Source | None:
    """The file at ``path``, None where there is none."""
    name = _shown(path)
    if ":" in path and (scheme := _SCHEME.match(path)):
        raise ImageError(
            f"Image {name} is an address of a kind that is not opened ({scheme[0]}): give a path instead.",
            code="url_not_allowed",
        )
    for candidate in (os.path.join(folder, path), path) if folder and path[:1] != os.sep else (path,):
        try:
            status = os.stat(candidate)
            if options.image_root:
                _require_inside(os.path.realpath(candidate), name, options)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from None
        return Source(name, _checked(candidate, name, status, options), status.st_size, "path", candidate)
    return None


def _require_opened_inside(fd: int, path: str, name: str, options: ImageOptions) -> None:
    """The same once more for what was really opened: links may have been changed since it was found."""
    if options.image_root:
        descriptor = f"/proc/self/fd/{fd}"  # Linux: where the open file is, whatever its path leads to now
        opened = os.readlink(descriptor) if os.path.exists(descriptor) else os.path.realpath(path)
        _require_inside(opened, name, options)


def _require_inside(real: str, name: str, options: ImageOptions) -> None:
    """Refuse a file, links resolved, that is not in ``image_root``."""
    if os.path.commonpath((real, options.image_root)) != options.image_root:
        raise ImageError(
            f"Image {name} is outside of {_shown(options.image_root)}, the folder of --image-root.",
            code="path_outside_root",
        )


def _checked(path: str, name: str, status: os.stat_result, options: ImageOptions) -> Hashable:
    """The identity of a file that may be read."""
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise ImageError(f"Image {name} is {kind}: give the path of a file.", code="not_a_file")
    check_size(status.st_size, name, options)
    return path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_file(path: str, name: str, options: ImageOptions) -> tuple[bytes, Hashable]:
    try:
        fd = os.open(path, _FLAGS)
        try:
            _require_opened_inside(fd, path, name, options)
            status = os.fstat(fd)
            key = _checked(path, name, status, options)
            return _read_up_to(fd, status.st_size), key
        finally:
            os.close(fd)
    except (OSError, ValueError) as error:
        raise _unreadable(name, error) from None


def _read_up_to(fd: int, size: int) -> bytes:
    chunk = os.read(fd, size)
    if len(chunk) == size:  # always, save for files beyond 2 GiB and those that shrink meanwhile
        return chunk
    chunks = [chunk]
    size -= len(chunk)
    while size > 0 and (chunk := os.read(fd, size)):
        chunks.append(chunk)
        size -= len(chunk)
    return b"".join(chunks)


def _unreadable(name: str, error: OSError | ValueError) -> ImageError:
    if isinstance(error, FileNotFoundError):
        return ImageError(f"Image {name} is gone: it was there a moment ago.", code="file_not_found")
    if isinstance(error, OSError):
        reason = (error.strerror or type(error).__name__).lower()
        return ImageError(f"Image {name} cannot be read ({reason}): check the path.", code="unreadable")
    reason = "a character that no file name can have"  # NUL, or half of a surrogate pair
    return ImageError(f"Image {name} cannot exist: its path holds {reason}.", code="file_not_found")


def _decode_data_uri(uri: str, name: str) -> bytes:
    header, comma, payload = uri.partition(",")
    if not comma:
        raise ImageError(f"Image {name} has no comma before its data: mend it.", code="bad_data_uri")
    if not header.lower().rstrip().endswith(";base64"):
        raise ImageError(f"Image {name} does not say ;base64: encode it so.", code="bad_data_uri")
    try:
        return pybase64.b64decode(payload, validate=True)
    except ValueError:  # its text could quote the data
        raise ImageError(f"Image {name} is not valid base64: encode it again.", code="bad_data_uri") from None


def _shown(text: str) -> str:
    """A path or address for a message: control characters escaped, not endless."""
    return repr(text) if len(text) <= _SHOWN else f"{text[:_SHOWN]!r}... ({len(text):,} characters)"
