"""Ids: stable under reordering and extension, repeats numbered, clashes refused."""

import random
import time

from hypothesis import given, settings
from hypothesis import strategies as st

from vqa_async.config import Columns
from vqa_async.models import Failure, Record
from vqa_async.sources import RowReader

# What these tests assert holds at any speed; a busy machine is no counterexample.
untimed = settings(deadline=None)


def read_all(rows):
    reader = RowReader(Columns(), prompt="What?")
    return [reader.read(row, index=n, where=f"record {n}") for n, row in enumerate(rows)]


def ids(rows):
    return [result.id for result in read_all(rows)]


ROWS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"image": st.sampled_from(["a", "b", 3, None])}),
        st.fixed_dictionaries({"id": st.sampled_from(["x", "x-2", 7]), "image": st.just("c")}),
        st.sampled_from([1, "text", None]),
    ),
    max_size=12,
)


@untimed
@given(ROWS, st.randoms())
def test_ids_stay_when_the_input_is_reordered(rows, chance):
    """Any order gives the same ids, bad rows included, as long as no two rows claim the same id."""
    named = [row for row in rows if not (isinstance(row, dict) and row.get("id") == "x-2")]
    shuffled = chance.sample(named, len(named))
    assert sorted(ids(named)) == sorted(ids(shuffled))


@untimed
@given(ROWS, ROWS)
def test_ids_stay_when_rows_are_added_at_the_end(rows, more):
    """What was read before keeps its ids."""
    assert ids(rows + more)[: len(rows)] == ids(rows)


@untimed
@given(ROWS)
def test_no_two_results_share_an_id(rows):
    """Every row ends under an id of its own."""
    given_ids = ids(rows)
    assert len(set(given_ids)) == len(given_ids)


def test_an_id_does_not_depend_on_the_order_of_keys_or_other_fields():
    """Only what is asked counts; an image alone and in a list ask the same."""
    turn = {"from": "human", "value": "Why?"}
    first, second = read_all([
        {"image": "a.png", "conversation": [turn], "split": "train"},
        {"conversation": [dict(reversed(turn.items()))], "image": ["a.png"]},
    ])  # fmt: skip
    assert second.id == f"{first.id}-2"


def test_other_questions_about_the_same_image_are_other_records():
    """The conversation is part of who a record is, and so is the prompt that stands in for it."""
    assert len(set(ids([{"image": "a", "conversation": "x"}, {"image": "a", "conversation": "y"}]))) == 2
    other = RowReader(Columns(), prompt="Who?").read({"image": "a"}, index=0, where="")
    assert ids([{"image": "a"}]) != [other.id]


def test_repeats_are_numbered():
    """The first keeps the plain id; own ids that are numbers count as text."""
    rows = [{"id": 5, "image": "a"}] * 3 + [{"id": "5", "image": "a"}]
    assert ids(rows) == ["5", "5-2", "5-3", "5-4"]


def test_an_id_for_two_contents_is_refused():
    """The second row fails under an id of its own, which is the same in the next run."""
    rows = [{"id": "x", "image": "a"}, {"id": "x", "image": "b"}]
    first, second = read_all(rows)
    assert isinstance(first, Record)
    assert isinstance(second, Failure)
    assert second.error.code == "duplicate_id"
    assert "record 1: another row with other content has the id 'x'" in second.error.message
    assert second.id.startswith("x!")
    assert ids(rows) == [first.id, second.id]


def test_an_own_id_that_looks_like_a_numbered_one_is_let_be():
    """Both may exist, in either order; nobody is refused for it."""
    repeats, own = [{"id": "x", "image": "a"}] * 2, {"id": "x-2", "image": "b"}
    assert ids([*repeats, own]) == ["x", "x-2", "x-2-2"]
    assert ids([own, *repeats]) == ["x-2", "x", "x-3"]


def test_an_own_id_with_an_endless_number_is_an_ordinary_id():
    """Digits after a dash are not read beyond what a count can be."""
    rows = [{"id": "x-" + "9" * 5000, "image": image} for image in "ab"]
    assert [type(result) for result in read_all(rows)] == [Record, Failure]


def test_many_repeats_take_linear_time():
    """The next free number is remembered rather than looked for."""
    reader = RowReader(Columns(), prompt="What?")

    def take(count):
        started = time.perf_counter()
        for n in range(count):
            last = reader.read({"image": "a"}, index=n, where="")
        return time.perf_counter() - started, last.id

    first, _ = take(5_000)
    second, last = take(5_000)
    assert last.endswith("-10000")
    assert second < 5 * first + 0.1


def test_broken_rows_have_stable_ids():
    """A resumed run knows them again, wherever they stand."""
    rows = [1, "x", [2], None, 1]
    shuffled = random.Random(1).sample(rows, len(rows))
    assert sorted(ids(rows)) == sorted(ids(shuffled))
    assert all(id.startswith("broken-") for id in ids(rows))
