"""WebDataset shards."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import pytest
from reading import read, read_until_broken

from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources import StoredImages, image_bytes, open_source


def shard(path: Path, members: list[tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


ASK = json.dumps({"conversation": "Why?", "n": 1}).encode()


async def test_members_of_one_key_are_one_row(tmp_path: Path) -> None:
    """Images in their order, JSON merged, texts as texts, and whatever else is referred to."""
    path = shard(
        tmp_path / "a.tar",
        [
            ("x/1.right.jpg", b"R"),
            ("x/1.json", ASK),
            ("x/1.left.PNG", b"L"),
            ("x/1.txt", "Ein Häuschen\n".encode()),
            ("x/1.cls", b"7"),
            ("x/1.npy", b"\x93NUMPY"),
            ("x/2.json", ASK),
            ("x/2.meta.json", b"[1]"),
            ("README", b"no sample"),
            ("._3.json", b"no sample"),
        ],
    )
    first, second = await read(path)
    assert first.row == {
        "__key__": "x/1",
        "conversation": "Why?",
        "n": 1,
        "image": ["a.tar#x/1.right.jpg", "a.tar#x/1.left.PNG"],
        "text": "Ein Häuschen",
        "cls": "7",
        "npy": "a.tar#x/1.npy",
    }
    assert [image.value for image in first.images] == [b"R", b"L"]
    assert second.row == {"__key__": "x/2", "conversation": "Why?", "n": 1, "meta": [1]}
    assert image_bytes("a.tar#x/1.left.PNG", str(tmp_path)) == b"L"


async def test_a_sample_whose_json_is_none_fails_alone(tmp_path: Path) -> None:
    """With the shard and its key."""
    path = shard(tmp_path / "a.tar", [("1.json", b"{"), ("1.png", b"x"), ("2.json", ASK)])
    first, second = await read(path)
    assert isinstance(first, Failure)
    assert first.error.message.startswith("a.tar sample 1: its member .json is not JSON")
    assert isinstance(second, Record)


async def test_a_member_that_is_too_large_costs_its_sample(tmp_path: Path) -> None:
    """It is passed over, not held."""
    path = tmp_path / "a.tar"
    with path.open("wb") as file:
        big = tarfile.TarInfo("1.png")
        big.size = 65 << 20
        file.write(big.tobuf())
        file.seek(big.size, os.SEEK_CUR)
        rest = tarfile.TarInfo("2.json")
        rest.size = len(ASK)
        file.write(rest.tobuf() + ASK.ljust(512, b"\0") + bytes(1024))
    first, second = await read(path)
    assert "its member .png has 65 MiB; the limit is 64 MiB" in first.error.message
    assert second.row["__key__"] == "2"


@pytest.mark.parametrize("name", ["a.tar.gz", "a.tgz", "a"])
async def test_shards_may_be_packed_and_called_anything(name: str, tmp_path: Path) -> None:
    """Content tells."""
    plain = shard(
        tmp_path / "plain.tar", [("1.json", ASK), ("1.png", b"x"), ("2.png", b"y"), ("2.json", ASK)]
    )
    (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    found = await read(tmp_path / name)
    assert [record.images[0].value for record in found] == [b"x", b"y"]
    if name != "a":
        with StoredImages(str(tmp_path)) as images:
            for record in (found[1], found[0], found[0]):
                assert images.get(record.row["image"][0]) == record.images[0].value


async def test_a_shard_that_is_cut_off_gives_the_samples_before(tmp_path: Path) -> None:
    """In the middle of a member, or of a header."""
    content = shard(tmp_path / "a.tar", [(f"{n}.json", ASK) for n in range(10)]).read_bytes()
    for cut in (512 * 10 + 20, 512 * 11 + 5):
        (tmp_path / "a.tar").write_bytes(content[:cut])
        results, said = await read_until_broken(tmp_path / "a.tar")
        assert len(results) == 4 + (cut > 512 * 11)
        assert said.startswith("a.tar is cut off or no tar file.")


def test_an_image_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Of a shard that was replaced, or is none."""
    shard(tmp_path / "a.tar", [("1.json", ASK)])
    with pytest.raises(InputError, match="there is no such image"):
        image_bytes("a.tar#2.png", str(tmp_path))
    (tmp_path / "a.tar").write_bytes(b"x" * 600)
    with pytest.raises(InputError, match="cannot be read"):
        image_bytes("a.tar#2.png", str(tmp_path))


async def test_leaving_early_leaves_nothing_open(tmp_path: Path, no_leaks) -> None:
    """Neither a descriptor nor a task."""
    path = shard(tmp_path / "a.tar", [(f"{n}.json", ASK + b" " * 5000) for n in range(1000)])
    async with open_source(path) as source:
        await anext(aiter(source))
    no_leaks()


async def test_a_pipe_that_stays_silent_can_be_left(tmp_path: Path) -> None:
    """Though the thread that reads the shard waits for it."""
    os.mkfifo(tmp_path / "a.tar")
    content = shard(tmp_path / "b.tar", [(f"{n}.json", ASK) for n in range(600)]).read_bytes()
    writer = asyncio.create_task(asyncio.to_thread((tmp_path / "a.tar").open, "wb", buffering=0))
    reading = asyncio.create_task(read(tmp_path / "a.tar"))
    with await writer as pipe:
        await asyncio.to_thread(pipe.write, content[: 512 * 1000])
        await asyncio.sleep(0.1)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(reading, 5)
    await asyncio.sleep(0.05)
    assert len(asyncio.all_tasks()) == 1
