"""Which pairs are looked at, how, and which are put to a model once more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vqa_async.config.endpoints import normalise_base_url
from vqa_async.config.values import require, strings

BASIC_CHECKS = ("empty", "repeated", "no_question", "refusal", "length", "ai_leak", "prompt_leak")
"""Checks of pairs that need no model, no library and a few microseconds."""


EXTRA_CHECKS = ("near_duplicate", "language")
"""Of one answer too, but with the libraries of the extra `quality`."""


RUN_CHECKS = ("common", "near_duplicate_run")
"""Against all other pairs of the run, so only in hindsight."""


_CHECK_SETS = {"basic": BASIC_CHECKS, "all": (*BASIC_CHECKS, *EXTRA_CHECKS, *RUN_CHECKS), "none": ()}


@dataclass(frozen=True, slots=True)
class Quality:
    """Which question-answer pairs are good enough. Those that are not stay in the output, with flags."""

    checks: str = "basic"
    """Checks of pairs, with commas between: basic (empty, repeated, no_question, refusal, length, ai_leak,
    prompt_leak); near_duplicate and language (extra 'quality'); common and near_duplicate_run, against the
    whole run; all; none."""

    min_answer_chars: int = 0
    """Check 'length': the shortest answer, in characters. 0: any, for '4' and '红' are answers."""

    max_answer_chars: int = 2000
    """Check 'length': the longest answer and question, in characters; what is longer is rarely one pair. 0:
    any."""

    answer_language: str = ""
    """Check 'language': the language that is wanted, as a code such as en or zh."""

    near_duplicate_ratio: float = 0.9
    """From which similarity on texts are near-duplicates, from 0 to 1; 0.9 is a word or two in a sentence."""

    accept: int = 0
    """Go on until so many records are accepted, that is have a pair without a flag (with --verify: after
    that), or the input is used up. 0: answer all."""

    def __post_init__(self) -> None:
        self.chosen()
        for name in ("min_answer_chars", "max_answer_chars", "accept"):
            require(getattr(self, name) >= 0, f"{name} must not be negative.")
        require(0 < self.near_duplicate_ratio <= 1, "near_duplicate_ratio must be above 0 and at most 1.")
        require(
            "language" not in self.chosen() or bool(self.answer_language),
            "The check 'language' needs the language that is wanted: --answer-language en.",
        )

    def chosen(self) -> frozenset[str]:
        """The names of the checks that are on; of 'all', those that can be."""
        found: set[str] = set()
        for name in filter(None, (name.strip().replace("-", "_") for name in self.checks.split(","))):
            known = {**_CHECK_SETS, **{check: (check,) for check in _CHECK_SETS["all"]}}
            require(name in known, f"There is no check {name!r} for --checks. There are {', '.join(known)}.")
            found.update(known[name])
            if name == "all" and not self.answer_language:
                found.discard("language")
        return frozenset(found)


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether pairs are put to a model once more, and to which."""

    verify: bool = False
    """After the run, put each pair without flags to a model again, with its image. What that
    says is kept in OUT.checks.jsonl, and the same command resumes it too."""

    verify_mode: Literal["answer", "judge"] = "answer"
    """answer: it answers the question without being told our answer, and the two are compared. judge: it is
    told, and gives a mark."""

    verify_model: str = ""
    """Model that verifies. Default: that of the run, though it agrees with its own mistakes."""

    verify_base_url: tuple[str, ...] = ()
    """Address of the API that verifies. Default: that of the run."""

    verify_api_key_env: str = ""
    """Name of the environment variable that holds its API key. Default: as for the run."""

    verify_threshold: float = 0.5
    """Agreement, from 0 to 1, below which a pair is flagged 'disagreement'. Other words for the same are
    mostly above 0.6, other things below 0.4; a judge's 3 of 5 is 0.5."""

    def __post_init__(self) -> None:
        urls = tuple(normalise_base_url(url) for url in strings(self.verify_base_url))
        object.__setattr__(self, "verify_base_url", urls)
        require(
            self.verify_mode in ("answer", "judge"),
            f"verify_mode must be answer or judge, not {self.verify_mode!r}.",
        )
        require(0 <= self.verify_threshold <= 1, "verify_threshold must be from 0 to 1.")
