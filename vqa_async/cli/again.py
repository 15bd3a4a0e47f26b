"""The command that was typed, to be shown once more, without what must not be shown."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

_HIDDEN = ("--header", "--extra-body")
"""Options whose values may hold a secret."""
_ONCE = ("--retry-failed", "--json", "--quiet", "-q", "--repair")


def typed_again(arguments: Sequence[str]) -> str:
    """``arguments`` as a command line, without what is for one time only, and without what may be secret."""
    words: list[str] = []
    hidden = ""
    for word in arguments:
        name, equals, value = word.partition("=")
        if hidden:
            words.append(_shown(hidden, word))
        elif name in _HIDDEN and equals:
            words.append(f"{name}={_shown(name, value)}")
        elif name not in _ONCE:
            words.append(word)
        hidden = word if word in _HIDDEN else ""
    return shlex.join(["vqa-async", *words])


def _shown(option: str, value: str) -> str:
    return f"{value.partition(':')[0]}: ..." if option == "--header" else "..."
