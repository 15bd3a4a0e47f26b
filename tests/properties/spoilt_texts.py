"""Texts as they come, with a few things changed in them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def spoilt(draw: st.DrawFn, texts: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One of ``texts`` after one to four changes: a stretch left out or repeated, a byte changed, a token or
    a stretch of another text put in."""
    data = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 40)))
        match draw(st.sampled_from(["leave out", "repeat", "change", "token", "another"])):
            case "leave out":
                data = data[:at] + data[end:]
            case "repeat":
                data = data[:end] + data[at:end] * draw(st.integers(1, 30)) + data[end:]
            case "change":
                data = data[:at] + draw(st.binary(min_size=1, max_size=2)) + data[at + 1 :]
            case "token":
                data = data[:at] + draw(st.sampled_from(tokens)) + data[end:]
            case _:
                other = draw(st.sampled_from(texts))
                data = data[:at] + other[draw(st.integers(0, len(other))) :] + data[at:]
    return data
