"""One data set with everything that makes exports hard."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from outputs import ASK, PAIRS, answered, failed, keep, picture


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """An output of one image, several images, a URL, no image, an answer without pairs, and a failure."""
    folder = tmp_path / "in"
    picture(folder / "pics" / "red.png")
    picture(folder / "blue one.jpg", (0, 0, 255), "JPEG")
    rows = [
        {"id": "one", "image": ["pics/red.png"], "conversation": ASK, "tags": ["a", {"b": None}], "n": 2**53},
        {"id": "several", "image": ["blue one.jpg", "pics/red.png"], "conversation": ASK, "note": "größer"},
        {"id": "url", "image": "https://example.com/a.png", "conversation": ASK},
        {"id": "text", "conversation": ASK},
        {
            "id": "prose",
            "image": ["pics/red.png"],
            "conversation": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "Look: <image> What now?"},
                {"from": "gpt", "value": "A square."},
                {"from": "human", "value": "Describe it."},
            ],
        },
    ]
    results = [
        answered(n, row, PAIRS.get(str(row["id"]), ()), None if row["id"] in PAIRS else "It is <image> red.")
        for n, row in enumerate(rows)
    ]
    results.append(failed(5, {"id": "gone", "image": ["gone.png"], "conversation": ASK}))  # type: ignore[arg-type]
    random.Random(5).shuffle(results)
    return keep(tmp_path / "out.jsonl", results, source=str(folder / "in.jsonl"))
