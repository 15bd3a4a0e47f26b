"""How a pair is put to the verifying model, what its reply is worth, and under which id that is kept."""

from __future__ import annotations

from hashlib import blake2b
from typing import Literal, TypeAlias

from vqa_async.quality.agreement import agreement, verdict

VerifyMode: TypeAlias = Literal["answer", "judge"]

SYSTEM_PROMPTS: dict[VerifyMode, str] = {
    "answer": (
        "Look at the image and answer the question from what it shows, in as few words as it needs. "
        "Give only the answer. If the image does not show it, say: not visible."
    ),
    "judge": (
        "You check question-answer pairs about images. Look at the image, then judge whether the answer is "
        'right and complete. Reply with one JSON object and nothing else: {"score": N}. N is 5 for right, '
        "4 for right but for a detail, 3 for partly right, 2 for mostly wrong, 1 for wrong or not to be seen."
    ),
}


def pair_id(record_id: str, number: int, question: str, answer: str) -> str:
    """The id of the check of a pair: of another one once the pair was edited.

    Args:
        record_id: of the record whose answer holds the pair.
        number: of the pair in it, from 1.
    """
    text = f"{question}\0{answer}".encode("utf-8", "surrogatepass")
    return f"{record_id}#{number}-{blake2b(text, digest_size=8).hexdigest()}"


def verifying_question(mode: VerifyMode, question: str, answer: str) -> str:
    """What the verifying model is asked, beside the images. With ``answer`` it is not told ours."""
    return question if mode == "answer" else f"Question: {question}\nAnswer: {answer}"


def score_of(mode: VerifyMode, answer: str, reply: str) -> float | None:
    """How far ``reply`` bears ``answer`` out, from 0 to 1; None where that cannot be told."""
    score = agreement(answer, reply) if mode == "answer" else verdict(reply)
    return None if score is None else round(score, 3)
