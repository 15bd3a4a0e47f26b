"""Files of OpenAI's Batch API."""

from __future__ import annotations

import json
from pathlib import Path

from reading import read

from vqa_async.models import Failure
from vqa_async.sources.batch_requests import is_batch_request

ASK = {"messages": [{"role": "user", "content": "Why?"}]}


async def test_a_file_of_requests_is_told_by_any_of_its_first_lines(tmp_path: Path) -> None:
    """Whatever it is called; a line that is none, or is no row, costs nothing but itself."""
    lines = [
        "{",
        json.dumps(
            {"custom_id": "a", "method": "POST", "url": "/v1", "body": ASK | {"model": "m", "stream": True}}
        ),
        json.dumps({"custom_id": 7, "body": ASK | {"temperature": 0.5, "seed": 1}, "topic": "x"}),
        json.dumps({"conversation": "Why?"}),
        json.dumps({"custom_id": "b", "body": {"input": "an embedding"}}),
        json.dumps({"custom_id": None, "body": ASK}),
    ]
    for name in ("requests.jsonl", "requests"):
        (tmp_path / name).write_text("\n".join(lines))
        broken, first, second, third, none, nameless = await read(tmp_path / name)
        assert broken.error.code == "not_json"
        assert first.row == {"id": "a", "conversation": ASK["messages"]}
        assert second.row == {
            "id": 7,
            "conversation": ASK["messages"],
            "_params": {"temperature": 0.5, "seed": 1},
            "topic": "x",
        }
        assert (second.id, third.row) == ("7", {"conversation": "Why?"})
        assert isinstance(none, Failure)
        assert len(nameless.id) == 32
    asked = await read(tmp_path / "requests", format="batch")
    assert asked[1].id == "a"


def test_what_is_no_request() -> None:
    """Rows may have fields of the same names."""
    assert not is_batch_request(b"{")
    assert not is_batch_request(b"[1]")
    assert not is_batch_request(b'{"custom_id": 1, "body": "x"}')
    assert is_batch_request(b'{"custom_id": 1, "body": {"messages": []}}')
