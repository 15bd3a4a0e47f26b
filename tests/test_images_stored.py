"""Images that stand in a table: read by the reference that written rows hold."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from vqa_async.config import ImageOptions
from vqa_async.errors import ImageError
from vqa_async.images import ImageLoader
from vqa_async.models import ImageRef
from vqa_async.sources import SharedImages


@pytest.fixture
def folder(tmp_path: Path, red_image: str) -> Path:
    """A folder with a Parquet file of three images, the last of which is none."""
    contents = [Path(red_image).read_bytes(), Path(red_image).read_bytes(), b"no image"]
    table = pyarrow.table({"image": contents})
    (tmp_path / "data").mkdir()
    pyarrow.parquet.write_table(table, tmp_path / "data" / "train.parquet")
    return tmp_path / "data"


async def prepared(folder: Path, path: str, options: ImageOptions | None = None) -> tuple[int, int]:
    """Width and height of an image; it is asked for by several records at once."""
    stored = SharedImages()
    try:
        async with ImageLoader(options or ImageOptions(), stored=stored.get) as loader:
            refs = [ImageRef("path", path)]

            async def one() -> tuple[int, int]:
                async with loader.prepare(refs, str(folder)) as (image,):
                    return image.width, image.height

            first, *_ = await asyncio.gather(*(one() for _ in range(4)))
            assert loader.statistics().encodes == 1
            return first
    finally:
        stored.close()


async def test_a_reference_gives_its_image(folder: Path) -> None:
    """Relative to the folder of the input, made once for all who ask."""
    assert await prepared(folder, "train.parquet#1/image") == (64, 48)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("train.parquet#2/image", "train.parquet#2/image"),
        ("train.parquet#9/image", "there is no such image in that file"),
        ("train.parquet#x/image", "there is no such image in that file"),
        ("gone.parquet#1/image", "was not found in"),
        ("train.parquet#", "was not found in"),
        ("notes.txt#1/image", "was not found in"),
    ],
)
async def test_a_reference_that_leads_nowhere_says_so(folder: Path, path: str, words: str) -> None:
    """It costs its record, as any other image that is not there."""
    with pytest.raises(ImageError) as wrong:
        await prepared(folder, path)
    assert words in wrong.value.message


async def test_what_bounds_files_bounds_images_in_them(folder: Path, tmp_path: Path) -> None:
    """The size is that of the image, and a table outside of the folder that is allowed is not opened."""
    with pytest.raises(ImageError, match="over max_file_bytes"):
        await prepared(folder, "train.parquet#1/image", ImageOptions(max_file_bytes=50))
    (tmp_path / "other").mkdir()
    with pytest.raises(ImageError, match="image-root"):
        await prepared(folder, "train.parquet#1/image", ImageOptions(image_root=str(tmp_path / "other")))
    loader = ImageLoader(ImageOptions())  # that nobody has told how to read tables
    with pytest.raises(ImageError, match="was not found"):
        await loader.prepare([ImageRef("path", "train.parquet#1/image")], str(folder)).__aenter__()
    await loader.aclose()


def test_closed_while_it_reads_it_closes_its_file_afterwards(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing waits for nobody; whoever is in the middle puts the file away."""
    stored = SharedImages()
    get = stored._images.get

    def closed_meanwhile(reference: str) -> bytes | None:
        stored.close()
        return get(reference)

    monkeypatch.setattr(stored._images, "get", closed_meanwhile)
    assert stored.get(f"{folder}/train.parquet#0/image")
    assert stored._images._reader is None
