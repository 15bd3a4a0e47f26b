"""What the user named -> the files that it stands for, in order. Looks at folders, opens no data.

A path, an address, "-", a pattern (``data/*.parquet``), a range in braces (``shard-{000000..000009}.tar``), a
folder of images, of Parquet files or of shards, or what ``save_to_disk`` left.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from vqa_async.config import InputFormat
from vqa_async.errors import InputError
from vqa_async.sources.folder import IMAGE_SUFFIXES
from vqa_async.sources.formats import suffix_of
from vqa_async.sources.hub import SCHEME
from vqa_async.sources.remote import is_address, matching
from vqa_async.sources.saved_dataset import arrow_files, is_saved_dataset

_BRACES = re.compile(r"\{(\d{1,12})\.\.(\d{1,12})\}|\{([^{}]*,[^{}]*)\}")
_MOST_FILES = 1_000_000
_FOLDER_SUFFIXES: dict[InputFormat, tuple[str, ...]] = {
    "parquet": (".parquet",),
    "webdataset": (".tar",),
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson"),
    "batch": (".jsonl", ".ndjson"),
    "json": (".json",),
    "arrow": (".arrow",),
}
_MOST_FOLDERS = 1000
"""Folders that are looked through for what kind of files they hold."""


@dataclass(frozen=True, slots=True)
class Location:
    """What an input stands for.

    Attributes:
        files: paths or addresses, "-" for standard input; none for a folder of images.
        format: what they are, as far as the place tells.
    """

    files: tuple[str, ...]
    format: InputFormat


def require(location: str) -> None:
    """Refuse what can be seen at once not to be there.

    Raises:
        InputError: it is not.
    """
    if location == "-" or is_address(location) or os.path.exists(location):
        return
    if not any(os.path.exists(path) or glob.has_magic(path) for path in braces(location)):
        raise InputError(f"{location}: there is no such file or folder. Check the path.")


def folder_of(location: str) -> str:
    """Where the relative paths of an input are looked for first; "" for the working directory."""
    if location == "-" or is_address(location):
        return ""
    if os.path.exists(location):
        return location if os.path.isdir(location) else os.path.dirname(location)
    folder = os.path.dirname(location)
    while glob.has_magic(folder) or _BRACES.search(folder):
        folder = os.path.dirname(folder)
    return folder


def known_location(location: str, format: InputFormat) -> Location | None:
    """What an input is that stands for itself; None where a folder, or somebody else, must be asked."""
    if location == "-" or location.startswith(SCHEME):
        return Location((location,), format)
    if os.path.isdir(location):
        return Location((), format) if format == "folder" else None
    return Location((location,), format) if os.path.exists(location) else None


def local_files(location: str, format: InputFormat) -> tuple[str, ...]:
    """The files on this machine that an input stands for; none where it cannot be told or read. Blocks."""
    if location == "-" or is_address(location):
        return ()
    try:
        return (known_location(location, format) or locate(location, format)).files
    except InputError:  # whoever reads it will say so
        return ()


def locate(location: str, format: InputFormat) -> Location:
    """The files of an input that does not stand for itself, in order. Blocks.

    Raises:
        InputError: there are none.
        ConfigError: the library that could list them is not installed.
    """
    if os.path.isdir(location):
        return _in_folder(location, format)
    files: list[str] = []
    for path in braces(location):
        files += matching(path) if is_address(path) else _globbed(path)
    if not files:
        raise InputError(f"{location}: there is no such file. Check the pattern.")
    return Location(tuple(files), format)


def braces(pattern: str) -> Iterator[str]:
    """What a pattern with ranges (``{00..12}``) or choices (``{a,b}``) in braces stands for."""
    found = None if os.path.lexists(pattern) else _BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    for choice in _choices(found):
        yield from braces(pattern[: found.start()] + choice + pattern[found.end() :])


def _choices(found: re.Match[str]) -> Iterator[str]:
    if found[3] is not None:
        yield from found[3].split(",")
        return
    first, last = int(found[1]), int(found[2])
    if last - first >= _MOST_FILES:
        raise InputError(f"{found[0]} stands for over {_MOST_FILES:,} files: give a smaller range.")
    yield from (str(number).zfill(len(found[1])) for number in range(first, last + 1))


def _globbed(path: str) -> list[str]:
    if os.path.lexists(path):
        return [path]
    if not glob.has_magic(path):
        raise InputError(f"{path}: there is no such file. Check the pattern.")
    return sorted(found for found in glob.glob(path, recursive=True) if not os.path.isdir(found))


def _in_folder(folder: str, format: InputFormat) -> Location:
    if format in ("auto", "arrow") and is_saved_dataset(folder):
        return Location(tuple(arrow_files(folder)), "arrow")
    if format == "auto":
        format = _told(folder)
    if format == "folder":
        return Location((), format)
    suffixes = _FOLDER_SUFFIXES[format]
    files = [path for names in _listed(folder) for path in names if suffix_of(path) in suffixes]
    if not files:
        raise InputError(f"{folder} holds no {suffixes[0]} files.")
    return Location(tuple(files), format)


def _told(folder: str) -> InputFormat:
    """What the files nearest to the top are: images, Parquet files or shards."""
    for number, names in enumerate(_listed(folder)):
        suffixes = {suffix_of(name) for name in names}
        if number == _MOST_FOLDERS or not suffixes.isdisjoint(IMAGE_SUFFIXES):
            break
        if ".parquet" in suffixes:
            return "parquet"
        if ".tar" in suffixes:
            return "webdataset"
    return "folder"


def _listed(folder: str) -> Iterator[list[str]]:
    """The files of a folder and of those below it, sorted, hidden ones left out."""
    waiting = [folder]
    while waiting:
        here = waiting.pop(0)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            raise InputError(f"{here} cannot be listed: {error.strerror or error}.") from None
        entries = [entry for entry in entries if not entry.name.startswith(".")]
        waiting += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
        yield [entry.path for entry in entries if not entry.is_dir(follow_symlinks=False)]
