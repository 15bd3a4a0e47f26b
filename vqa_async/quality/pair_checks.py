"""The checks of the pairs of one answer. Those that are on by default take a few microseconds a pair.

They run when an answer has been read, before it is journalled, so what they cost is paid in the hot path:
each text is folded once, phrases are looked for by ``str`` methods, which search at C speed, in all pairs of
an answer at once, and a pair without flags stays the object that it was.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from vqa_async.config import BASIC_CHECKS
from vqa_async.errors import ConfigError
from vqa_async.models import QAPair
from vqa_async.quality.phrases import (
    AI_LEAKS,
    ASKING_MARKS,
    ASKING_PARTS,
    ASKING_WORDS,
    LEAK_TRACES,
    PROMPT_LEAKS,
    REFUSALS,
)

_NOTHING = " \t\n.…,;:-–—_*?!/\\|'\"`()[]{}。，、？！"
"""Of which a text may consist that says nothing."""

_DECORATION = " \t\n\"'“”‘’«»*_([-"
"""With which an answer may begin before its first word."""


def _by_start(phrases: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """``phrases`` by their first two characters: most texts begin with none of them."""
    found: dict[str, list[str]] = {}
    for phrase in phrases:
        found.setdefault(phrase[:2], []).append(phrase)
    return {start: tuple(with_it) for start, with_it in found.items()}


_REFUSALS = _by_start(REFUSALS)

# The log-likelihoods of py3langid: at a distance of 10 the wanted language is 22,000 times less likely. Names
# and "Yes." are within it, whole sentences in another language are at 30 and more.
_LANGUAGE_DISTANCE = 10.0

Differs = Callable[[str], bool]
Similarity = Callable[[str, str], float]


def normalised(text: str) -> str:
    """``text`` as it is compared: folded, blanks collapsed, without punctuation at its ends."""
    return " ".join(text.casefold().split()).strip(_NOTHING)


class PairChecks:
    """Flags the pairs of answers.

    Args:
        checks: names of the checks that are on; those across the run are passed over.
        min_answer_chars, max_answer_chars: bounds of ``length``; 0: none.
        language: code of the language that ``language`` wants.
        near_duplicate_ratio: from which ratio on two questions are near-duplicates, from 0 to 1.

    Raises:
        ConfigError: a check needs the extra `quality`, or a language that is not known.
    """

    def __init__(
        self,
        checks: Collection[str] = BASIC_CHECKS,
        *,
        min_answer_chars: int = 0,
        max_answer_chars: int = 0,
        language: str = "",
        near_duplicate_ratio: float = 0.9,
    ) -> None:
        self._is_on = frozenset(checks)
        self._shortest = min_answer_chars
        self._longest = max_answer_chars or 1 << 62
        self._ratio = near_duplicate_ratio
        self._differs: Differs | None = _language_check(language) if "language" in checks else None
        self._similarity: Similarity | None = similarity() if "near_duplicate" in checks else None

    def __call__(self, pairs: Sequence[QAPair]) -> tuple[QAPair, ...]:
        """``pairs`` with the flags of each; where none has any, the same values."""
        if not self._is_on:
            return tuple(pairs)
        folded = [(normalised(pair.question), _folded(pair.answer)) for pair in pairs]
        may_leak = _may_leak(folded)
        before: list[str] = []
        checked: list[QAPair] = []
        for pair, (question, answer) in zip(pairs, folded, strict=True):
            flags = self._flags(pair, question, answer)
            if may_leak:
                flags += _leaks(question, answer)
            if self._differs is not None and self._differs(f"{pair.question}\n{pair.answer}"):
                flags.append("language")
            if question in before:
                flags.append("repeated")
            elif self._similarity is not None and self._resembles(question, before):
                flags.append("near_duplicate")
            before.append(question)
            on = tuple([flag for flag in flags if flag in self._is_on]) if flags else ()
            checked.append(replace(pair, flags=on) if on else pair)
        return tuple(checked)

    def _flags(self, pair: QAPair, question: str, answer: str) -> list[str]:
        flags: list[str] = []
        if not question or not answer.strip(_NOTHING):
            flags.append("empty")
        if not pair.question.endswith(ASKING_MARKS) and not asks(pair.question, question):
            flags.append("no_question")
        refusals = _REFUSALS.get(answer[:2])
        if refusals is not None and answer.startswith(refusals):
            flags.append("refusal")
        if not self._shortest <= len(pair.answer) <= self._longest or len(question) > self._longest:
            flags.append("length")
        return flags

    def _resembles(self, question: str, before: Sequence[str]) -> bool:
        assert self._similarity is not None
        return any(self._similarity(question, other) >= self._ratio for other in before)


def _folded(answer: str) -> str:
    """``answer`` as phrases are looked for in it."""
    return answer.casefold().replace("’", "'").lstrip(_DECORATION)


def _may_leak(folded: Sequence[tuple[str, str]]) -> bool:
    """Whether any text could hold a phrase by which leaks are told; which, if any, is looked at then."""
    whole = "\n".join([text for pair in folded for text in pair])
    return any(map(whole.__contains__, LEAK_TRACES))


def _leaks(question: str, answer: str) -> list[str]:
    found = ["ai_leak"] if any(leak in answer for leak in AI_LEAKS) else []
    if any(leak in question or leak in answer for leak in PROMPT_LEAKS):
        found.append("prompt_leak")
    return found


def asks(question: str, folded: str) -> bool:
    """Whether ``question`` asks anything: by its mark, its first word, or a word that only questions have."""
    if question.endswith(ASKING_MARKS) or any(mark in question for mark in ASKING_MARKS):
        return True
    # A sentence to be completed, with a gap or cut off before its end, asks too.
    if "___" in question or question.rstrip().endswith((":", "：", "...", "…")):
        return True
    return f"{folded} ".lstrip("¿ ").startswith(ASKING_WORDS) or any(part in folded for part in ASKING_PARTS)


def similarity() -> Similarity:
    """How alike two normalised texts are, from 0 to 1.

    Raises:
        ConfigError: the extra is not installed.
    """
    try:
        from rapidfuzz.distance import Indel
    except ImportError:
        raise missing_extra("near-duplicates need rapidfuzz") from None
    ratio: Similarity = Indel.normalized_similarity
    return ratio


def _language_check(language: str) -> Differs:
    if not language:
        raise ConfigError("The check 'language' needs the language that is wanted: --answer-language en.")
    try:
        import py3langid
    except ImportError:
        raise missing_extra("The check 'language' needs py3langid") from None
    if language not in dict(py3langid.rank("a")):  # loads its model too, which takes half a second
        raise ConfigError(f"There is no language {language!r}: give a code of two letters, such as en or zh.")

    def differs(text: str) -> bool:
        scores = dict(py3langid.rank(text))
        return bool(max(scores.values()) - scores[language] > _LANGUAGE_DISTANCE)

    return differs


def missing_extra(what: str) -> ConfigError:
    """The error for a check whose library is not there."""
    return ConfigError(f"{what[0].upper()}{what[1:]}: pip install 'vqa-async[quality]'.")
