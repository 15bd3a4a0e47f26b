"""What is asked when nobody says otherwise. Pure text."""

from __future__ import annotations

DEFAULT_SYSTEM_PROMPT = (
    "You are an image question-answer generator. "
    "Your task is to generate a question-answer pair for the given image content."
)
"""System prompt of the pipeline that this engine serves (Image VQA Generation Pipeline, API version)."""

DEFAULT_PROMPT = "Generate complete QA pairs based on image content and caption."
"""The question of the same pipeline's sample data, used for images that come without a conversation."""

ANSWERING_SYSTEM_PROMPT = (
    "You answer questions about images. Answer the question that you are asked from what the image shows, "
    "plainly and completely, without repeating the question. Where the image does not show it, say so."
)
"""System prompt for a question of a row's list: an answer is wanted, and no new questions."""

FORM = """\
Write nothing but question-answer pairs, each in exactly this form, with a blank line between pairs:

- Q: the question
  A: the answer

Keep the labels Q: and A: as they are. Write each question on one line and each answer below its question. \
Every question must be answerable from the image alone, and no two may ask the same. Use no numbering, no \
headings, no JSON, no Markdown emphasis, and add no remarks before or after the pairs."""
"""The text form that ``qa.parse_pairs`` reads, told to a model."""
