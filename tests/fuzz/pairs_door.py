"""The door for answers: whatever a model writes is read into question-answer pairs without an error.

An input is the text in UTF-8; bytes that are none become lone surrogates, so that those are tried too.
"""

from __future__ import annotations

from vqa_async.models import QAPair
from vqa_async.qa import format_pairs, parse_pairs, read_any_form

SEEDS = [
    text.encode()
    for text in (
        "- Q: What is it?\n  A: A cat\n\n- Q: Where?\n  A: On a mat",
        "**Question 1:** What?\n**Answer:** A cat\n\n**Question 2:** Where?\n**Answer:** On a mat\n---\nEnd",
        "Sure!\n\n1. **Q:** What? A: This.\n2. **Q:** Who? A: Them.\n\nLet me know if you need more.",
        '```json\n{"qa_pairs": [{"question": "What?", "answer": "This", "box": {"x": 1}},]}\n```',
        '{"Q1": "What?", "A1": "This", "Q2": "Who?"}\n{"answer": ["a", "b"], "question": "What\\ud83d"}',
        "| # | Question | Answer |\n|---|:-:|---|\n| 1 | What? | This \\| that<br>more |",
        "1. What is it?\n   - A cat\n2. Where?\n   On a mat",
        "问题1：这是什么？\n答案1：一只猫\n问：在哪里？答：垫子上",
        '{"question": ' + "[" * 1500 + "]" * 1500 + ', "answer": "x"}\nQ: What? A: This',
        "<think>\nQ: draft?\nA: draft\n</think>\n\nQ: What?\nA: This",
        "Q1: What?\nQ2: Who?\nA2: Them\nA1: This\nA: red\nB: blue\nC: green",
        "س: ما هذا؟\nج: قطة\nВопрос: Что?\nОтвет: Кот\nP: O que?\nR: Isto",
    )
]
TOKENS = [
    token.encode()
    for token in (
        *("Q:", "A:", "Q1.", "A1)", "- Q: ", "\n  A: ", "Question 1:", "Answer:", "**", "__", "```", "---"),
        *(
            "问：",
            "答：",
            "？",
            "。",
            "：",
            "|",
            "\\|",
            "<br>",
            "|---|",
            "<think>",
            "</think>",
            "\r\n",
            "\n\n",
        ),
        *('{"question":', '"answer":', '"}', "},", "[", "]", "\\ud800", "\\u0000", "B: blue", "C: x"),
        *("\u200b", "\ufeff", "\u2028", "\x85", "\x1c", "²", "٣", "(ID)", "Pair 2", "# ", "> ", "\t", "    "),
        *("Let me know", "Choice A: ", "R:", "P:", "Frage:", "É", "I\u0307", "ß", "ſ", "\ufe0f", "❓"),
    )
]

MOST_BYTES = 4096
"""Longest input worth trying."""


def check(data: bytes) -> None:
    """Hold the reader of answers to its promise.

    Raises:
        AssertionError: it broke it; so does any other exception.
    """
    text = data.decode("utf-8", "surrogateescape")
    pairs = parse_pairs(text)
    check_pairs(pairs)
    assert pairs == read_any_form(text), "the short way must give what the long way gives"
    check_pairs(parse_pairs(format_pairs(pairs)))


def check_pairs(pairs: tuple[QAPair, ...]) -> None:
    """A pair has text on both sides, without blanks around it."""
    assert isinstance(pairs, tuple)
    for pair in pairs:
        assert pair.question.strip()
        assert pair.answer.strip()
        assert pair.question == pair.question.strip()
        assert pair.answer == pair.answer.strip()
