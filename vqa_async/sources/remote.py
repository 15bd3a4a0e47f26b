"""Inputs at addresses such as s3://, gs:// or https://, through fsspec. All of it blocks.

The one place that touches fsspec. Each of its file systems raises what its own client raises, so whatever
comes is translated here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from vqa_async.errors import ConfigError, InputError

T = TypeVar("T")

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+(?:://|::)")  # two letters at least: C:/ is a drive
_WEB = ("http://", "https://", "ftp://")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_MAGIC = re.compile(r"[*?\[]")


def is_address(location: str) -> bool:
    """Whether ``location`` is no path of this machine."""
    return _ADDRESS.match(location) is not None


def shown(location: str) -> str:
    """``location`` without what may be secret in it: user and password, and the signature in a query."""
    if not location.lower().startswith(_WEB):
        return location
    parts = urlsplit(location)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def matching(address: str) -> list[str]:
    """The addresses that a pattern stands for, in order; one that is no pattern stands for itself.

    Raises:
        ConfigError: the library for such addresses is not installed.
        InputError: they cannot be listed, or there are none.
    """
    if address.lower().startswith(_WEB) or not _MAGIC.search(address):
        return [address]
    fsspec = _fsspec(address)

    def listed() -> list[str]:
        files, pattern = fsspec.core.url_to_fs(address)
        return [str(files.unstrip_protocol(path)) for path in sorted(files.glob(pattern))]

    if not (found := _translated(address, listed)):
        raise InputError(f"{address}: there is no such file. Check the pattern.")
    return found


class RemoteFile:
    """A file at an address, opened when it is first used; what goes wrong with it is an InputError.

    Attributes:
        closed: whether nothing is to be read from it any more.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._opened: Any = None
        self.closed = False

    @property
    def _file(self) -> Any:
        if self._opened is None:
            fsspec = _fsspec(self._address)
            self._opened = _translated(self._address, fsspec.open(self._address, "rb").open)
        return self._opened

    def read(self, size: int = -1) -> bytes:
        """Up to ``size`` bytes, as of any file."""
        content: bytes = _translated(self._address, lambda: self._file.read(size))
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move, as in any file."""
        place: int = _translated(self._address, lambda: self._file.seek(offset, whence))
        return place

    def tell(self) -> int:
        """The place in the file."""
        place: int = self._file.tell()
        return place

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """Whether its server gives parts of it."""
        return bool(self._file.seekable())

    def close(self) -> None:
        """Close it, if it was opened."""
        self.closed = True
        if self._opened is not None:
            self._opened.close()


def _fsspec(address: str) -> Any:
    try:
        import fsspec
        import fsspec.core
    except ImportError:
        raise ConfigError(
            f"{shown(address)} is read with fsspec, which needs an extra: pip install 'vqa-async[remote]'."
        ) from None
    return fsspec


def _translated(address: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except (ConfigError, InputError):
        raise
    except ImportError:  # fsspec is there, the client for this kind of address is not
        scheme = _scheme(address)
        extra = _EXTRAS.get(scheme)
        install = f"'vqa-async[{extra}]'" if extra else f"the fsspec file system for {scheme}://"
        raise ConfigError(
            f"{shown(address)} needs a client that is missing: pip install {install}."
        ) from None
    except FileNotFoundError:
        raise InputError(f"{shown(address)}: there is no such file. Check the address.") from None
    except Exception as error:  # whatever the client of that place raises: its text may hold credentials
        raise InputError(
            f"{shown(address)} cannot be read ({type(error).__name__}): check the address and your access."
        ) from None


def _scheme(address: str) -> str:
    return re.split(r"://|::", address, maxsplit=1)[0].lower()
