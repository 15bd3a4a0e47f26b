"""How far two answers to one question agree, and what a judge's verdict says: a score from 0 to 1.

What can be told for certain comes first: the same words, yes against no, the same or other numbers. What is
left are wordings, and they are compared by the words that they share, so that "red" agrees with "A red bus."
Without the extra `quality` (rapidfuzz) that is done with difflib, which is slower and a little stricter.
"""

from __future__ import annotations

import json
import re
import unicodedata
from difflib import SequenceMatcher


def _split(words: str) -> list[str]:
    return words.split()


_YES = frozenset(_split("yes yeah yep true ja oui sí si sim да نعم はい 네 예 是 是的 对 對 有"))
_NO = frozenset(_split("no nope false nein non não нет لا いいえ 아니요 아니오 不 不是 否 没有 沒有"))
_NUMBERS = {
    word: str(number)
    for number, word in enumerate(
        _split(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen twenty"
        )
    )
}
_ARTICLES = frozenset(("a", "an", "the", "der", "die", "das", "ein", "eine", "le", "la", "les", "un", "une"))
_WORD = re.compile(r"\d+(?:[.,:/]\d+)*|[^\W\d_]+(?:['’][^\W\d_]+)*")
_SCORE = re.compile(r"(?<![\d.])([1-5])(?:\.0)?(?:\s*/\s*5)?(?![\d.])")
_OBJECT = re.compile(r"\{[^{}]*\}")
_VERDICT_KEYS = ("score", "rating", "verdict", "correct", "answer")


def agreement(answer: str, other: str) -> float:
    """How far ``other`` says the same as ``answer``."""
    ours, theirs = _words(answer), _words(other)
    if not ours or not theirs:
        return float(answer.strip() == other.strip())
    if ours == theirs:
        return 1.0
    says, otherwise = _polarity(ours), _polarity(theirs)
    if says is not None and otherwise is not None:
        return float(says == otherwise)
    numbers, others = _numbers(ours), _numbers(theirs)
    if numbers and others and (len(ours) <= 3 or len(theirs) <= 3):  # "4" and "There are four cats."
        return float(numbers == others)
    return _shared(ours, theirs)


def verdict(text: str) -> float | None:
    """The score in a judge's reply: 1 to 5, or yes and no, in JSON or in plain words; None: neither."""
    for found in _OBJECT.findall(text):
        try:
            fields = json.loads(found)
        except ValueError:
            continue
        for key in _VERDICT_KEYS:
            if key in fields and (score := _score(str(fields[key]))) is not None:
                return score
    return _score(text)


def _score(text: str) -> float | None:
    polarity = _polarity(_words(text))
    if polarity is not None:
        return float(polarity)
    found = _SCORE.search(text)
    return (int(found[1]) - 1) / 4 if found else None


def _words(text: str) -> list[str]:
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = [_NUMBERS.get(word, word) for word in _WORD.findall(folded)]
    return [word for word in words if word not in _ARTICLES] or words


def _polarity(words: list[str]) -> bool | None:
    if not words:
        return None
    return True if words[0] in _YES else False if words[0] in _NO else None


def _numbers(words: list[str]) -> set[str]:
    return {word.replace(",", ".") for word in words if word[0].isdigit()}


def _shared(ours: list[str], theirs: list[str]) -> float:
    try:
        from rapidfuzz.fuzz import token_set_ratio
    except ImportError:
        a, b = set(ours), set(theirs)
        if a <= b or b <= a:
            return 1.0
        return SequenceMatcher(None, " ".join(sorted(a)), " ".join(sorted(b)), autojunk=False).ratio()
    return float(token_set_ratio(" ".join(ours), " ".join(theirs))) / 100
