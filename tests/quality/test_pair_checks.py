"""The flags of single pairs: tables of pairs and of the flags that a reader would give them."""

from __future__ import annotations

import sys

import pytest

from vqa_async.config import Quality
from vqa_async.errors import ConfigError
from vqa_async.models import QAPair
from vqa_async.quality import PairChecks
from vqa_async.quality.phrases import AI_LEAKS, LEAK_TRACES, PROMPT_LEAKS

GOOD = [
    ("What is the title of the film?", "Nightmare Alley"),
    ("How many cats are there?", "4"),
    ("What does the sign say?", "Sorry, we are closed"),
    ("Describe the scene.", "A beach at dusk."),
    ("Is anything hidden?", "Yes: I can't see the far wall, since a curtain hangs before it."),
    ("What is missing?", "It cannot be told from the image."),
    ("这是什么", "这是什么动物的标志。"),
    ("图中有几个人？", "红"),
    ("写真には何が写っていますか", "猫です。"),
    ("The capital shown is ___", "Lima"),
    ("Welche Farbe hat das Auto", "Rot"),
    ("¿Qué hay en la mesa?", "Una taza."),
    ("ما لون السيارة؟", "أحمر"),
    ("The car is parked in front of:", "a bakery"),
    ("What is the artist's training?", "He is seen as a student at a drawing school."),
]

BAD = [
    ("What is it?", "...", ["empty"]),
    ("?", "A mug.", ["empty"]),
    ("The sky is blue.", "Yes.", ["no_question"]),
    ("What is it?", "I can't see the image, so I can't say.", ["refusal"]),
    ("What is it?", "I’m unable to identify people in images.", ["refusal"]),
    ("Who is it?", "\"I'm sorry, but I can't help with that.\"", ["refusal"]),
    ("这是谁？", "抱歉，我无法识别图片中的人。", ["refusal"]),
    ("これは誰ですか？", "申し訳ありませんが、お答えできません。", ["refusal"]),
    ("Wer ist das?", "Es tut mir leid, ich kann das nicht.", ["refusal"]),
    ("Qui est-ce ?", "Je suis désolé, je ne peux pas.", ["refusal"]),
    ("¿Quién es?", "Lo siento, no puedo ayudar.", ["refusal"]),
    ("Кто это?", "Извините, я не могу.", ["refusal"]),
    ("من هذا؟", "عذرًا، لا أستطيع.", ["refusal"]),
    ("What is it?", "As an AI language model, I see a mug.", ["ai_leak"]),
    ("这是什么？", "作为人工智能，我认为是猫。", ["ai_leak"]),
    ("Generate complete QA pairs based on image content?", "A mug.", ["prompt_leak"]),
    ("What is it?", "<answer>", ["prompt_leak"]),
    ("What is it?", "x" * 2001, ["length"]),
]


def flags_of(*pairs: tuple[str, str], **options: object) -> list[list[str]]:
    checks = PairChecks(max_answer_chars=2000) if not options else PairChecks(**options)  # type: ignore[arg-type]
    return [list(pair.flags) for pair in checks([QAPair(*pair) for pair in pairs])]


@pytest.mark.parametrize("pair", GOOD, ids=lambda pair: pair[0])
def test_a_good_pair_stays_the_value_that_it_was(pair: tuple[str, str]) -> None:
    """No flag, and no new object either: most pairs are good."""
    given = QAPair(*pair)
    assert PairChecks()([given])[0] is given


@pytest.mark.parametrize(("question", "answer", "flags"), BAD)
def test_a_bad_pair_bears_the_name_of_what_is_wrong(question: str, answer: str, flags: list[str]) -> None:
    """Each check has its name, in the languages in which models answer."""
    assert flags_of((question, answer)) == [flags]


def test_a_repeated_question_is_flagged_and_not_the_first() -> None:
    """Case, blanks and punctuation make no other question of it."""
    assert flags_of(("What is it?", "A mug"), ("what  is it ?", "A cup")) == [[], ["repeated"]]


def test_only_the_checks_that_are_on_give_flags() -> None:
    """Others see the same and say nothing; with none the pairs pass."""
    bad = ("The sky is blue.", "I'm sorry, as an AI I can't.")
    assert flags_of(bad, checks=["refusal"]) == [["refusal"]]
    assert flags_of(bad, checks=[]) == [[]]


def test_the_bounds_of_length_can_be_set() -> None:
    """In characters; 0 is no bound."""
    pairs = (("What is it?", "4"), ("What is it here?", "x" * 30))
    assert flags_of(*pairs, checks=["length"], min_answer_chars=2) == [["length"], []]
    assert flags_of(*pairs, checks=["length"], max_answer_chars=29) == [[], ["length"]]


def test_near_duplicates_within_an_answer_are_told_by_their_ratio() -> None:
    """A letter or a word more is still the same question; exact repeats are the other flag's."""
    pairs = (
        ("What colour is the car?", "Red"),
        ("What color is the car?", "Red"),
        ("Who is in the car?", "Nobody"),
        ("Who is in the car?", "Nobody"),
    )
    checks = ["near_duplicate", "repeated"]
    assert flags_of(*pairs, checks=checks) == [[], ["near_duplicate"], [], ["repeated"]]
    assert flags_of(*pairs, checks=["near_duplicate"], near_duplicate_ratio=1.0)[1] == []


def test_another_language_is_told_where_a_text_is_long_enough() -> None:
    """Whole sentences in another language are flagged; names and single words are not."""
    pairs = (
        ("What is on the table?", "A blue mug stands on the table."),
        ("¿Qué hay en la mesa?", "Hay una taza azul sobre la mesa."),
        ("What is the title?", "Nightmare Alley"),
    )
    assert flags_of(*pairs, checks=["language"], language="en") == [[], ["language"], []]


@pytest.mark.parametrize(("language", "words"), [("", "--answer-language"), ("xx", "no language 'xx'")])
def test_a_language_must_be_one(language: str, words: str) -> None:
    """Nothing runs with a wanted language that no text could have."""
    with pytest.raises(ConfigError, match=words):
        PairChecks(["language"], language=language)


@pytest.mark.parametrize(
    ("check", "library"), [("near_duplicate", "rapidfuzz.distance"), ("language", "py3langid")]
)
def test_a_missing_library_is_named_with_its_extra(
    check: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence that says what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[quality\]'"):
        PairChecks([check], language="en")


def test_checks_are_chosen_by_name() -> None:
    """Sets and single names, with commas; a name that is none is refused with all that there are."""
    assert Quality(checks="none").chosen() == frozenset()
    assert Quality(checks="refusal, near-duplicate").chosen() == {"refusal", "near_duplicate"}
    assert "language" not in Quality(checks="all").chosen()
    assert "language" in Quality(checks="all", answer_language="en").chosen()
    with pytest.raises(ConfigError, match="near_duplicate_run"):
        Quality(checks="near_duplicates")
    with pytest.raises(ConfigError, match="--answer-language"):
        Quality(checks="language")


@pytest.mark.parametrize("leak", [*AI_LEAKS, *PROMPT_LEAKS])
def test_every_leak_is_found(leak: str) -> None:
    """In the middle of an answer; by a trace of it first, which each of them has."""
    assert any(trace in leak for trace in LEAK_TRACES)
    [pair] = PairChecks()([QAPair("What is it?", f"Well, {leak.capitalize()} it is a cat.")])
    assert {"ai_leak", "prompt_leak"} & set(pair.flags)
