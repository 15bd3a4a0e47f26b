"""Agreement of two answers, a judge's verdict, and which pairs are kept for it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from vqa_async.config import Quality, Verification
from vqa_async.errors import ConfigError
from vqa_async.quality import Checks, Review, kept_pairs
from vqa_async.quality.agreement import agreement, verdict
from vqa_async.quality.run_checks import RunChecks
from vqa_async.quality.verdicts import pair_id, score_of, verifying_question

SAME = [
    ("A red bus.", "a red bus"),
    ("Red", "The bus is red."),
    ("Yes.", "Yes, there is a dog."),
    ("Ja", "Ja."),
    ("Four", "4"),
    ("4", "There are four cats."),
    ("是", "是"),
    ("...", "..."),
]
OTHER = [
    ("Yes.", "No, there is none."),
    ("4", "There are five cats."),
    ("A red bus.", "Two dogs playing"),
    ("A mug", "..."),
    ("是", "不"),
]


@pytest.mark.parametrize("without_extra", [False, True])
@pytest.mark.parametrize(
    ("answer", "other", "agrees"), [*((*p, True) for p in SAME), *((*p, False) for p in OTHER)]
)
def test_what_says_the_same_agrees(
    answer: str, other: str, agrees: bool, without_extra: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the right side of the default threshold, with the extra and without."""
    if without_extra:
        monkeypatch.setitem(sys.modules, "rapidfuzz.fuzz", None)
    assert (agreement(answer, other) >= Verification().verify_threshold) is agrees


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ('{"score": 5}', 1.0),
        ('Sure: ```json\n{"score": 3, "why": "partly"}\n```', 0.5),
        ('{"rating": "1/5"}', 0.0),
        ('{"correct": true}', 1.0),
        ('{"verdict": "no"}', 0.0),
        ("Yes, it is right.", 1.0),
        ("Score: 4/5", 0.75),
        ("{broken} 2", 0.25),
        ('{"why": "unclear"}', None),
        ("I cannot say.", None),
        ("", None),
    ],
)
def test_a_judges_verdict_is_read(reply: str, score: float | None) -> None:
    """Marks from 1 to 5, yes and no, in JSON or in words."""
    assert verdict(reply) == score
    assert score_of("judge", "anything", reply) == score


def test_the_question_is_put_without_our_answer_and_to_a_judge_with_it() -> None:
    """Who is to answer must not be told."""
    assert verifying_question("answer", "What?", "A mug") == "What?"
    assert "A mug" in verifying_question("judge", "What?", "A mug")


def test_an_edited_pair_has_another_id() -> None:
    """So it is verified again, and repeats within a record are told apart by their number."""
    ids = {
        pair_id("r", 1, "q", "a"),
        pair_id("r", 2, "q", "a"),
        pair_id("r", 1, "q", "b"),
        pair_id("s", 1, "q", "a"),
    }
    assert len(ids) == 4


def line(*pairs: dict[str, Any]) -> dict[str, Any]:
    return {"qa_pairs": list(pairs), "_meta": {"id": "r"}}


def test_pairs_are_kept_and_dropped_with_their_reasons() -> None:
    """Flags in the line, then the agreement; what was not verified stays."""
    good, bad = {"question": "Q1", "answer": "A"}, {"question": "Q2", "answer": "B"}
    flagged = {"question": "Q3", "answer": "C", "flags": ["refusal", "ai_leak"]}
    scores = {pair_id("r", 1, "Q1", "A"): 0.5, pair_id("r", 2, "Q2", "B"): 0.495}
    checks = Checks(scores.get, threshold=0.5)
    kept = kept_pairs(line(good, bad, flagged, {"question": "Q4", "answer": "D"}), checks)
    assert kept.pairs == [good, {"question": "Q4", "answer": "D"}]
    assert kept.dropped == [("disagreement",), ("refusal", "ai_leak")]
    assert checks.verified == 2
    assert len(kept_pairs(line(good, bad, flagged)).pairs) == 2


def test_the_tally_counts_records_pairs_and_reasons() -> None:
    """A record is accepted for one pair; an answer without pairs is counted apart."""
    review = Review()
    for pairs in (
        [{"question": "a", "answer": "b"}],
        [{"question": "a", "answer": "", "flags": ["empty"]}],
        [],
    ):
        review.count(kept_pairs(line(*pairs)))
    assert (review.records, review.accepted, review.without_pairs) == (3, 1, 1)
    assert (review.pairs, review.kept, review.dropped) == (2, 1, 1)
    assert review.reasons == {"empty": 1}


def test_repeats_across_a_run_are_told_from_the_second_on() -> None:
    """The same pair, normalised; and one that differs by a letter, where it is recent."""
    run = RunChecks(["common", "near_duplicate_run"])
    assert run.flags("What is the colour?", "A vermilion red") == ()
    assert run.flags("what is the colour", "A vermilion red.") == ("common", "near_duplicate_run")
    assert run.flags("What is the color?", "A vermilion red") == ("near_duplicate_run",)
    assert run.flags("Where is the dog?", "On the lawn") == ()


def test_memory_of_a_run_is_bounded() -> None:
    """However many pairs come, only the words that were met last are remembered."""
    run = RunChecks(["near_duplicate_run"])
    for number in range(6000):
        run.flags(f"What is object{number:06}?", f"It is thing{number:06}")
    assert len(run._recent) == 10_000


@pytest.mark.parametrize(
    "options",
    [
        {"min_answer_chars": -1},
        {"near_duplicate_ratio": 0},
        {"accept": -1},
    ],
)
def test_options_of_quality_check_themselves(options: dict[str, Any]) -> None:
    """A value that cannot work is refused by its name."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        Quality(**options)


@pytest.mark.parametrize("options", [{"verify_mode": "guess"}, {"verify_threshold": 1.5}])
def test_options_of_verification_check_themselves(options: dict[str, Any]) -> None:
    """A value that cannot work is refused by its name."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        Verification(**options)
