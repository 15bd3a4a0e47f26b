"""What an input may be called: patterns, ranges, folders, addresses, names."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import fsspec
import pytest
from mixed_records import as_lines, as_table, mixed_records, write_parquet
from reading import read, read_until_broken

from vqa_async import open_engine
from vqa_async.errors import ConfigError, InputError
from vqa_async.server import running_server
from vqa_async.sources import open_source, shown
from vqa_async.sources.locations import braces, folder_of, local_files
from vqa_async.sources.remote import RemoteFile

ROWS = mixed_records(30)


def write_lines(folder: Path, *names: str) -> None:
    """Ten rows in each file."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(as_lines(ROWS[10 * number : 10 * number + 10]))


@pytest.mark.parametrize(
    "pattern", ["part-*.jsonl", "part-{0..2}.jsonl", "part-{0,1,2}.jsonl", "part-[012].jsonl"]
)
async def test_several_files_are_one_input(pattern: str, tmp_path: Path) -> None:
    """Positions go on from file to file, and each says its own lines."""
    write_lines(tmp_path, "part-0.jsonl", "part-1.jsonl", "part-2.jsonl")
    with (tmp_path / "part-1.jsonl").open("ab") as file:
        file.write(b"no row\n")
    found = await read(tmp_path / pattern)
    failure = found.pop(20)
    assert failure.error.message.startswith("part-1.jsonl line 11: ")
    assert [record.row for record in found] == ROWS
    assert [record.index for record in found] == [*range(20), *range(21, 31)]
    assert {record.folder for record in found} == {str(tmp_path)}


@pytest.mark.parametrize(("format", "suffix"), [("jsonl", "ndjson"), ("json", "json"), ("csv", "csv")])
async def test_a_folder_of_files_is_said_to_be_one(format: str, suffix: str, tmp_path: Path) -> None:
    """By --format: otherwise it is a folder of images."""
    for number in range(2):
        text = "conversation\nWhy?\n" if suffix == "csv" else '{"conversation": "Why?"}'
        (tmp_path / f"{number}.{suffix}").write_text(text)
    assert len(await read(tmp_path, format=format)) == 2
    assert (await read_until_broken(tmp_path))[1].endswith("holds no images.")
    assert "holds no .parquet files" in (await read_until_broken(tmp_path, format="parquet"))[1]


async def test_what_a_folder_holds_is_told_by_its_top(tmp_path: Path) -> None:
    """An image beside it makes it a folder of images; hidden files count for nothing."""
    (tmp_path / "data").mkdir()
    write_parquet(tmp_path / "data" / "train.parquet", as_table(ROWS))
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "README.md").write_text("")
    assert len(await read(tmp_path)) == 30
    (tmp_path / "a.png").write_bytes(b"")
    assert len(await read(tmp_path)) == 1
    assert len(await read(tmp_path, format="parquet")) == 30


@pytest.mark.parametrize("name", ["gone-*.jsonl", "gone-{0..3}.jsonl", "gone/*.jsonl"])
async def test_a_pattern_without_files_is_refused(name: str, tmp_path: Path) -> None:
    """At once where it can be told, else when it is read."""
    with pytest.raises(InputError, match="there is no such file"):
        await read(tmp_path / name)


async def test_a_range_with_a_gap_is_refused(tmp_path: Path) -> None:
    """What is missing was meant; and so was not a range of millions."""
    write_lines(tmp_path, "a-0.jsonl", "a-2.jsonl")
    assert "a-1.jsonl: there is no such file" in (await read_until_broken(tmp_path / "a-{0..2}.jsonl"))[1]
    with pytest.raises(InputError, match="over 1,000,000 files"):
        list(braces("a-{0..1000000}"))


def test_braces_stand_for_ranges_and_choices() -> None:
    """As in a shell; with the zeros of the first."""
    assert list(braces("{08..11}")) == ["08", "09", "10", "11"]
    assert list(braces("{a,b}-{1..2}")) == ["a-1", "a-2", "b-1", "b-2"]
    assert list(braces("{x}")) == ["{x}"]


async def test_a_file_may_be_called_like_a_pattern(tmp_path: Path) -> None:
    """What exists is meant."""
    write_lines(tmp_path, "in[1].jsonl", "in{0..1}.jsonl")
    assert len(await read(tmp_path / "in[1].jsonl")) == 10
    assert len(await read(tmp_path / "in{0..1}.jsonl")) == 10


@pytest.mark.parametrize(
    ("location", "folder"),
    [
        ("-", ""),
        ("s3://b/a.jsonl", ""),
        ("gone/*/x-{0..1}.tar", "gone"),
        ("gone/x*", "gone"),
        ("*.jsonl", ""),
        (".", "."),
    ],
)
def test_relative_images_are_looked_for_in_the_folder_of_the_input(location: str, folder: str) -> None:
    """Of a pattern: the last that is none."""
    assert folder_of(location) == folder


async def test_an_output_that_the_pattern_would_read_is_refused(tmp_path: Path) -> None:
    """It would never come to an end."""
    write_lines(tmp_path, "in.jsonl")
    assert local_files(str(tmp_path / "*.jsonl"), "auto") == (str(tmp_path / "in.jsonl"),)
    assert local_files(str(tmp_path / "*.csv"), "auto") == local_files("-", "auto") == ()
    output = tmp_path / "out.jsonl"
    output.touch()
    async with running_server() as server, open_engine(base_url=server.base_url, model="m") as engine:
        with pytest.raises(ConfigError, match="same file"):
            await engine.run(str(tmp_path / "*.jsonl"), str(output))


async def test_an_address_that_leads_nowhere_is_refused_in_a_sentence() -> None:
    """Missing files, empty patterns, clients that are not installed, protocols that are not known."""
    for address, said in (
        ("memory://gone.jsonl", "there is no such file"),
        ("memory://gone/*.jsonl", "there is no such file"),
        ("nothing://x.jsonl", "cannot be read (ValueError)"),
        ("http://127.0.0.1:1/in.jsonl?token=secret", "http://127.0.0.1:1/in.jsonl"),
    ):
        _, message = await read_until_broken(address)
        assert said in message
        assert "secret" not in message


@pytest.mark.parametrize("address", ["s3://bucket/in.jsonl", "gs://bucket/*.parquet"])
async def test_a_missing_client_is_named(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that installs it."""
    for name in ("s3fs", "gcsfs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[(s3|gs)\]'"):
        await read(address)


async def test_a_missing_fsspec_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that installs it."""
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[remote\]'"):
        await read("memory://in.jsonl")


async def test_a_run_over_an_address_notes_it_without_its_secrets(tmp_path: Path) -> None:
    """It can be resumed, and its state be told."""
    fsspec.filesystem("memory").pipe("/run.jsonl", as_lines([{"conversation": "Why?"}]))
    output = tmp_path / "out.jsonl"
    async with running_server() as server, open_engine(base_url=server.base_url, model="looks-1") as engine:
        assert (await engine.run("memory://run.jsonl", str(output))).ok
    assert json.loads((tmp_path / "out.run.json").read_text())["input"] == "memory://run.jsonl"
    assert shown("https://me:pw@host/a.jsonl?X-Signature=1") == "https://host/a.jsonl"
    assert shown("s3://b/a?b") == "s3://b/a?b"


async def test_leaving_an_address_early_closes_it(no_leaks) -> None:
    """As a file."""
    fsspec.filesystem("memory").pipe("/long.jsonl", as_lines(mixed_records(3000)))
    async with open_source("memory://long.jsonl") as source:
        await anext(aiter(source))
    no_leaks()


def test_a_file_at_an_address_is_a_file() -> None:
    """What the readers of tables ask of one; it is opened when it is first read."""
    fsspec.filesystem("memory").pipe("/x", b"0123456789")
    file = RemoteFile("memory://x")
    assert not file.closed
    assert (file.seek(4), file.read(2), file.tell(), file.readable(), file.seekable()) == (
        4,
        b"45",
        6,
        True,
        True,
    )
    file.close()
    assert file.closed


@pytest.mark.slow
async def test_a_name_of_the_hub_is_streamed_by_its_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline here, from a folder; images stay as they are stored, and splits follow each other."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    import datasets

    datasets.disable_progress_bars()
    images = {f"images/{name}.png": os.urandom(20) for name in ("red", "blue", "green", "white", "black")}
    images |= {f"images/{name}.png": os.urandom(20) for name in ("yellow", "purple", "orange")}
    (tmp_path / "set").mkdir()
    for split in ("train", "test"):
        table = as_table(ROWS, images.__getitem__)
        column = table.schema.get_field_index("image")
        feature = {"_type": "List", "feature": {"_type": "Image"}}
        text = {"dtype": "string", "_type": "Value"}
        turn = {"from": text, "value": text}
        features = dict.fromkeys(table.schema.names, text) | {
            "image": feature,
            "conversation": {"_type": "List", "feature": turn},
        }
        assert column == 0
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        write_parquet(tmp_path / "set" / f"{split}-00000-of-00001.parquet", table)
    found = await read(f"hf://{tmp_path}/set:train")
    wanted = await read(tmp_path / "set" / "train-00000-of-00001.parquet")
    assert [record.id for record in found] == [record.id for record in wanted]
    assert [record.messages for record in found] == [record.messages for record in wanted]
    assert found[0].row["image"][0].startswith(f"hf://{tmp_path}/set:train#0/image/0/images/")
    assert len(await read(f"hf://{tmp_path}/set")) == 60
    assert "Check name and split" in (await read_until_broken(f"hf://{tmp_path}/set:gone"))[1]


async def test_a_missing_library_of_the_hub_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that installs it."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[hf\]'"):
        await read("hf://org/name")
