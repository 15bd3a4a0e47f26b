"""The table of ids: a dict in what it says, a fraction of one in what it weighs."""

from __future__ import annotations

import tracemalloc
from hashlib import blake2b

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqa_async import keytable
from vqa_async.keytable import KeyTable, RecordTable, mark

IDS = st.text(st.characters(codec=None, exclude_categories=()), max_size=3) | st.sampled_from(
    ["a", "b", "\ud800"]
)
CALLS = st.lists(
    st.tuples(st.sampled_from(["set", "setdefault", "get"]), IDS, st.binary(min_size=2, max_size=2))
)


@settings(deadline=None)
@given(CALLS, st.integers(1, 12))
def test_it_says_what_a_dict_would_say(calls: list[tuple[str, str, bytes]], key_bytes: int) -> None:
    """Whatever is stored, replaced and asked for, in any order."""
    table = KeyTable(key_bytes=max(8, key_bytes), value_bytes=2)
    model: dict[str, bytes] = {}
    for what, id, value in calls:
        if what == "set":
            table.set(id, value)
            model[id] = value
        elif what == "setdefault":
            assert table.setdefault(id, value) == model.get(id)
            model.setdefault(id, value)
        else:
            assert table.get(id) == model.get(id)
    assert len(table) == len(model)
    for id in ("a", "b", "never", *model):
        assert table.get(id) == model.get(id)


@pytest.mark.parametrize(("key_bytes", "value_bytes"), [(8, 8), (12, 1)])
def test_many_ids_are_kept_apart(key_bytes: int, value_bytes: int) -> None:
    """So many that each bucket holds several; values that look like keys do not mislead."""
    table = KeyTable(key_bytes=key_bytes, value_bytes=value_bytes)
    value = {n: bytes([n % 251]) * value_bytes for n in range(100_000)}
    for n, bytes_ in value.items():
        assert table.setdefault(f"id-{n}", bytes_) is None
    assert len(table) == len(value)
    assert all(table.get(f"id-{n}") == bytes_ for n, bytes_ in value.items())
    assert all(table.get(f"other-{n}") is None for n in range(1_000))


def test_ids_are_found_after_their_bucket_was_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several times over, with values replaced in between."""
    monkeypatch.setattr(keytable, "_SPLIT_AT", 3)
    table = KeyTable(key_bytes=8, value_bytes=1)
    for n in range(100_000):
        table.set(str(n // 2), bytes([n % 251]))
    assert len(table) == 50_000
    assert all(table.get(str(n)) == bytes([(2 * n + 1) % 251]) for n in range(50_000))
    assert table.setdefault("7", b"x") == bytes([15])
    assert table.get("-1") is None


def test_a_key_that_also_stands_elsewhere_in_its_bucket_is_found_at_its_place() -> None:
    """With keys of one byte, values and neighbours hold the same bytes all the time."""
    table = KeyTable(key_bytes=1, value_bytes=3)
    model = {}
    for n in range(150_000):
        digest = blake2b(str(n).encode(), digest_size=2).digest()
        place = digest[0] % 64, digest[1]
        value = bytes([place[1] ^ 1]) * 3  # the key of another entry of many buckets
        assert table.setdefault(str(n), value) == model.get(place)
        model.setdefault(place, value)
    assert len(table) == len(model)


def test_a_value_of_another_length_is_refused() -> None:
    """It would shift every entry behind it."""
    table = KeyTable(key_bytes=8, value_bytes=2)
    table.set("a", b"12")
    for store in (table.set, table.setdefault):
        with pytest.raises(AssertionError):
            store("a", b"123")
        with pytest.raises(AssertionError):
            store("b", b"")
    assert (len(table), table.get("a")) == (1, b"12")


@pytest.mark.slow
@pytest.mark.parametrize(("key_bytes", "value_bytes"), [(8, 8), (12, 1)])
def test_an_entry_weighs_at_most_24_bytes(key_bytes: int, value_bytes: int) -> None:
    """At 200,000 entries; a set of ids takes over 100 bytes for each."""
    value = bytes(value_bytes)
    tracemalloc.start()
    try:
        table = KeyTable(key_bytes=key_bytes, value_bytes=value_bytes)
        for n in range(200_000):
            table.set(str(n), value)
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(table) <= 24


def test_an_empty_table_weighs_little() -> None:
    """One is made for each single record that is asked about."""
    tracemalloc.start()
    try:
        table = KeyTable(key_bytes=8, value_bytes=8)
        table.set("a", bytes(8))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 5_000


def test_states_and_what_the_input_holds_do_not_disturb_each_other() -> None:
    """In whatever order they come; a content whose mark would be zero counts too."""
    table = RecordTable()
    assert table.setdefault("done", b"s") is None
    assert table.meet("done", b"content of done") == (None, b"s")
    assert table.meet("done", b"other content") == (mark(b"content of done"), b"s")
    assert table.meet("new", bytes(16)) == (None, None)
    assert table.meet("new", bytes(16)) == (mark(bytes(16)), None)
    assert (table.get("new"), len(table)) == (None, 1)
    assert table.setdefault("new", b"f") is None
    table.set("done", b"r")
    table.set("third", b"s")
    assert [table.get(id) for id in ("new", "done", "third", "never")] == [b"f", b"r", b"s", None]
    assert table.meet("new", b"others") == (mark(bytes(16)), b"f")
    assert table.meet("done", b"others")[0] == mark(b"content of done")
    assert table.setdefault("done", b"s") == b"r"
    assert len(table) == 3
