"""Images of records: shared, cached, bounded in bytes, safe to cancel."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from io import BytesIO
from pathlib import Path
from typing import Literal

import orjson
import pybase64
import pytest
from PIL import Image
from xxhash import xxh3_128_hexdigest

from vqa_async.config import ImageOptions
from vqa_async.errors import ConfigError, ImageError
from vqa_async.images import ImageLoader
from vqa_async.images.budget import ByteBudget
from vqa_async.images.cache import ImageCache
from vqa_async.models import ImageRef, PreparedImage


def png(shade: int = 0, side: int = 8) -> bytes:
    """A small PNG file, another for each shade."""
    out = BytesIO()
    Image.new("L", (side, side), shade).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> str:
    """A folder with the images 0.png to 63.png."""
    for shade in range(64):
        (tmp_path / f"{shade}.png").write_bytes(png(shade))
    return str(tmp_path)


@pytest.fixture
async def loader() -> AsyncIterator[ImageLoader]:
    """A loader with default options."""
    async with ImageLoader(ImageOptions()) as made:
        yield made


async def prepare(loader: ImageLoader, *refs: ImageRef, folder: str = "") -> tuple[PreparedImage, ...]:
    """The images of one record, given back at once."""
    async with loader.prepare(refs, folder) as images:
        return images


def path(name: object) -> ImageRef:
    """A reference to a file of the folder."""
    return ImageRef("path", f"{name}.png")


async def until_waiting(budget: ByteBudget, count: int) -> None:
    """Let others run until so many stand in line."""
    while budget.waiting != count:
        await asyncio.sleep(0)


async def test_images_come_in_the_order_of_the_record(loader: ImageLoader, folder: str) -> None:
    """Whatever order the threads end in."""
    images = await prepare(loader, *(path(i) for i in range(64)), folder=folder)
    assert [image.digest for image in images] == [xxh3_128_hexdigest(png(i)) for i in range(64)]


async def test_record_without_images_costs_nothing(loader: ImageLoader) -> None:
    """No thread, no wait, and the same block every time."""
    assert await prepare(loader) == ()
    assert loader.prepare([], "") is loader.prepare((), "elsewhere")


async def test_sixty_four_images_asked_a_thousand_times_are_encoded_once_each(
    loader: ImageLoader, folder: str
) -> None:
    """Together and one after the other."""
    for _ in range(4):
        await asyncio.gather(*(prepare(loader, path(i % 64), folder=folder) for i in range(250)))
    done = loader.statistics()
    assert (done.encodes, done.cache_hits) == (64, 936)
    assert (done.bytes_in_use, done.waiting) == (0, 0)


@pytest.mark.parametrize(
    "ref",
    [
        ImageRef("bytes", png()),
        ImageRef("data", "data:image/png;base64," + pybase64.b64encode(png()).decode()),
    ],
)
async def test_data_is_cached_by_its_content(loader: ImageLoader, ref: ImageRef) -> None:
    """The same bytes are the same image, in whatever record they stand."""
    first, second = await prepare(loader, ref, ref)
    (third,) = await prepare(loader, ImageRef(ref.kind, type(ref.value)(ref.value)))
    assert first is second is third
    assert loader.statistics().encodes == 1


async def test_changed_file_is_encoded_again(loader: ImageLoader, folder: str) -> None:
    """A path is not an identity."""
    (before,) = await prepare(loader, path(1), folder=folder)
    Path(folder, "1.png").write_bytes(png(200, side=9))
    (after,) = await prepare(loader, path(1), folder=folder)
    assert (before.width, after.width) == (8, 9)


async def test_cache_of_no_bytes_keeps_nothing(folder: str) -> None:
    """Later records encode again; those at the same time still share."""
    async with ImageLoader(ImageOptions(image_cache_bytes=0, validate="full")) as loader:
        await prepare(loader, path(1), path(1), folder=folder)
        await prepare(loader, path(1), folder=folder)
        assert loader.statistics().encodes == 2
        assert loader.statistics().cached_bytes == 0


def image_of(size: int) -> PreparedImage:
    """An image that only has a size."""
    return PreparedImage((bytes(size),), size, "", 1, 1)


def test_cache_drops_what_was_not_used_longest() -> None:
    """Bytes count, and a use renews."""
    cache = ImageCache(100)
    cache.keep("a", image_of(40))
    cache.keep("b", image_of(40))
    assert cache.get("a")
    cache.keep("c", image_of(30))
    assert [key for key in "abc" if cache.get(key)] == ["a", "c"]
    assert cache.bytes == 70
    cache.keep("a", image_of(40))
    assert cache.bytes == 70
    assert repr(cache) == "ImageCache(2 images, 70 of 100 bytes)"


def test_image_larger_than_the_cache_pushes_nothing_out() -> None:
    """It is not kept."""
    cache = ImageCache(100)
    cache.keep("a", image_of(40))
    cache.keep("b", image_of(101))
    assert cache.get("a")
    assert cache.get("b") is None


async def test_bytes_are_held_until_the_block_is_left(loader: ImageLoader, folder: str) -> None:
    """What is held is what the images really have."""
    async with loader.prepare([path(1), path(2)], folder) as images:
        assert loader.statistics().bytes_in_use == sum(image.size for image in images)
    assert loader.statistics().bytes_in_use == 0


async def test_record_larger_than_the_budget_gets_all_of_it(folder: str) -> None:
    """It goes alone rather than never."""
    async with ImageLoader(ImageOptions(encoded_bytes=10)) as loader:
        done = await asyncio.gather(*(prepare(loader, path(i), path(i + 1), folder=folder) for i in range(9)))
        assert [len(images) for images in done] == [2] * 9
        assert loader.statistics().bytes_in_use == 0


async def test_second_record_waits_for_the_bytes_of_the_first(folder: str) -> None:
    """And goes on as soon as they are free."""
    async with ImageLoader(ImageOptions(encoded_bytes=10)) as loader, AsyncExitStack() as first:
        await first.enter_async_context(loader.prepare([path(1)], folder))
        second = asyncio.create_task(prepare(loader, path(2), folder=folder))
        await asyncio.sleep(0)
        assert loader.statistics().waiting == 1
        await first.aclose()
        assert len(await second) == 1


async def test_budget_is_first_come_first_served() -> None:
    """Small requests do not overtake a large one."""
    budget, order = ByteBudget(10), []

    async def take(name: str, amount: int) -> None:
        order.append((name, await budget.take(amount)))

    await take("a", 4)
    others = [asyncio.create_task(take(*each)) for each in (("b", 8), ("c", 1), ("d", 99))]
    await until_waiting(budget, 3)
    budget.give_back(4)
    await asyncio.gather(*others[:2])
    assert order == [("a", 4), ("b", 8), ("c", 1)]
    assert repr(budget) == "ByteBudget(9 of 10 bytes, 1 waiting)"
    budget.give_back(9)
    await others[2]
    assert order[-1] == ("d", 10)


async def test_cancelled_at_the_head_of_the_line_lets_the_next_one_go() -> None:
    """Whoever leaves does not block those behind."""
    budget = ByteBudget(10)
    await budget.take(4)
    head = asyncio.create_task(budget.take(8))
    behind = asyncio.create_task(budget.take(6))
    await until_waiting(budget, 2)
    head.cancel()
    assert await behind == 6
    assert budget.in_use == 10


async def test_bytes_granted_in_the_moment_of_cancelling_are_not_lost() -> None:
    """The grant and the cancellation may cross."""
    budget = ByteBudget(10)
    await budget.take(10)
    first, second = (asyncio.create_task(budget.take(10)) for _ in range(2))
    await until_waiting(budget, 2)
    budget.give_back(10)
    first.cancel()
    assert await second == 10
    budget.give_back(10)
    assert budget.in_use == 0


async def test_estimate_that_was_too_small_is_corrected() -> None:
    """What exists is counted, even beyond the total."""
    budget = ByteBudget(10)
    assert budget.change(await budget.take(2), 15) == 15
    assert budget.in_use == 15
    waiting = asyncio.create_task(budget.take(1))
    await until_waiting(budget, 1)
    budget.give_back(15)
    assert await waiting == 1


async def test_cancelled_record_gives_its_bytes_back_and_leaves_no_task(folder: str) -> None:
    """At whatever moment it is cancelled."""
    async with ImageLoader(ImageOptions()) as loader:
        for steps in range(6):
            task = asyncio.create_task(prepare(loader, path(steps), path(steps + 7), folder=folder))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert loader.statistics().bytes_in_use == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_cancelled_record_does_not_take_the_image_from_the_others(folder: str) -> None:
    """One piece of work, several waiters, one of whom leaves."""
    async with ImageLoader(ImageOptions(validate="full")) as loader:  # full: in a thread, so there is waiting
        tasks = [asyncio.create_task(prepare(loader, path(1), folder=folder)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert results[1] == results[2]
        assert loader.statistics().encodes == 1


@pytest.mark.parametrize(("validate", "tries"), [("full", 1), ("header", 0)])
async def test_error_reaches_all_who_wait_and_is_not_kept(
    validate: Literal["full", "header"], tries: int, folder: str
) -> None:
    """A file that is mended works in the same run; in a thread, one try serves all who wait."""
    Path(folder, "bad.png").write_bytes(png()[:-5])
    async with ImageLoader(ImageOptions(validate=validate)) as loader:
        tried = await asyncio.gather(
            *(prepare(loader, path("bad"), folder=folder) for _ in range(3)), return_exceptions=True
        )
        assert [getattr(error, "code", None) for error in tried] == ["truncated_image"] * 3
        assert "'bad.png'" in str(tried[0])
        assert loader.statistics().encodes == tries
        Path(folder, "bad.png").write_bytes(png())
        assert len(await prepare(loader, path("bad"), folder=folder)) == 1


async def test_small_files_in_memory_need_no_thread(folder: str) -> None:
    """What the system holds and what goes out as it is is prepared on the spot: no thread is started."""
    before = threading.active_count()
    async with ImageLoader(ImageOptions()) as loader:
        Path(folder, "1.png").read_bytes()  # now the system holds it
        (image,) = await prepare(loader, path(1), folder=folder)
        assert image.size
        if not hasattr(os, "RWF_NOWAIT"):
            pytest.skip("this system cannot tell whether it holds a file")
        assert threading.active_count() == before


async def test_a_file_that_must_be_decoded_goes_to_a_thread(folder: str) -> None:
    """Small or not: a BMP is converted in a thread, and so is what must shrink."""
    Image.new("RGB", (300, 200), "red").save(Path(folder, "small.bmp"))
    Image.new("RGB", (300, 200), "red").save(Path(folder, "wide.png"))
    async with ImageLoader(ImageOptions(max_side=100)) as loader:
        await prepare(loader, ImageRef("path", "small.bmp"), folder=folder)
        (image,) = await prepare(loader, path("wide"), folder=folder)
        assert (image.width, image.height) == (100, 66)
        assert any("vqa-images" in thread.name for thread in threading.enumerate())


async def test_one_bad_image_fails_its_record_and_frees_its_bytes(loader: ImageLoader, folder: str) -> None:
    """A record is asked about with all of its images or not at all."""
    Path(folder, "bad.png").write_bytes(b"no image")
    with pytest.raises(ImageError):
        await prepare(loader, path(1), path("bad"), path(2), folder=folder)
    with pytest.raises(ImageError):
        await prepare(loader, path(1), path("missing"), folder=folder)
    assert loader.statistics().bytes_in_use == 0
    gc.collect()  # an error that nobody collected would be reported here, and warnings are errors


async def test_address_is_passed_on_ready_for_json(loader: ImageLoader) -> None:
    """No packet is sent and nothing is encoded; quotes and other scripts stay what they are."""
    url = 'https://host/a"b\\c/ä.png?x=1'
    (image,) = await prepare(loader, ImageRef("url", url))
    assert orjson.loads(b'"' + b"".join(image.pieces) + b'"') == url
    assert (image.width, image.height, image.digest) == (0, 0, xxh3_128_hexdigest(url.encode()))
    assert loader.statistics().encodes == 0


class Web:
    """A web of one image, which counts its visitors and can be made to wait."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.visits: list[str] = []
        self.open = asyncio.Event()

    async def fetch(self, url: str) -> bytes:
        """What ImageLoader is given."""
        self.visits.append(url)
        await self.open.wait()
        return self.data


async def test_fetched_image_is_sent_inline_and_fetched_once() -> None:
    """Records that ask at the same time share the download, later ones the cache."""
    web = Web(png())
    web.open.set()
    ref = ImageRef("url", "https://host/a.png")
    async with ImageLoader(ImageOptions(fetch_images=True), fetch=web.fetch) as loader:
        await asyncio.gather(*(prepare(loader, ref) for _ in range(5)))
        (image,) = await prepare(loader, ref)
    assert image.pieces == (b"data:image/png;base64,", pybase64.b64encode(png()))
    assert web.visits == ["https://host/a.png"]


async def test_fetched_file_over_the_limit_is_refused() -> None:
    """The same limit as for files, by the name of the address."""
    web = Web(bytes(101))
    web.open.set()
    options = ImageOptions(fetch_images=True, max_file_bytes=100)
    async with ImageLoader(options, fetch=web.fetch) as loader:
        with pytest.raises(ImageError, match=r"https://host/a\.png"):
            await prepare(loader, ImageRef("url", "https://host/a.png"))


async def test_download_that_nobody_waits_for_is_dropped() -> None:
    """And closing leaves no task of it."""
    web = Web(png())
    async with ImageLoader(ImageOptions(fetch_images=True), fetch=web.fetch) as loader:
        task = asyncio.create_task(prepare(loader, ImageRef("url", "https://host/a.png")))
        while not web.visits:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert loader.statistics().bytes_in_use == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_closing_ends_a_download_under_way() -> None:
    """Its waiter is not left hanging."""
    web = Web(png())
    async with ImageLoader(ImageOptions(fetch_images=True), fetch=web.fetch) as loader:
        task = asyncio.create_task(prepare(loader, ImageRef("url", "https://host/a.png")))
        while not web.visits:
            await asyncio.sleep(0)
    await asyncio.wait([task])
    assert task.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}


def test_fetching_without_a_way_to_fetch_is_refused_at_once() -> None:
    """A setting that cannot work is found before the run."""
    with pytest.raises(ConfigError):
        ImageLoader(ImageOptions(fetch_images=True))


async def test_closed_loader_does_not_begin_new_work(folder: str) -> None:
    """It says so instead of hanging."""
    async with ImageLoader(ImageOptions()) as loader:
        assert repr(loader).startswith("ImageLoader(0 in work, ByteBudget(0 of ")
    with pytest.raises(RuntimeError):
        await prepare(loader, path(1), folder=folder)
    assert loader.statistics().bytes_in_use == 0
