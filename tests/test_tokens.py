"""Estimates of tokens: tables of what the makers of models publish, and what real replies teach."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqa_async.models import Usage
from vqa_async.tokens import (
    DEFAULT_RULE,
    Estimate,
    TokenEstimator,
    estimate_bytes,
    estimate_text,
    image_rule,
)

# --- text --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "tokens"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é" * 4, 2), ("图" * 4, 3), ("\ud800", 1)],
)
def test_text_counts_four_bytes_a_token(text: str, tokens: int) -> None:
    """UTF-8 bytes, rounded up; half a surrogate pair, which has none, is no error."""
    assert estimate_text(text) == tokens


@given(st.text())
def test_text_counts_as_its_bytes(text: str) -> None:
    """Whoever has the bytes already need not count anew."""
    assert estimate_text(text) == estimate_bytes(len(text.encode()))


# --- images ------------------------------------------------------------------------------------------------

# OpenAI, https://platform.openai.com/docs/guides/images-vision#calculating-costs
# Tiles: fit into 2048 x 2048, shrink the shorter side to 768, count tiles of 512, add the base.
TILES = [
    ("gpt-4o", 512, 512, 85 + 170),
    ("gpt-4o", 1024, 1024, 85 + 4 * 170),  # their example: 768 x 768
    ("gpt-4o", 2048, 4096, 85 + 6 * 170),  # their example: 1024 x 2048, 768 x 1536
    ("gpt-4o", 1536, 768, 85 + 6 * 170),
    ("gpt-4o", 513, 512, 85 + 2 * 170),
    ("gpt-4o", 1, 5000, 85 + 4 * 170),  # 1 x 2048: a line has tiles too
    ("gpt-4.1-2025-04-14", 1024, 1024, 765),
    ("gpt-4o-mini", 1024, 1024, 2833 + 4 * 5667),
    ("openai/gpt-4o-mini-2024-07-18", 512, 512, 2833 + 5667),
    ("gpt-5", 1024, 1024, 70 + 4 * 140),
    ("gpt-5-chat-latest", 512, 512, 70 + 140),
]
# Patches of 32 pixels, 1,536 at most, times a factor for each model. (An image that has more is shrunk until
# whole patches fit, which leaves up to 6 % fewer: 1,452 for their example of 1800 x 2400. Here it is 1,536.)
PATCHES = [
    ("gpt-4.1-mini", 1024, 1024, 1659),  # 32 * 32 = 1,024, * 1.62 = 1,658.88
    ("gpt-4.1-nano", 1024, 1024, 2520),  # * 2.46 = 2,519.04
    ("gpt-5-mini", 33, 32, 4),  # 2 * 1.62 = 3.24
    ("gpt-5-nano", 1024, 1024, 2520),
    ("o4-mini", 1024, 1024, 1762),  # * 1.72 = 1,761.28
    ("o4-mini", 1800, 2400, 2642),  # 1,536 * 1.72 = 2,641.92
]
# Qwen2-VL and 2.5-VL: patches of 14 pixels, four of which are one token; Qwen3-VL: patches of 16.
# https://github.com/QwenLM/Qwen2.5-VL (image resolution), 16,384 tokens at most by default.
QWEN = [
    ("Qwen/Qwen2-VL-7B-Instruct", 280, 280, 100),
    ("Qwen2.5-VL-7B-Instruct", 1036, 560, 740),  # 37 * 20
    ("qwen-vl-max", 29, 28, 2),
    ("Qwen2.5-VL-72B", 8000, 8000, 16_384),
    ("Qwen/Qwen3-VL-8B-Instruct", 320, 320, 100),
    ("qwen3-vl-plus", 1024, 1024, 1024),
]
# Anthropic, https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs
# Width * height / 750, after fitting into 1568 pixels; about 1,600 at most.
CLAUDE = [
    ("claude-sonnet-4-5", 200, 200, 53),  # 53.3
    ("claude-3-5-haiku", 1000, 1000, 1333),
    ("anthropic/claude-opus-4", 1092, 1092, 1590),  # their example
    ("claude-sonnet-4-5", 3136, 1568, 1600),  # 1568 * 784 / 750 = 1,639
    ("claude-sonnet-4-5", 3136, 784, 820),  # 1568 * 392 / 750 = 819.5
    ("claude-sonnet-4-5", 1, 1, 1),
]
# Google, https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens
# 258 up to 384 pixels on both sides, else 258 for each tile of 768.
GEMINI = [
    ("gemini-2.5-flash", 384, 384, 258),
    ("google/gemini-2.0-flash-001", 385, 100, 258),
    ("gemini-2.5-pro", 769, 768, 2 * 258),
    ("gemini-2.5-pro", 3000, 2000, 12 * 258),  # 4 * 3
]
# Liu et al., "Improved Baselines with Visual Instruction Tuning", 2023: 336 pixels in patches of 14, 24 * 24.
LLAVA = [("llava-1.5-7b-hf", 10, 10, 576), ("LLaVA-1.5-13B", 4000, 4000, 576)]


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"), [*TILES, *PATCHES, *QWEN, *CLAUDE, *GEMINI, *LLAVA]
)
def test_images_count_by_the_rule_of_their_model(model: str, width: int, height: int, tokens: int) -> None:
    """Computed by hand, from what each maker publishes."""
    assert image_rule(model)[1](width, height) == tokens


@pytest.mark.parametrize("model", ["llama-3.2-vision", "my-finetune", "", "mini"])
def test_other_models_count_by_the_default(model: str) -> None:
    """And whoever asks is told so."""
    said, rule = image_rule(model)
    assert said == DEFAULT_RULE
    assert rule(1024, 1024) == 765


@pytest.mark.parametrize(
    ("model", "word"), [("gpt-5-nano", "2.46"), ("Qwen3-VL", "32"), ("qwen2-vl", "28"), ("claude", "750")]
)
def test_rule_says_in_words_what_it_is(model: str, word: str) -> None:
    """For the user, who is shown an estimate and must know of what kind."""
    assert word in image_rule(model)[0]


MODELS = sorted({model for model, *_ in [*TILES, *PATCHES, *QWEN, *CLAUDE, *GEMINI, *LLAVA]})


@given(st.sampled_from(MODELS), st.integers(1, 20_000), st.integers(1, 20_000))
def test_every_image_counts_and_turning_it_changes_nothing(model: str, width: int, height: int) -> None:
    """At least one token, and as many lying down as standing up."""
    rule = image_rule(model)[1]
    assert rule(width, height) >= 1
    assert rule(width, height) == rule(height, width)


# --- the estimator -----------------------------------------------------------------------------------------


def test_estimate_is_text_and_images_and_answer() -> None:
    """400 bytes are 100 tokens, the images 765 and 255, the answer what max_tokens allows."""
    estimate = TokenEstimator("gpt-4o", max_tokens=50).estimate(400, [(1024, 1024), (512, 512)])
    assert estimate == Estimate(prompt=100 + 765 + 255, answer=50)
    assert estimate.total == 1170


def test_image_of_unknown_size_counts_as_a_usual_one() -> None:
    """Such as one that is passed on as a URL."""
    assert TokenEstimator("claude").estimate(0, [(0, 0)]).prompt == 765


def test_answer_is_guessed_where_nothing_bounds_it() -> None:
    """256 tokens, until the first has come in."""
    assert TokenEstimator("m").estimate(4, []).answer == 256


def test_low_detail_counts_the_base_alone() -> None:
    """85 by the rule of GPT-4o; other rules know of no detail."""
    assert TokenEstimator("gpt-4o", detail="low").estimate(0, [(1024, 1024)] * 2).prompt == 170
    assert TokenEstimator("claude", detail="low").estimate(0, [(750, 100)]).prompt == 100
    assert TokenEstimator("gpt-4o", detail="high").estimate(0, [(1024, 1024)]).prompt == 765


def test_first_usage_puts_the_estimate_right() -> None:
    """An image that took twice what was thought: so will the next one."""
    tokens = TokenEstimator("gpt-4o")
    tokens.correct(0, [(1024, 1024)], Usage(prompt_tokens=1530, completion_tokens=0))
    assert tokens.estimate(0, [(512, 512)]).prompt == pytest.approx(510)


def test_later_usages_move_it_little_by_little() -> None:
    """By a twentieth each: one odd reply does not turn it over, a hundred alike do."""
    tokens = TokenEstimator("m", max_tokens=100)
    tokens.correct(400, [], Usage(100, 100))
    tokens.correct(400, [], Usage(300, 20))
    assert tokens.estimate(400, []) == Estimate(pytest.approx(110), pytest.approx(96))
    for _ in range(100):
        tokens.correct(400, [], Usage(300, 20))
    assert tokens.estimate(400, []).prompt == pytest.approx(300, rel=0.01)
    assert tokens.estimate(400, []).answer == pytest.approx(20, rel=0.05)


def test_usage_of_nothing_teaches_nothing() -> None:
    """Many servers say 0 for what they have not counted."""
    tokens = TokenEstimator("gpt-4o", max_tokens=50)
    before = tokens.estimate(400, [(512, 512)])
    tokens.correct(400, [(512, 512)], Usage())
    assert tokens.estimate(400, [(512, 512)]) == before


@given(
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**7), st.integers(0, 10**6)), max_size=30),
    st.integers(0, 10**6),
)
def test_no_usage_makes_an_estimate_of_nothing(usages: list[tuple[int, int, int]], size: int) -> None:
    """Whatever replies say, the next request is more than nothing and less than no end."""
    tokens = TokenEstimator("m")
    for text_bytes, prompt, answer in usages:
        tokens.correct(text_bytes, [], Usage(prompt, answer))
    assert 0 < tokens.estimate(size, []).total < 1e13
