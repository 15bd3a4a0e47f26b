"""Questions and answers as they are found in a text, and how they are matched into pairs.

Matching comes last and looks at neighbours only, so a question without an answer, or an answer without a
question, costs that one and nothing around it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby

from vqa_async.models import QAPair
from vqa_async.qa.labels import Kind

_BLOCK_MARKS = frozenset(("|", "|-", "|+", ">", ">-", ">+"))
"""How YAML opens a text over several lines."""


@dataclass(slots=True)
class Part:
    """A question or an answer while it is read, line by line.

    ``indent`` is that of the line that opened it; ``listed`` says that this line is a list item, ``has_text``
    that any line so far is more than blank.
    """

    kind: Kind
    number: str = ""
    lines: list[str] = field(default_factory=list)
    indent: int = 0
    listed: bool = False
    has_text: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.has_text = any(map(str.strip, self.lines))

    def add(self, line: str) -> None:
        """Another line belongs to it."""
        self.lines.append(line)
        # Noted here: looking through all lines for each new one would take time quadratic in blank lines.
        self.has_text = self.has_text or bool(line.strip())

    @property
    def is_empty(self) -> bool:
        """Whether it has no text."""
        return not any(map(str.strip, self.lines))

    def text(self) -> str:
        """Its lines as one text, without the indentation that all lines below the first share."""
        first, *rest = self.lines
        if rest and first.strip() in _BLOCK_MARKS:
            first = ""
        margin = min((indent_of(line) for line in rest if line.strip(" \t")), default=0)
        return "\n".join(line.rstrip(" \t") for line in (first, *(line[margin:] for line in rest))).strip()


def indent_of(line: str) -> int:
    """How many blanks and tabs ``line`` begins with."""
    return len(line) - len(line.lstrip(" \t"))


def matched(parts: Iterable[Part]) -> tuple[QAPair, ...]:
    """The pairs in ``parts``: each run of questions is matched with the run of answers after it."""
    pairs: list[QAPair] = []
    questions: list[Part] = []
    for kind, group in groupby((part for part in parts if not part.is_empty), key=lambda part: part.kind):
        run = list(group)
        if kind == "answer":
            pairs += (QAPair(q.text(), a.text()) for q, a in _matched_run(questions, run))
        questions = run if kind == "question" else []
    return tuple(pairs)


def _matched_run(questions: list[Part], answers: list[Part]) -> Iterable[tuple[Part, Part]]:
    if all(part.number for part in (*questions, *answers)):
        first_with = {answer.number: answer for answer in reversed(answers)}
        return [(q, first_with[q.number]) for q in questions if q.number in first_with]
    if len(questions) == len(answers):  # all the questions first, then all the answers
        return zip(questions, answers, strict=True)
    return zip(questions[-1:], answers, strict=False)  # the two that touch
