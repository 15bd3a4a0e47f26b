"""Pieces of text with their places -> lines in the order in which one reads them. Pure.

What a text detector finds are pieces: words of a line that stand far apart are several. Pieces that stand
beside each other are one line, from left to right; lines go from top to bottom.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_LEAST_SCORE = 0.6
# A shape of a drawing is often taken for a letter, and a letter for itself much more surely.
_LEAST_SCORE_ALONE = 0.99


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of text as it was found.

    Attributes:
        text: what it says.
        left: pixels from the left.
        top: pixels from the top.
        bottom: pixels from the top.
        score: how sure the recognition is, 0 to 1.
    """

    text: str
    left: float
    top: float
    bottom: float
    score: float

    @property
    def middle(self) -> float:
        """The height of its middle, in pixels from the top."""
        return (self.top + self.bottom) / 2


def lines_of(pieces: Iterable[Piece]) -> tuple[str, ...]:
    """The lines that ``pieces`` make, without those that are probably none."""
    lines: list[list[Piece]] = []
    for piece in sorted(filter(_is_text, pieces), key=lambda piece: piece.middle):
        if lines and _is_beside(piece, lines[-1][-1]):
            lines[-1].append(piece)
        else:
            lines.append([piece])
    return tuple(_joined(line) for line in lines)


def _is_text(piece: Piece) -> bool:
    text = piece.text.strip()
    return bool(text) and piece.score >= (_LEAST_SCORE if len(text) > 1 else _LEAST_SCORE_ALONE)


def _is_beside(piece: Piece, other: Piece) -> bool:
    """Whether the middle of each is within the height of the other: small print beside a headline is not."""
    return piece.top < other.middle < piece.bottom and other.top < piece.middle < other.bottom


def _joined(line: list[Piece]) -> str:
    pieces = sorted(line, key=lambda piece: piece.left)
    return " ".join(" ".join(piece.text.split()) for piece in pieces)
