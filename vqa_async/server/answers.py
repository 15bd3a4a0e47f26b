"""Looks -> question-answer pairs -> the answer's text. Pure: the same request gets the same answer.

The endpoint says what it measured and nothing else. What it did not look at (addresses, images when
decoding is off) it says it did not. That it is no model is said in a pair only to those who ask; for all
others it stands in a header, the model list and the fingerprint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import orjson

from vqa_async.models import QAPair
from vqa_async.server.filling import fill
from vqa_async.server.looks import Look
from vqa_async.server.question import Question
from vqa_async.server.tokens import count_words
from vqa_async.server.wanted import Wanted

_WHO = re.compile(
    r"\b(who|what|which)( \w+)? are you\s*([?.!,]|$)"
    r"|\bare you (an? )?(\w+ )?(model|ai|human|bot|gpt\S*)\b|你是谁",
    re.IGNORECASE,
)
_NO_MODEL = QAPair(
    "What is answering?",
    "The embedded endpoint of vqa-async. It measures pixels and is not a model.",
)
_NO_MODEL_THAT_READS = QAPair(
    "What is answering?",
    "The embedded endpoint of vqa-async. It measures pixels, reads text with OCR and is not a vision model.",
)
_NOT_DECODED = QAPair(
    "What do the images show?", "They were not decoded: this endpoint runs without decoding, for load tests."
)


_NO_TEXT = "No text was found."
_ABOUT_TEXT = re.compile(
    r"\b(texts?|words?|letters?|lettering|inscriptions?|captions?|labels?|headlines?|titles?|writing|writings"
    r"|written|wrote|transcribe|transcription|ocr|reads?|says?|printed|spell(s|ed)?)\b|文字|文本|写",
    re.IGNORECASE,
)
_PAIRS = re.compile(r"\bpairs?\b|\bq ?& ?a\b|问答", re.IGNORECASE)


def undecoded_pairs() -> list[QAPair]:
    """The constant answer of an endpoint that does not decode."""
    return [_NOT_DECODED]


def measured_pairs(question: Question, looks: Sequence[Look | None], *, reads: bool = False) -> list[QAPair]:
    """What there is to say, given the looks of the question's pictures (None: it was not fetched).

    Where the endpoint ``reads``, the text comes first, so that a schema with room for one text gets that.
    """
    pairs = [*_read_all(looks), *(_describe_all(looks) if looks else _describe_text(question.asked))]
    if _WHO.search(question.asked):
        pairs.append(_NO_MODEL_THAT_READS if reads else _NO_MODEL)
    return pairs


def plain_text(question: Question, looks: Sequence[Look | None]) -> str | None:
    """The text on the images and nothing else, where just that was asked; None for all other questions."""
    is_plain = not question.wanted.as_json and not any(_PAIRS.search(text) for text in question.texts)
    if not (is_plain and _ABOUT_TEXT.search(question.asked)):
        return None
    seen = [(number, look) for number, look in enumerate(looks, 1) if look and look.text is not None]
    if len(looks) == 1 and seen:
        return "\n".join(seen[0][1].text or (_NO_TEXT,))
    return "\n".join(f"Image {number}: {_text(look.text or ())}" for number, look in seen) or None


def render(pairs: Sequence[QAPair], wanted: Wanted) -> str:
    """The pairs as the answer's text: a list of Q and A lines, or JSON."""
    if wanted.schema is not None:
        return orjson.dumps(fill(wanted.schema, pairs)).decode()
    if wanted.as_json:
        rows = [{"question": pair.question, "answer": pair.answer} for pair in pairs]
        return orjson.dumps({"pairs": rows}).decode()
    return "\n\n".join(f"- Q: {pair.question}\n  A: {pair.answer}" for pair in pairs)


def _describe_text(asked: str) -> Iterator[QAPair]:
    yield QAPair("How many images were sent?", "None, so nothing was looked at.")
    yield QAPair("How many words does the question have?", f"{count_words(asked)}.")


def _read_all(looks: Sequence[Look | None]) -> Iterator[QAPair]:
    for number, look in enumerate(looks, 1):
        if look is not None and look.text is not None:
            yield QAPair(f"What text is on {_name(number, looks)}?", _text(look.text))


def _text(lines: Sequence[str]) -> str:
    # In one line, as poems are quoted: a line of its own that reads "Q: ..." would become a pair.
    return " / ".join(lines) or _NO_TEXT


def _name(number: int, looks: Sequence[Look | None]) -> str:
    return f"image {number}" if len(looks) > 1 else "the image"


def _describe_all(looks: Sequence[Look | None]) -> Iterator[QAPair]:
    if len(looks) > 1:
        yield QAPair("How many images were sent?", f"{len(looks)}.")
    for number, look in enumerate(looks, 1):
        name = _name(number, looks)
        if look is None:
            yield QAPair(
                f"What does {name} show?", "It came as an address, which this endpoint does not fetch."
            )
        else:
            yield from _describe(name, look)


def _describe(name: str, look: Look) -> Iterator[QAPair]:
    yield QAPair(f"What size is {name}?", f"{look.width} x {look.height} pixels ({look.format}).")
    yield QAPair(f"What is the orientation of {name}?", _orientation(look))
    yield QAPair(f"What are the dominant colours of {name}?", _colours(look))
    yield QAPair(f"How bright is {name}?", _brightness(look.brightness))
    yield QAPair(f"How much contrast does {name} have?", _contrast(look.contrast))
    yield QAPair(f"How busy is {name}?", _busyness(look.edges))
    if look.transparent is not None:
        yield QAPair(f"Is any part of {name} transparent?", _transparency(look.transparent))
    if look.frames > 1:
        yield QAPair(f"How many frames does {name} have?", f"{look.frames}; only the first was looked at.")


def _orientation(look: Look) -> str:
    if look.width == look.height:
        return "Square: it is as wide as it is high."
    return (
        "Landscape: it is wider than high."
        if look.width > look.height
        else "Portrait: it is higher than wide."
    )


def _colours(look: Look) -> str:
    if not look.colours:
        return "It has none: every pixel is transparent."
    first, *rest = (f"{name} ({_percent(share)})" for name, share in look.colours)
    if not rest:
        return f"It is {look.colours[0][0]} all over."
    return f"Mostly {first}, then {', '.join(rest)}."


def _brightness(brightness: float) -> str:
    word = "dark" if brightness < 1 / 3 else "bright" if brightness > 2 / 3 else "medium"
    return f"It is {word}: its mean brightness is {_percent(brightness)}."


def _contrast(contrast: float) -> str:
    word = "low" if contrast < 0.1 else "high" if contrast > 0.25 else "medium"
    return f"Its contrast is {word}: brightness deviates by {_percent(contrast)}."


def _busyness(edges: float) -> str:
    word = "calm" if edges < 0.05 else "busy" if edges > 0.25 else "moderately busy"
    return f"It is {word}: {_percent(edges)} of neighbouring points differ clearly."


def _transparency(share: float) -> str:
    if share == 0:
        return "No, though it could be: no pixel is transparent."
    return f"Yes, {_percent(share)} of it is."


def _percent(share: float) -> str:
    # Rounding must not turn "hardly any" into "none", nor "nearly all" into "all".
    if 0 < share < 0.01:
        return "under 1%"
    return "over 99%" if 0.99 < share < 1 else f"{share:.0%}"
