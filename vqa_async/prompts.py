"""What is asked when the record does not say: the default system prompt and the default question.

Pure text; nothing here knows of requests or files.
"""

from __future__ import annotations

DEFAULT_SYSTEM_PROMPT = (
    "You are an image question-answer generator. "
    "Your task is to generate a question-answer pair for the given image content."
)
"""System prompt of the pipeline that this engine serves (Image VQA Generation Pipeline, API version)."""

DEFAULT_PROMPT = "Generate complete QA pairs based on image content and caption."
"""The question of the same pipeline's sample data, used for images that come without a conversation."""
