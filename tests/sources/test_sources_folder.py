"""A folder of images: which files, in which order, with which question."""

import os
from pathlib import Path

import pytest

from vqa_async.config import Columns
from vqa_async.errors import InputError
from vqa_async.models import Failure, ImageRef, Record
from vqa_async.prompts import DEFAULT_PROMPT
from vqa_async.sources import open_source


async def read(path, **options):
    async with open_source(path, **options) as source:
        return [result async for result in source]


def make(folder: Path, *names: str, data: bytes = b"") -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def paths(results):
    return [result.row["image"] for result in results]


async def test_images_come_in_the_order_of_their_names(tmp_path):
    """The files of a folder by the bytes of their names, then its subfolders likewise."""
    make(tmp_path, "b.png", "a.JPG", "Z.webp", "sub/x.gif", "sub/deep/y.png", "other/z.png", "é.png")
    results = await read(tmp_path)
    assert paths(results) == [
        "Z.webp", "a.JPG", "b.png", "é.png", "other/z.png", "sub/x.gif", "sub/deep/y.png",
    ]  # fmt: skip
    assert [result.index for result in results] == list(range(7))


async def test_each_image_is_asked_the_same(tmp_path):
    """The rows are in the usual form; images are looked for in the folder."""
    make(tmp_path, "a.png")
    (record,) = await read(tmp_path)
    assert isinstance(record, Record)
    assert record.row == {"image": "a.png", "conversation": [{"from": "human", "value": DEFAULT_PROMPT}]}
    assert record.folder == str(tmp_path)
    assert record.images == (ImageRef("path", "a.png"),)
    (record,) = await read(tmp_path, prompt="Who?", columns=Columns(image_key="i", conversation_key="c"))
    assert record.row == {"i": "a.png", "c": [{"from": "human", "value": "Who?"}]}


@pytest.mark.parametrize(
    "start",
    [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"II*\0",
        b"RIFF\0\0\0\0WEBP",
        b"\0\0\0\x1cftypavif",
    ],
)
async def test_an_image_is_known_by_its_first_bytes(tmp_path, start):
    """Downloads often have no suffix."""
    make(tmp_path, "plain", "odd.bin", data=start + b"more")
    assert paths(await read(tmp_path)) == ["odd.bin", "plain"]


async def test_what_is_no_image_is_left_out(tmp_path):
    """Other files, hidden ones, and things that are no files."""
    make(tmp_path, "a.png", "b.txt", "captions.json", ".hidden.png", ".cache/c.png", "RIFF", "sub/.d.png")
    make(tmp_path, "sound.wav", data=b"RIFF\0\0\0\0WAVE")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert paths(await read(tmp_path)) == ["a.png"]


async def test_links_to_folders_are_not_followed(tmp_path):
    """They may lead in a circle; links to files are images like others."""
    make(tmp_path, "a.png")
    (tmp_path / "circle").symlink_to(tmp_path)
    (tmp_path / "b.png").symlink_to("a.png")
    assert paths(await read(tmp_path)) == ["a.png", "b.png"]


async def test_a_name_that_is_not_utf_8_is_one_failure(tmp_path):
    """No result could be written for it; the others go on."""
    make(tmp_path, "a.png", os.fsdecode(b"b\xff.png"), "c.png")
    first, second, third = await read(tmp_path)
    assert (first.row["image"], third.row["image"]) == ("a.png", "c.png")
    assert isinstance(second, Failure)
    assert second.error.code == "bad_image_reference"
    assert second.record.row == {"_input": "b\ufffd.png"}
    assert "file b\ufffd.png: its name is not UTF-8" in second.error.message


@pytest.mark.parametrize("name", ["notes.txt", "sub/.a.png"])
async def test_a_folder_without_images_is_refused(tmp_path, name):
    """Nothing to do is a mistake in the command, not a success."""
    make(tmp_path, name)
    with pytest.raises(InputError, match="holds no images"):
        await read(tmp_path)


async def test_a_folder_that_cannot_be_listed_is_refused(tmp_path):
    """Leaving it out would lose records without a word."""
    make(tmp_path, "a.png", "sub/b.png")
    async with open_source(tmp_path) as source:
        results = aiter(source)
        assert (await anext(results)).row["image"] == "a.png"
        (tmp_path / "sub" / "b.png").unlink()
        (tmp_path / "sub").rmdir()
        with pytest.raises(InputError, match="sub cannot be listed: No such file"):
            await anext(results)


async def test_a_file_given_as_a_folder_is_refused(tmp_path):
    """The user said folder; the file system disagrees."""
    make(tmp_path, "a.png")
    with pytest.raises(InputError, match="cannot be listed: Not a directory"):
        await read(tmp_path / "a.png", format="folder")


async def test_a_link_that_leads_to_itself_is_passed_over(tmp_path: Path) -> None:
    """It is no image, and it costs the others nothing."""
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "loop.png").symlink_to("loop.png")
    async with open_source(str(tmp_path)) as source:
        assert [item.row["image"] async for item in source] == ["a.png"]
