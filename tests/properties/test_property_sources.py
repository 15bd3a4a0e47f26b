"""Any file as an input, through the same door as a run: records and failures with ids, or one InputError.

The splitters and the row reader are held to more than this in tests/sources.
"""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_door import AS_A_RUN, SEEDS, TOKENS, WAYS, check, check_results, mutate, read_chunks, read_file
from spoilt_texts import spoilt

from vqa_async.errors import InputError
from vqa_async.models import Failure
from vqa_async.sources import open_source

CONTENTS = [seed[2:] for seed in SEEDS]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]  # a busy machine is no counterexample


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(WAYS) - 1), st.binary() | spoilt(CONTENTS, TOKENS))
def test_any_bytes_in_a_file_are_read_or_refused(way: int, content: bytes) -> None:
    """In every format, by name and as asked for."""
    check(bytes([way, AS_A_RUN]) + content)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 2**64), st.integers(1, 4))
def test_rows_with_changed_values_are_read(data: bytes, seed: int, times: int) -> None:
    """They stay JSON: fields are renamed, repeated, nested, replaced by values of another type."""
    rng = random.Random(seed)
    for _ in range(times):
        data = mutate(data, rng) or data
        check(data)


@settings(max_examples=150, deadline=None)
@given(spoilt(CONTENTS, TOKENS), st.sampled_from(WAYS), st.integers(1, 30))
def test_where_chunks_end_makes_no_difference(content: bytes, way: tuple, size: int) -> None:  # type: ignore[type-arg]
    """The same records, ids and refusals, however the bytes arrive."""
    name, asked = way
    whole, refused = read_chunks(content, name, asked, 0)
    cut, refused_too = read_chunks(content, name, asked, size)
    assert [(r.id, type(r)) for r in cut] == [(r.id, type(r)) for r in whole]
    assert str(refused_too) == str(refused)


@settings(max_examples=60, deadline=None)
@given(spoilt(CONTENTS, TOKENS), st.sampled_from(WAYS))
def test_a_file_gives_the_same_each_time_it_is_read(content: bytes, way: tuple) -> None:  # type: ignore[type-arg]
    """The same ids on the next run, or nothing could be resumed."""
    name, asked = way
    with tempfile.TemporaryDirectory(prefix="vqa-source-") as folder:
        path = os.path.join(folder, name)
        Path(path).write_bytes(content)
        first, refused = asyncio.run(read_file(path, asked))
        second, refused_too = asyncio.run(read_file(path, asked))
    check_results(first, refused, name)
    assert [(r.id, type(r)) for r in first] == [(r.id, type(r)) for r in second]
    assert str(refused) == str(refused_too)


NAMES = st.binary(min_size=1, max_size=40).filter(
    lambda name: not {0, ord("/")} & {*name} and name[:1] != b"."
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(NAMES, st.sampled_from([b"", b".png", b".jpg"]), st.binary(max_size=20)), max_size=4)
)
def test_files_of_any_name_and_content_in_a_folder_are_read_or_passed_over(files: list) -> None:  # type: ignore[type-arg]
    """What is called an image has a record or a failure of its own, whatever bytes its name is made of."""
    with tempfile.TemporaryDirectory(prefix="vqa-source-") as folder:
        for name, suffix, content in files:
            Path(folder, os.fsdecode(name + suffix)).write_bytes(content)
        try:
            results = asyncio.run(_all_of(folder))
        except InputError as error:
            assert folder in error.message  # noqa: PT017 - names without a suffix may be of no image
            assert not any(suffix for _, suffix, _ in files)
            return
    ids = [result.id for result in results]
    assert len(set(ids)) == len(ids) >= len({name + suffix for name, suffix, _ in files if suffix})
    for result in results:
        result.id.encode()
        if isinstance(result, Failure):
            assert result.error.message.startswith("file ")


async def _all_of(folder: str) -> list:  # type: ignore[type-arg]
    async with open_source(folder) as source:
        return [result async for result in source]


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=300))
def test_any_text_as_the_name_of_an_input_that_is_not_there_is_refused(name: str) -> None:
    """A name that no file has, or can have, is a sentence and no traceback."""
    with tempfile.TemporaryDirectory(prefix="vqa-source-") as folder:
        path = os.path.join(folder, name.lstrip("/."))
        with pytest.raises(InputError) as caught:
            asyncio.run(_all_of(path))
        assert name.lstrip("/.") in caught.value.message
