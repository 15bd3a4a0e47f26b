"""Bytes in, values out: lines of results, lines of records, names of requests."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from vqa_async.batches.provider import _state
from vqa_async.batches.records import custom_id, decode, encode, names
from vqa_async.batches.results import read_line, unanswered
from vqa_async.errors import BatchError
from vqa_async.models import Asked, Group, Record
from vqa_async.transport import Response


def record(id: str, **changes: Any) -> Record:
    return Record(**{"id": id, "index": 3, "row": {"a": 1}, "messages": (), **changes})


@pytest.mark.parametrize("id", ["a", "x" * 64, "rec-1_2.3:4", "0"])
def test_a_plain_id_is_the_name_of_its_request(id: str) -> None:
    """So that people find it in the provider's files."""
    assert custom_id(record(id)) == id


@pytest.mark.parametrize("id", ["", "x" * 65, "ä", "a b", "a\n", "vqa-0", "\ud800"])
def test_an_odd_id_gets_a_name_that_every_provider_takes(id: str) -> None:
    """Always the same, and that of no other."""
    name = custom_id(record(id))
    assert name == custom_id(record(id)) != custom_id(record(f"{id}2"))
    assert len(name) == 36
    assert name.isascii()


@pytest.mark.parametrize(
    "asked",
    [
        None,
        Asked(style="count"),
        Asked(params={"seed": 1, "max_tokens": None}, question="Why?", group=Group("g", 1, 2)),
    ],
)
def test_a_record_comes_back_without_what_was_sent(asked: Asked | None) -> None:
    """Row, place, own parameters and the digest of its request."""
    row = {"image": ["a.png"], "n": 10**30, "odd": "\ud800", "deep": {"x": [1, None]}}
    line = encode("name", record("\ud800", row=row, asked=asked), "d1")
    assert names(line) == ("name", "\ud800")
    waiting = decode(line)
    assert waiting == (record("\ud800", row=row, asked=asked), "d1")


@pytest.mark.parametrize(
    "line", [b"", b"no", b"[1]", b'"x"', b"{}", b'{"custom_id": 3}', b'{"response": {"status_code": 200}}']
)
def test_a_line_that_is_for_nobody_is_none(line: bytes) -> None:
    """There is no telling whose it is."""
    assert read_line(line) is None


def test_half_a_character_in_a_reply_does_not_cost_it() -> None:
    """A live reply with one is read too."""
    line = read_line(b'{"custom_id":"a","response":{"status_code":200,"body":"\\ud83d"}}')
    assert line == ("a", Response(200, {}, b'"\\ud83d"'))


def test_a_reply_in_a_line_is_a_reply() -> None:
    """Of any status."""
    line = read_line(b'{"custom_id":"a","response":{"status_code":429,"body":{"x":1}},"error":null}')
    assert line == ("a", Response(429, {}, b'{"x":1}'))


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ({"error": {"code": "batch_expired", "message": "too late"}}, "batch_expired", "too late"),
        ({"error": {"code": "request_timeout", "message": None}}, "batch_missing", "neither"),
        ({"response": {"status_code": "200"}}, "batch_missing", "neither"),
        ({"error": "x", "response": None}, "batch_missing", "neither"),
    ],
)
def test_a_line_without_a_reply_is_an_error_that_may_pass(
    value: dict[str, Any], code: str, said: str
) -> None:
    """Whatever stands in it."""
    line = read_line(orjson.dumps({"custom_id": "a", **value}))
    assert line is not None
    assert isinstance(line.outcome, BatchError)
    assert (line.outcome.code, line.outcome.retryable) == (code, True)
    assert said in line.outcome.message


def test_a_record_without_a_line_is_told_why() -> None:
    """As far as the batch tells."""
    assert unanswered("completed").code == "batch_missing"
    failed = unanswered("failed", "token_limit_exceeded: Enqueued too much")
    assert failed.code == "batch_failed"
    assert "Enqueued too much." in failed.message


def test_a_batch_is_read_however_little_it_says() -> None:
    """Other providers leave fields out."""
    bare = _state({}, "b")
    assert (bare.id, bare.status, bare.total, bare.files, bare.is_over) == ("b", "", 0, (), False)
    failed = _state(
        {
            "status": "failed",
            "created_at": 5,
            "failed_at": 9,
            "output_file_id": None,
            "error_file_id": "f",
            "request_counts": {"total": 3},
            "errors": {"data": [{"message": "bad", "line": 4}]},
        },
        "b",
    )
    assert (failed.files, failed.ended_at, failed.total, failed.is_over) == (("f",), 9.0, 3, True)
    assert failed.trouble == "error: bad (line 4)"
    assert _state({"errors": {"data": ["odd"]}}, "b").trouble == ""
