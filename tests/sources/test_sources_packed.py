"""Compressed inputs: unpacked as a stream, whatever they are called; damage costs what stands behind it."""

from __future__ import annotations

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
from backports import zstd
from reading import read, read_until_broken

from vqa_async.errors import InputError
from vqa_async.models import Record
from vqa_async.sources import open_source
from vqa_async.sources.compression import Decompressor, compression_of, unpacked_name

LINES = [json.dumps({"conversation": f"{n}", "n": random.Random(n).random()}).encode() for n in range(20_000)]
DATA = b"\n".join(LINES)
PACK = {"gzip": gzip.compress, "zstd": zstd.compress}


def unpack(packed: bytes, method: str, size: int) -> bytes:
    stream = Decompressor("in", method)
    found = b"".join(
        piece for at in range(0, len(packed), size) for piece in stream.feed(packed[at : at + size])
    )
    stream.end()
    return found


@pytest.mark.parametrize("method", PACK)
@pytest.mark.parametrize("size", [1, 7, 5000, 1 << 20])
def test_members_that_follow_each_other_are_one_text(method: str, size: int) -> None:
    """In whatever pieces they come, empty members and the zeros of tapes included."""
    pack = PACK[method]
    packed = pack(b"one\n") + pack(b"") + pack(b"two\n" * 1000)
    if method == "gzip":
        packed += b"\0" * 600
    assert unpack(packed, method, size) == b"one\n" + b"two\n" * 1000


def test_frames_that_hold_no_data_are_skipped() -> None:
    """As parallel compressors write them."""
    frame = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"
    assert compression_of(frame) == "zstd"
    assert unpack(frame + zstd.compress(DATA), "zstd", 1000) == DATA


@pytest.mark.parametrize("method", PACK)
def test_what_comes_out_is_bounded_however_well_it_was_packed(method: str) -> None:
    """A bomb is unpacked piece by piece."""
    pieces = Decompressor("in", method).feed(PACK[method](bytes(50 << 20)))
    lengths = [len(piece) for piece in pieces]
    assert sum(lengths) == 50 << 20
    assert max(lengths) <= 1 << 18


@pytest.mark.parametrize("method", PACK)
async def test_a_stream_that_is_cut_off_gives_what_stands_before(method: str, tmp_path: Path) -> None:
    """Nearly half of the records, each as it was, and a sentence."""
    packed = PACK[method](DATA)
    (tmp_path / "in").write_bytes(packed[: len(packed) // 2])
    results, said = await read_until_broken(tmp_path / "in")
    assert 4000 < len(results) < 11_000
    assert [result.row for result in results] == list(map(json.loads, LINES[: len(results)]))
    assert said.startswith(f"in is cut off: its {method} stream has no end.")


@pytest.mark.parametrize("method", PACK)
async def test_a_damaged_stream_gives_what_stands_before(method: str, tmp_path: Path) -> None:
    """The damage is not taken for data."""
    first, second = PACK[method](b"\n".join(LINES[:5000]) + b"\n"), PACK[method](b"\n".join(LINES[5000:]))
    packed = bytearray(first + second)
    packed[len(first) + len(second) // 2 : len(first) + len(second) // 2 + 200] = b"\xaa" * 200
    (tmp_path / "in.jsonl.x").write_bytes(packed)
    results, said = await read_until_broken(tmp_path / "in.jsonl.x")
    assert len(results) >= 5000
    assert [result.row for result in results[:5000]] == list(map(json.loads, LINES[:5000]))
    assert said.startswith("in.jsonl.x is damaged: it cannot be unpacked further")


async def test_what_follows_the_end_is_damage(tmp_path: Path) -> None:
    """Nobody knows what it was."""
    (tmp_path / "in.gz").write_bytes(gzip.compress(LINES[0]) + b"something else")
    results, said = await read_until_broken(tmp_path / "in.gz")
    assert (results, "something else follows its end" in said) == ([], True)


async def test_less_than_a_member_is_a_stream_that_is_cut_off(tmp_path: Path) -> None:
    """Even where so little is there that it cannot be told."""
    (tmp_path / "in.gz").write_bytes(gzip.compress(LINES[0]) + b"\x1f\x8b")
    _, said = await read_until_broken(tmp_path / "in.gz")
    assert "is cut off" in said


async def test_the_share_that_was_read_is_that_of_the_packed_bytes(tmp_path: Path) -> None:
    """The unpacked length is not known."""
    (tmp_path / "in.gz").write_bytes(gzip.compress(DATA))
    async with open_source(tmp_path / "in.gz") as source:
        shares = [source.fraction() async for _ in source]
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] == 1


@pytest.mark.slow
@pytest.mark.parametrize("method", PACK)
def test_standard_input_may_be_packed(method: str) -> None:
    """By its first bytes, for it has no name."""
    script = (
        "import asyncio\nfrom vqa_async.sources import open_source\n"
        "async def main():\n  async with open_source('-') as s:\n    print(len([r async for r in s]))\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", script], input=PACK[method](DATA), stdout=-1, check=True)
    assert done.stdout == b"20000\n"


async def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that installs it."""
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    monkeypatch.delattr("backports.zstd")
    (tmp_path / "in.zst").write_bytes(zstd.compress(DATA))
    with pytest.raises(Exception, match=r"pip install 'vqa-async\[zstd\]'") as caught:
        await read(tmp_path / "in.zst")
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("name", "without"), [("a.csv.gz", "a.csv"), ("A.JSONL.ZST", "A.JSONL"), ("a.tgz", "a.tar"), ("a", "a")]
)
def test_the_suffix_of_the_compression_is_left_out(name: str, without: str) -> None:
    """The one before it says what the content is."""
    assert unpacked_name(name) == without


async def test_a_single_record_in_few_bytes_is_read(tmp_path: Path) -> None:
    """The head may be shorter than what would tell for sure."""
    (tmp_path / "in").write_bytes(gzip.compress(b'{"conversation": "Why?"}'))
    (record,) = await read(tmp_path / "in")
    assert isinstance(record, Record)
