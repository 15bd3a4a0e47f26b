"""Rows that Python code has at hand: lists, generators, asynchronous ones, and ready records."""

import asyncio

import pytest

from vqa_async.models import Failure, Message, Record
from vqa_async.sources import rows_source

ROW = {"image": "a.png", "conversation": "Why?"}


async def read(rows, **options):
    async with rows_source(rows, **options) as source:
        return [result async for result in source]


async def test_rows_of_any_iterable_become_records():
    """Lists, generators and asynchronous generators give the same."""

    async def later():
        for row in (ROW, ROW, 3):
            yield row

    expected = await read([ROW, ROW, 3])
    assert [type(result) for result in expected] == [Record, Record, Failure]
    assert expected[2].error.message.startswith("record 2: ")
    for rows in (iter([ROW, ROW, 3]), later()):
        assert [result.id for result in await read(rows)] == [result.id for result in expected]


async def test_records_pass_through_untouched():
    """Whoever makes records answers for their ids."""
    record = Record("mine", 7, {}, (Message("user", ("Why?",)),))
    assert (await read([record, ROW]))[0] is record


async def test_a_plain_iterable_lets_others_run():
    """Even when nobody downstream ever waits, an endless generator does not hold the loop."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async with rows_source({"image": str(n), "conversation": "?"} for n in iter(int, 1)) as source:
        results = aiter(source)
        for _ in range(2000):
            await anext(results)
    task.cancel()
    assert turns >= 5


async def test_an_error_of_the_iterable_goes_to_the_caller():
    """What came before it was given; the error is the caller's own."""

    def failing():
        yield ROW
        raise LookupError("mine")

    results = aiter(rows_source(failing()))
    assert isinstance(await anext(results), Record)
    with pytest.raises(LookupError, match="mine"):
        await anext(results)


async def test_leaving_early_ends_an_asynchronous_generator():
    """Its clean-up runs before the block is left, not when the collector comes by."""
    ended = []

    async def rows():
        try:
            while True:
                yield ROW
        finally:
            ended.append(True)

    async with rows_source(rows()) as source:
        await anext(aiter(source))
    assert ended == [True]


async def test_no_rows_are_no_error():
    """An empty list is a list; only a file that holds nothing is a mistake."""
    assert await read([]) == []


async def test_folder_and_prompt_reach_the_records():
    """As they do for files."""
    (record,) = await read([{"image": "a.png"}], prompt="What?", folder="pictures")
    assert (record.folder, record.messages[0].parts[1]) == ("pictures", "What?")
