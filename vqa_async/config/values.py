"""What the option classes share: they check themselves with these. Not for others."""

from __future__ import annotations

import re
from collections.abc import Iterable

from vqa_async.errors import ConfigError

MIB = 1 << 20


def strings(value: object) -> tuple[str, ...]:
    """One string or several, as a tuple: Python callers and TOML files often give just one."""
    return (value,) if isinstance(value, str) else tuple(value)  # type: ignore[arg-type]


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def header_lines(value: object) -> tuple[str, ...]:
    """Headers as lines, each of which is one."""
    lines = strings(value)
    require(all(isinstance(line, str) for line in lines), "A --header is not of the form 'Name: value'.")
    for line in lines:
        name, colon, content = line.partition(":")
        require(
            bool(colon) and bool(re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name.strip())),
            "A --header is not of the form 'Name: value'.",
        )
        require(content.isprintable(), f"The value of header {name.strip()} has a line break or control.")
    return lines


def as_mapping(lines: Iterable[str]) -> dict[str, str]:
    split = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in split}


_MOST_TEXT_BYTES = 1 << 20
"""Of a file that holds a template or a domain pack."""


def text_of(path: str, option: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_TEXT_BYTES + 1)
        text = content.decode()
    except OSError as error:
        raise ConfigError(f"The file {path} of {option} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ConfigError(f"The file {path} of {option} is not UTF-8 text.") from None
    require(len(content) <= _MOST_TEXT_BYTES, f"The file {path} of {option} is longer than 1 MiB.")
    return text.removeprefix("\ufeff").replace("\r\n", "\n")
