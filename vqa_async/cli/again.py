"""The command that was typed, to be shown once more: what a person can copy, without what must not be shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_SECRET = "--header"
_ONCE = ("--retry-failed", "--json", "--quiet", "-q", "--repair")


def typed_again(arguments: Sequence[str]) -> str:
    """``arguments`` as a command line, without what is for one time only; values of headers are left out."""
    words: list[str] = []
    hides_next = False
    for word in arguments:
        if hides_next:
            words.append(_hidden(word))
        elif word.startswith(f"{_SECRET}="):
            words.append(f"{_SECRET}={_hidden(word.partition('=')[2])}")
        elif word.partition("=")[0] not in _ONCE:
            words.append(word)
        hides_next = word == _SECRET
    return shlex.join(["vqa-async", *words])


def _hidden(header: str) -> str:
    return f"{header.partition(':')[0]}: ..."
