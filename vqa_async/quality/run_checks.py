"""The checks of a pair against all other pairs of a run, in bounded memory. Pairs come in input order.

``common`` tells exact repeats of question and answer, normalised: a hash of each pair is kept, some 12 bytes
a pair, as resuming keeps for a record.

``near_duplicate_run`` tells those that resemble one of the pairs that share one of their two longest
words, of the last 8 for each of the 10,000 words that were met last. So memory does not depend on the number
of pairs (at most 80,000 short texts, about 20 MB), and a near-duplicate is found where it is recent or about
something rare; not each one, which would take a comparison of all with all.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection

from vqa_async.keytable import KeyTable
from vqa_async.quality.pair_checks import normalised, similarity

_WORDS = 10_000
_TEXTS_PER_WORD = 8
_LONGEST_TEXT = 300
_WORDS_OF_A_TEXT = 2


class RunChecks:
    """Flags pairs by what came before them.

    Args:
        checks: names of the checks that are on.
        near_duplicate_ratio: from which ratio on two pairs are near-duplicates, from 0 to 1.

    Raises:
        ConfigError: a check needs the extra `quality`.
    """

    def __init__(self, checks: Collection[str], *, near_duplicate_ratio: float = 0.9) -> None:
        self._seen = KeyTable(key_bytes=10, value_bytes=1) if "common" in checks else None
        self._ratio = near_duplicate_ratio
        self._similarity = similarity() if "near_duplicate_run" in checks else None
        self._recent: OrderedDict[str, deque[str]] = OrderedDict()

    def flags(self, question: str, answer: str) -> tuple[str, ...]:
        """The flags of the next pair."""
        text = f"{normalised(question)}\n{normalised(answer)}"
        flags: list[str] = []
        if self._seen is not None and self._seen.setdefault(text, b"\1") is not None:
            flags.append("common")
        if self._similarity is not None and self._resembles(text[:_LONGEST_TEXT]):
            flags.append("near_duplicate_run")
        return tuple(flags)

    def _resembles(self, text: str) -> bool:
        assert self._similarity is not None
        found = False
        for word in sorted(set(text.split()), key=lambda word: (-len(word), word))[:_WORDS_OF_A_TEXT]:
            texts = self._recent.setdefault(word, deque(maxlen=_TEXTS_PER_WORD))
            self._recent.move_to_end(word)
            found = found or any(self._similarity(text, other) >= self._ratio for other in texts)
            texts.append(text)
        while len(self._recent) > _WORDS:
            self._recent.popitem(last=False)
        return found
