"""The JSON of a chat completion, as OpenAI's clients read it. Pure apart from the id and the date."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from vqa_async.models import Usage
from vqa_async.server.looks import Look
from vqa_async.server.question import Question
from vqa_async.server.tokens import IMAGE_TOKENS, count_image, count_text, cut

FINGERPRINT = "vqa-async-pixels-no-model"


@dataclass(frozen=True, slots=True)
class Written:
    """An answer written down: its text, cut to length where asked, why it ends, what it cost."""

    text: str
    finish_reason: str
    usage: Usage


def estimate_prompt(question: Question) -> int:
    """Tokens that the question takes at least, before its images were looked at."""
    text = sum(count_text(text) for text in question.texts)
    return text + IMAGE_TOKENS * len(question.pictures)


def count_prompt(question: Question, looks: Sequence[Look | None]) -> int:
    """Tokens that the question takes; an image that was not looked at counts the least."""
    text = sum(count_text(text) for text in question.texts)
    images = (
        count_image(look.width, look.height, picture.detail) if look else IMAGE_TOKENS
        for picture, look in zip(question.pictures, looks, strict=True)
    )
    return text + sum(images)


def write(text: str, max_tokens: int | None, prompt_tokens: int) -> Written:
    """``text`` as an answer of at most ``max_tokens``."""
    tokens = count_text(text)
    if max_tokens is None or tokens <= max_tokens:
        return Written(text, "stop", Usage(prompt_tokens, tokens))
    return Written(cut(text, max_tokens), "length", Usage(prompt_tokens, max_tokens))


def completion_body(written: Written, model: str) -> bytes:
    """The reply's JSON."""
    message = {"role": "assistant", "content": written.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": written.finish_reason}
    prompt, completion = written.usage.prompt_tokens, written.usage.completion_tokens
    return orjson.dumps(
        {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
            "system_fingerprint": FINGERPRINT,
        }
    )
