"""What is counted of an output: one place for the report, which reads lines, and for the live page, which
hears of results. Memory does not depend on the number of records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from vqa_async.report.spread import Spread, Timeline

_MOST_NAMES = 200
"""Models, endpoints, flags and so on that are counted by name; what comes after them counts as others."""

OTHERS = "(others)"


@dataclass(frozen=True, slots=True)
class Answered:
    """What counts of one answer.

    Attributes:
        model, endpoint, style: by whom, and as what; "" where that is not known.
        finish_reason: why it ended.
        latency_s: how long it took.
        finished_at: Unix time; 0 where it is not known.
        prompt_tokens, completion_tokens: as counted by the endpoint.
        attempts: requests sent for it.
    """

    model: str = ""
    endpoint: str = ""
    style: str = ""
    finish_reason: str = ""
    latency_s: float = 0.0
    finished_at: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 0


@dataclass(slots=True)
class Figures:
    """The counts of an output.

    Attributes:
        answered, failed: records, as the run counts them: each question of a row is one.
        rows: answered rows.
        pairs: question-answer pairs.
        flagged_pairs: those of them that have a flag.
        flagged: rows with such a pair.
        without_pairs: answered rows in which no pair was found.
        images: images, each as often as it was asked about.
        truncated: answers that were cut off.
        repeated: attempts beyond the first, of records that ended.
        verified: pairs that another answer or a judge was heard about.
        prompt_tokens, completion_tokens: over all answers.
        models, endpoints, styles, flags, failures: counts by name.
        latency: seconds of answers.
        pairs_per_row: pairs of answered rows.
        answer_chars: characters of the answers in pairs; of whole answers, where there are no pairs.
        times: when answers came.
        retryable: failed records that the next run tries again.
    """

    answered: int = 0
    failed: int = 0
    rows: int = 0
    retryable: int = 0
    pairs: int = 0
    flagged_pairs: int = 0
    flagged: int = 0
    without_pairs: int = 0
    images: int = 0
    truncated: int = 0
    repeated: int = 0
    verified: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    models: Counter[str] = field(default_factory=Counter)
    endpoints: Counter[str] = field(default_factory=Counter)
    styles: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    latency: Spread = field(default_factory=Spread)
    pairs_per_row: Spread = field(default_factory=Spread)
    answer_chars: Spread = field(default_factory=Spread)
    times: Timeline = field(default_factory=Timeline)

    @property
    def records(self) -> int:
        """Records that ended."""
        return self.answered + self.failed

    def count_answer(self, answer: Answered) -> None:
        """Count one reply; a row with several questions has several."""
        self.answered += 1
        self.prompt_tokens += answer.prompt_tokens
        self.completion_tokens += answer.completion_tokens
        self.truncated += answer.finish_reason == "length"
        self.repeated += max(0, answer.attempts - 1)
        _count(self.models, answer.model)
        _count(self.endpoints, answer.endpoint)
        _count(self.styles, answer.style)
        if answer.latency_s > 0:
            self.latency.add(answer.latency_s)
        if answer.finished_at > 0:
            self.times.add(answer.finished_at)

    def count_row(self, pairs: list[tuple[str, tuple[str, ...]]], text: str, images: int) -> None:
        """Count an answered row.

        Args:
            pairs: answer and flags of each pair.
            text: the answer, for rows without pairs.
            images: images that were asked about.
        """
        self.rows += 1
        self.images += images
        self.pairs += len(pairs)
        self.pairs_per_row.add(len(pairs))
        if not pairs:
            self.without_pairs += 1
            self.answer_chars.add(len(text))
        flagged = 0
        for answer, flags in pairs:
            self.answer_chars.add(len(answer))
            flagged += bool(flags)
            for flag in flags:
                _count(self.flags, flag)
        self.flagged_pairs += flagged
        self.flagged += bool(flagged)

    def count_failure(self, code: str, attempts: int, *, retryable: bool) -> None:
        """Count a record that failed."""
        self.failed += 1
        self.retryable += retryable
        self.repeated += max(0, attempts - 1)
        _count(self.failures, code or "unknown")


def _count(counter: Counter[str], name: str) -> None:
    if name:
        counter[name if name in counter or len(counter) < _MOST_NAMES else OTHERS] += 1
