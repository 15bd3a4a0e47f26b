"""The queue between producer and workers: in order, bounded, and woken in bulk."""

from __future__ import annotations

import asyncio

import pytest

from vqa_async.engine.handover import Handover


async def take_all(queue: Handover[int]) -> list[int]:
    """What comes until the end."""
    taken = []
    while (item := await queue.get()) is not None:
        taken.append(item)
        await asyncio.sleep(0)
    return taken


async def settle() -> None:
    """Let all tasks run until they wait."""
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.mark.parametrize("capacity", [1, 2, 7])
@pytest.mark.parametrize("workers", [1, 3, 20])
async def test_every_item_is_taken_once_and_in_order(capacity: int, workers: int) -> None:
    """Whoever takes it."""
    queue = Handover[int](capacity)
    tasks = [asyncio.create_task(take_all(queue)) for _ in range(workers)]
    for number in range(1, 101):
        await queue.put(number)
    queue.end()
    taken = [await task for task in tasks]
    assert sorted(item for items in taken for item in items) == list(range(1, 101))
    assert all(items == sorted(items) for items in taken)


async def test_the_producer_waits_until_half_of_the_room_is_free() -> None:
    """And then fills it without being woken again."""
    queue = Handover[int](4)
    put: list[int] = []

    async def produce() -> None:
        for number in range(1, 8):
            await queue.put(number)
            put.append(number)

    producer = asyncio.create_task(produce())
    await settle()
    assert put == [1, 2, 3, 4]
    assert await queue.get() == 1
    await settle()
    assert put == [1, 2, 3, 4]
    assert await queue.get() == 2
    await settle()
    assert put == [1, 2, 3, 4, 5, 6]
    producer.cancel()
    await asyncio.wait({producer})


async def test_a_worker_that_is_cancelled_takes_no_item_with_it() -> None:
    """Not even if it was woken for one in the same moment: the next worker gets it."""
    queue = Handover[int](4)
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await settle()
    await queue.put(1)
    first.cancel()
    assert await second == 1
    assert first.cancelled() or first.cancelling()


async def test_the_end_wakes_everyone_and_stays() -> None:
    """Also those who come later; what is left is taken first."""
    queue = Handover[int](4)
    waiting = [asyncio.create_task(queue.get()) for _ in range(3)]
    await settle()
    queue.end()
    assert await asyncio.gather(*waiting) == [None, None, None]
    other = Handover[int](4)
    await other.put(5)
    other.end()
    assert [await other.get(), await other.get(), await other.get()] == [5, None, None]


async def test_what_items_weigh_bounds_them_too():
    """Records that hold their images: a few large ones fill the queue as many small ones do."""
    queue = Handover(100, most_bytes=1000)
    for number in range(2):
        await queue.put(f"large {number}", weight=600)
    third = asyncio.create_task(queue.put("third", weight=1))
    await asyncio.sleep(0)
    assert not third.done()
    assert await queue.get() == "large 0"
    await asyncio.sleep(0)
    assert not third.done(), "half of the room must be free"
    assert await queue.get() == "large 1"
    await third
    await queue.put("light")
    assert [await queue.get() for _ in range(2)] == ["third", "light"]
