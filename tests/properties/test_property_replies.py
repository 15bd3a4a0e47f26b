"""Replies that are nearly right: an answer or an error of ours, with nothing in it that could not be shown.

Any bytes, and JSON made up from the names of fields, are read in tests/client/test_replies.py.
"""

from __future__ import annotations

import random
from typing import Any

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st
from reply_door import SEEDS, TOKENS, check, check_error, mutate
from spoilt_texts import spoilt

from vqa_async.chat import error_in_ok_reply, read_error

untimed = settings(max_examples=200, deadline=None)

LEVELS = st.integers(1, 1023)
PLACES = (
    b'{"error":%b}',
    b'{"error":{"message":%b,"code":%b}}',
    b'{"detail":%b,"type":%b}',
    b'{"choices":[{"message":{"refusal":%b}}]}',
    b'{"choices":[{"message":{"content":%b}}]}',
    b'{"choices":[{"error":%b,"finish_reason":%b}]}',
    b'{"choices":[{"message":{"content":"x","tool_calls":%b},"finish_reason":%b}],"model":%b,"usage":%b}',
)


@untimed
@given(spoilt(SEEDS, TOKENS))
def test_a_realistic_reply_with_changed_bytes_is_read(data: bytes) -> None:
    """Under any status."""
    check(data)


@untimed
@given(st.sampled_from(SEEDS), st.integers(0, 2**64), st.integers(1, 4))
def test_a_realistic_reply_with_changed_values_is_read(data: bytes, seed: int, times: int) -> None:
    """It stays JSON: fields are renamed, repeated, nested, replaced by values of another type."""
    rng = random.Random(seed)
    for _ in range(times):
        data = mutate(data, rng) or data
        check(data)


@untimed
@given(st.sampled_from(PLACES), LEVELS, st.sampled_from([b"[%b]", b'{"a":%b}']), st.binary(max_size=1))
@example(PLACES[0], 255, b"[%b]", b"\7")
@example(PLACES[3], 1000, b"[%b]", b"\0")
def test_nesting_where_a_text_should_be_is_read(place: bytes, levels: int, level: bytes, way: bytes) -> None:
    """The parser takes 1,024 levels, which is more than others write or show."""
    opening, closing = level.split(b"%b")
    deep = opening * levels + b"1" + closing * levels
    check((way or b"\0") + place.replace(b"%b", deep))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@untimed
@given(st.dictionaries(st.sampled_from(["error", "message", "detail", "code", "type", "choices"]), JSON))
def test_an_error_that_came_with_200_is_one_of_ours(reply: dict[str, Any]) -> None:
    """Whatever its fields hold."""
    check_error(error_in_ok_reply(reply))


@untimed
@given(st.text(min_size=1), st.sampled_from([400, 401, 404, 429, 500]))
def test_what_a_server_says_is_shown_or_cut_and_never_changed_into_something_else(
    text: str, status: int
) -> None:
    """Printable words of an error message come through in their order, up to the bound."""
    try:
        body = orjson.dumps({"error": {"message": text}})
    except orjson.JSONEncodeError:  # lone surrogates: no server can send them
        return
    error = read_error(status, body, retry_after_s=None)
    shown = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    if shown.rstrip(". "):
        assert shown[:300].rstrip(". ")[:200] in error.message
    check_error(error)
