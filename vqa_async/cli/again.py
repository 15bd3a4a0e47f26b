"""The command that was typed, to be shown once more, without what must not be shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_HEADER = "--header"
_ONCE = ("--retry-failed", "--json", "--quiet", "-q", "--repair")


def typed_again(arguments: Sequence[str]) -> str:
    """``arguments`` as a command line, without what is for one time only; values of headers are left out."""
    words: list[str] = []
    hides_next = False
    for word in arguments:
        if hides_next:
            words.append(_hidden(word))
        elif word.startswith(f"{_HEADER}="):
            words.append(f"{_HEADER}={_hidden(word.partition('=')[2])}")
        elif word.partition("=")[0] not in _ONCE:
            words.append(word)
        hides_next = word == _HEADER
    return shlex.join(["vqa-async", *words])


def _hidden(header: str) -> str:
    return f"{header.partition(':')[0]}: ..."
