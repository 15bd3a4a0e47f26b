"""What a line holds, and that no changed line is taken for one that was written."""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journal_results import PERMANENT, RETRYABLE, failure, success

from vqa_async.errors import AuthError, RecordError, StatusError
from vqa_async.journal.codec import (
    MESSAGE_CHARS,
    LineMeta,
    decode_line,
    decode_meta,
    encode_failure,
    encode_success,
    is_written_out,
)
from vqa_async.journal.json_text import from_json, to_json

untimed = settings(deadline=None)

TEXTS = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates and NULs too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.dictionaries(TEXTS | st.sampled_from(["_meta", "vqa", "qa_pairs", "error", "id"]), JSON, max_size=5)


def line_of(row: dict[Any, Any], **how: Any) -> dict[str, Any]:
    """The object in the line of a success, as any reader of JSON sees it."""
    line = encode_success(success(row=row, **how), "vqa")
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    decoded = json.loads(line.decode("utf-8", "strict"))
    assert isinstance(decoded, dict)
    return decoded


def value_of(value: Any) -> Any:
    """What becomes of one value of a row."""
    return line_of({"x": value})["x"]


def test_a_success_line_holds_the_row_the_answer_and_its_meta() -> None:
    """Field by field, in this order."""
    line = line_of({"image": ["a.png"], "more": 1})
    meta = line.pop("_meta")
    assert list(line.items()) == [
        ("image", ["a.png"]),
        ("more", 1),
        ("vqa", "- Q: What?\n  A: This."),
        ("qa_pairs", [{"question": "What?", "answer": "This."}]),
    ]
    assert len(meta.pop("crc")) == 8
    assert meta == {
        "id": "r0",
        "index": 0,
        "model": "qwen",
        "endpoint": "http://localhost:8000/v1",
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
        "attempts": 2,
        "latency_s": 0.1235,
        "finished_at": 1_700_000_000.123,
        "request_digest": "00ff" * 8,
    }


def test_a_failure_line_holds_the_row_the_error_and_its_meta() -> None:
    """There is no answer in it, and no name under which one could be looked for."""
    line = json.loads(encode_failure(failure(4, row={"image": "a.png"})))
    meta = line.pop("_meta")
    assert line == {
        "image": "a.png",
        "error": {
            "type": "ServerError",
            "code": "server_error",
            "message": "The endpoint answered 503.",
            "status": 503,
            "attempts": 3,
            "retryable": True,
            "endpoint": "http://localhost:8000/v1",
        },
    }
    del meta["crc"]
    assert meta == {
        "id": "r4",
        "index": 4,
        "attempts": 3,
        "retryable": True,
        "finished_at": 1_700_000_000.123,
    }


def test_an_error_without_a_request_has_no_status_and_no_endpoint() -> None:
    """What never left this machine was refused by nobody else."""
    error = json.loads(encode_failure(failure(0, PERMANENT)))["error"]
    assert (error["type"], error["code"]) == ("ImageError", "not_an_image")
    assert (error["status"], error["endpoint"], error["retryable"]) == (None, None, False)


def test_a_long_message_is_cut() -> None:
    """A server's page of HTML does not become part of the failures."""
    error = json.loads(encode_failure(failure(0, RecordError("x" * 10_000))))["error"]
    assert error["message"] == "x" * MESSAGE_CHARS


@pytest.mark.parametrize("error", [RETRYABLE, AuthError("No.", status=401)])
def test_the_status_is_a_number(error: StatusError) -> None:
    """Readers can count failures by status."""
    assert json.loads(encode_failure(failure(0, error)))["error"]["status"] == error.status


def test_an_answer_that_was_cut_off_says_so() -> None:
    """Only such an answer has the mark."""
    assert line_of({}, finish_reason="length")["_meta"]["truncated"] is True
    assert "truncated" not in line_of({})["_meta"]


def test_the_answer_goes_into_the_field_that_was_named() -> None:
    """The name of the output field is a setting."""
    line = json.loads(encode_success(success(row={"vqa": "mine"}), "answer"))
    assert (line["vqa"], line["answer"]) == ("mine", "- Q: What?\n  A: This.")


def test_names_that_both_have_stand_once_and_are_ours() -> None:
    """A row that was itself an output keeps all but the old answer."""
    row = {"_meta": {"id": "old"}, "vqa": "old", "qa_pairs": "old", "error": "its own", "image": "a.png"}
    line = encode_success(success(row=row), "vqa")
    names = [name for name, _ in json.loads(line, object_pairs_hook=list)]
    assert names == ["error", "image", "vqa", "qa_pairs", "_meta"]
    decoded = json.loads(line)
    assert (decoded["error"], decoded["_meta"]["id"]) == ("its own", "r0")
    failed = json.loads(encode_failure(failure(row=row)))
    assert (failed["vqa"], failed["qa_pairs"]) == ("old", "old")
    assert failed["error"]["type"] == "ServerError"


@untimed
@given(ROWS, TEXTS, TEXTS)
def test_any_row_comes_back_unchanged(row: dict[str, Any], id: str, text: str) -> None:
    """Strict UTF-8, one line, _meta last; the row as it was but for the names that are ours."""
    line = encode_success(success(7, row, id=id, text=text), "vqa")
    decoded = json.loads(line.decode("utf-8", "strict"))
    ours = ("vqa", "qa_pairs", "_meta")
    assert {k: v for k, v in decoded.items() if k not in ours} == {
        k: v for k, v in row.items() if k not in ours
    }
    assert decoded["vqa"] == text
    assert list(decoded)[-1] == "_meta"
    assert line.count(b"\n") == 1
    assert decode_meta(line[:-1]) == LineMeta(id, 7, None)
    assert decode_line(line) == decoded


@untimed
@given(ROWS, TEXTS)
def test_any_failed_row_comes_back_unchanged(row: dict[str, Any], id: str) -> None:
    """The same for failures."""
    line = encode_failure(failure(7, PERMANENT, row, id=id))
    decoded = json.loads(line.decode("utf-8", "strict"))
    assert {k: v for k, v in decoded.items() if k not in ("error", "_meta")} == {
        k: v for k, v in row.items() if k not in ("error", "_meta")
    }
    assert decode_meta(line[:-1]) == LineMeta(id, 7, False)


@pytest.mark.parametrize(
    "value",
    ["\u2028\u2029\x85\x1c", "\0\x01\x7f", "🖼️ שלום", "\ud800 alone", 2**64, -(10**40), [10**4000], {"": {}}],
    ids=ascii,
)
def test_unusual_values_come_back(value: Any) -> None:
    """Line separators of Unicode, NUL, lone surrogates, long integers."""
    assert value_of(value) == value


@dataclass
class Point:
    x: int


class Odd:
    def __str__(self) -> str:
        raise AssertionError("nobody asked")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (b"\x89PNG" * 1000, "<4000 bytes>"),
        (bytearray(3), "<3 bytes>"),
        (memoryview(b"abcd"), "<4 bytes>"),
        (Path("a/b.png"), "a/b.png"),
        (Path("\udcff.png"), "\udcff.png"),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (Point(3), {"x": 3}),
        (Point(2**70), "<Point>"),
        (MappingProxyType({"a": 1}), {"a": 1}),
        ((1, 2), [1, 2]),
        (math.nan, None),
        ([math.inf, 2**70], [None, 2**70]),
        (
            {1: "one", None: "none", (1, 2): "pair"},
            {"1": "one", "None": "none", "[1, 2]": "pair"},
        ),
        (10**5000, "<integer of 16610 bits>"),
        (Odd(), "<Odd>"),
        ({1, 2}, "<set>"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_does_not_know_becomes_harmless(value: Any, written: Any) -> None:
    """An answer was paid for: it is kept whatever Python objects its row holds."""
    assert value_of(value) == written
    assert value_of([value, 2**70]) == [written, 2**70]  # the patient way says the same


def test_a_field_that_holds_itself_is_given_up_alone() -> None:
    """The other fields of the row are kept."""
    circle: list[Any] = []
    circle += [circle, circle]
    assert line_of({"x": circle, "y": 1}) == line_of({"x": "<nested too deep>", "y": 1}) | {
        "_meta": line_of({"x": circle, "y": 1})["_meta"]
    }


@pytest.mark.parametrize("levels", [250, 300, 2_000, 100_000])
def test_nesting_of_any_depth_is_written(levels: int) -> None:
    """What can be read back is kept as it is, the rest is given up."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    assert value_of(value) == (value if levels == 250 else "<nested too deep>")


@pytest.mark.parametrize("row", [{"image": b"\xff\xd8" * 50}, {"image": [Path("a.png"), b"x"]}])
def test_no_image_is_written_out(row: dict[str, Any]) -> None:
    """Bytes are counted; neither they nor their base64 text reach a file."""
    for line in (encode_success(success(row=row), "vqa"), encode_failure(failure(row=row))):
        assert b"base64" not in line
        assert b"/9j/" not in line
        assert len(line) < 700


LINES = {
    "success": encode_success(success(3), "vqa"),
    "failure": encode_failure(failure(3)),
    "surrogates": encode_success(success(3, id="\udc80.png"), "vqa"),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_every_changed_byte_is_seen(line: bytes) -> None:
    """Each byte of a line, changed in each of its bits and to a NUL: none passes."""
    text = line[:-1]
    assert decode_meta(text) is not None
    for at, byte in enumerate(text):
        for other in {byte ^ (1 << bit) for bit in range(8)} | {0} - {byte}:
            assert decode_meta(b"%b%c%b" % (text[:at], other, text[at + 1 :])) is None


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_every_cut_is_seen(line: bytes) -> None:
    """No beginning and no end of a line passes for a line."""
    text = line[:-1]
    for at in range(len(text)):
        assert decode_meta(text[:at]) is None
        assert at == 0 or decode_meta(text[at:]) is None


@untimed
@given(ROWS, st.data())
def test_every_replaced_part_is_seen(row: dict[str, Any], data: st.DataObject) -> None:
    """Nor does a line of which a part was replaced, whatever stands in it."""
    text = encode_success(success(0, row), "vqa")[:-1]
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    changed = text[:start] + data.draw(st.binary(max_size=20)) + text[end:]
    assert changed == text or decode_meta(changed) is None


def test_a_row_that_looks_like_a_line_does_not_mislead() -> None:
    """The id is read from our own _meta, whatever stands in the row or in the answer."""
    bait = {"a": 1, "_meta": {"id": "bait", "index": 99, "retryable": False, "crc": "00000000"}}
    text = ',"_meta":{"id":"bait","index":99}}'
    for row in (bait, {"x": bait}, {"x": [bait, text]}):
        line = encode_success(success(3, row, text=text), "vqa")
        assert decode_meta(line[:-1]) == LineMeta("r3", 3, None)


def sealed(body: bytes) -> bytes:
    """``body`` with a checksum that fits: what only somebody who knows the form can write."""
    return body + b',"crc":"%08x"}}' % zlib.crc32(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b'{"a":1',
        b'{"a":1,"_meta":{"id":',
        b'{"a":1,"_meta":{"id":5,"index":0',
        b'{"a":1,"_meta":{"id":"x"',
        b'{"a":1,"_meta":{"id":"x","index":"0"',
        b'{"a":1,"_meta":{"id":"x","index":0}',
        b'{"a":1,"_meta":{"id":"\xff","index":0',
        b'{"a":1,"_meta":{"id":"x","index":' + b"[" * 100_000,
    ],
)
def test_a_right_checksum_over_nonsense_is_no_line(body: bytes) -> None:
    """Nothing is raised, nothing passes."""
    assert decode_meta(sealed(body)) is None


def test_what_was_written_out_is_told_from_what_was_torn() -> None:
    """A whole object, or the end of one of our lines, is no torn write."""
    line = LINES["success"]
    assert is_written_out(b'{"a": 1}\n')
    assert is_written_out(line.replace(b"{", b"x", 1))
    assert not is_written_out(b"[1]\n")
    assert not is_written_out(b"[" * 5_000)
    assert not any(is_written_out(line[:at]) for at in range(len(line) - 1))


@untimed
@given(JSON)
def test_json_text_comes_back(value: Any) -> None:
    """Any JSON value, in one line or indented, by our reader or another."""
    for text in (to_json(value), to_json(value, indent=True)):
        assert from_json(text) == json.loads(text) == value


@settings(deadline=None, max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_indented_text_has_the_same_form_both_ways(value: Any) -> None:
    """Whether the fast or the patient encoder wrote it cannot be seen."""
    assert to_json(value, indent=True).decode() == json.dumps(value, indent=2, ensure_ascii=False)


@pytest.mark.parametrize("text", [b"", b"{", b"nope", b'"\xff"', b"1" * 5_000, b"[" * 100_000])
def test_what_is_no_json_is_a_value_error(text: bytes) -> None:
    """The one exception that readers of JSON must expect."""
    with pytest.raises(ValueError, match=r"."):
        from_json(text)


def test_long_integers_are_not_rounded_when_they_are_read() -> None:
    """The fast reader would make a float of them."""
    assert isinstance(orjson.loads(b"[123456789012345678901234567890]")[0], float)
    assert from_json(b"[123456789012345678901234567890]") == [123456789012345678901234567890]
