"""The records of ``sample_data.json`` in the guide's form, one of each kind that an input may hold, and those
of ``text_data.json``, about pictures with text.

Images are named relative to the file, so it can be run from any working directory.
"""

from __future__ import annotations

import json
from typing import Any

from vqa_async.prompts import DEFAULT_PROMPT

_ASKED_AS_USUAL = (
    "poster.png",
    "red_circle.png",
    "blue_square.png",
    "green_triangle.png",
    "pie_chart.png",
    "house.jpg",
    "chessboard.png",
    "rainbow.png",
    "tree_turned.jpg",
    "logo_transparent.png",
    "sunset.webp",
    "night.jpg",
)


def sample_data() -> bytes:
    """The content of ``sample_data.json``."""
    return (json.dumps(_records(), indent=2, ensure_ascii=False) + "\n").encode()


def text_data() -> bytes:
    """The content of ``text_data.json``: pictures with text, and what it says."""
    records = [
        _record(["sign.png"], _human(DEFAULT_PROMPT)),
        _record(["receipt.png"], _human(DEFAULT_PROMPT)),
        _record(["form.png"], _human("Ask and answer questions about what is filled in.")),
        {"image": ["sign.png"], "questions": ["What does the sign say?"]},
    ]
    return (json.dumps(records, indent=2, ensure_ascii=False) + "\n").encode()


def _records() -> list[dict[str, Any]]:
    return [
        *(_record([name], _human(DEFAULT_PROMPT)) for name in _ASKED_AS_USUAL),
        _record(["bar_chart.png"], _human("Ask and answer three questions about the numbers in this chart.")),
        _record(
            ["traffic_light.png"], _human("Write one yes-or-no question about this image, with its answer.")
        ),
        _record(
            ["boats_left.png", "boats_right.png"],
            _human("First: <image>\nSecond: <image>\nAsk and answer questions about what differs."),
        ),
        _record(
            ["clock.png"],
            _human("What is this?"),
            {"from": "gpt", "value": "A clock face with two hands."},
            _human("Now generate QA pairs about the time that it shows."),
        ),
        {"conversation": [_human("Generate two QA pairs about what makes a good photograph.")]},
    ]


def _record(images: list[str], *turns: dict[str, str]) -> dict[str, Any]:
    return {"image": images, "conversation": list(turns)}


def _human(text: str) -> dict[str, str]:
    return {"from": "human", "value": text}
