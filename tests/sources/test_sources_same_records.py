"""One data set in every form is the same records: the same ids, and the same answers."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

import fsspec
import mixed_records as forms
import pyarrow as pa
import pytest

from vqa_async import open_engine
from vqa_async.models import Failure, Record
from vqa_async.server import running_server
from vqa_async.sources import StoredImages, open_source, rows_source

ROWS = forms.mixed_records()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images, and every form of the records."""
    folder = tmp_path_factory.mktemp("mixed")
    forms.draw_images(folder)
    for name, write in forms.TEXT_FORMS.items():
        (folder / name).write_bytes(write(ROWS))
    forms.write_parquet(folder / "paths.parquet", forms.as_table(ROWS))
    read = functools.cache(lambda path: (folder / path).read_bytes())
    stored = forms.as_table(ROWS, read)
    forms.write_parquet(folder / "stored.parquet", stored)
    for name, table in (("parts", forms.as_table(ROWS)), ("stored_parts", stored)):
        (folder / name).mkdir()
        for number in range(4):
            part = table.slice(250 * number, 250)
            forms.write_parquet(folder / name / f"train-{number:05d}-of-00004.parquet", part)
    (folder / "parts" / "images").symlink_to(folder / "images")  # paths are relative to the input's folder
    forms_of_arrow(folder, stored)
    (folder / "shards").mkdir()
    forms.write_shards(folder / "shards", ROWS, 4, read)
    return folder


def forms_of_arrow(folder: Path, table: pa.Table) -> None:
    """What save_to_disk leaves, written here by its description."""
    saved = folder / "saved" / "train"
    saved.mkdir(parents=True)
    (folder / "saved" / "dataset_dict.json").write_text('{"splits": ["train"]}')
    names = []
    for number in range(2):
        names.append({"filename": f"data-{number:05d}-of-00002.arrow"})
        with pa.ipc.new_stream(saved / names[-1]["filename"], table.schema) as out:
            out.write_table(table.slice(500 * number, 500), max_chunksize=100)
    (saved / "state.json").write_text(json.dumps({"_data_files": names}))
    with pa.ipc.new_file(folder / "file.arrow", table.schema) as out:
        out.write_table(table)


async def records_of(path: Path | str, **options: object) -> list[Record]:
    async with open_source(path, **options) as source:
        results = [result async for result in source]
    assert not [result.error for result in results if isinstance(result, Failure)]
    return results


PATH_FORMS = [*forms.TEXT_FORMS, "paths.parquet", "parts", "parts/*.parquet"]
STORED_FORMS = [
    "stored.parquet",
    "stored_parts",
    "stored_parts/train-{00000..00003}-of-00004.parquet",
    "saved",
    "saved/train",
    "file.arrow",
    "shards",
    "shards/shard-{000000..000003}.tar",
]


async def of_rows(folder: Path, rows: list[forms.Row]) -> list[Record]:
    async with rows_source(rows, folder=str(folder)) as source:
        return [record async for record in source]


@pytest.mark.parametrize("name", PATH_FORMS)
async def test_records_with_images_by_path_are_the_same_in_every_form(folder: Path, name: str) -> None:
    """Ids, places, messages and the row's own fields; nothing is added to a row."""
    wanted = await of_rows(folder, ROWS)
    found = await records_of(folder / name)
    assert len({record.id for record in found}) == 1000
    assert [record.id for record in found] == [record.id for record in wanted]
    assert [record.index for record in found] == list(range(1000))
    assert [record.messages for record in found] == [record.messages for record in wanted]
    for record, row in zip(found, ROWS, strict=True):
        image = row.get("image")
        listed = (
            {"image": [image]} if isinstance(image, str) and isinstance(record.row["image"], list) else {}
        )
        assert record.row == row | listed


@pytest.mark.parametrize("name", STORED_FORMS)
async def test_records_that_hold_their_images_are_the_same_in_every_form(folder: Path, name: str) -> None:
    """Known by the bytes of the images; no byte of one stands in the row, and each is found again."""

    def read(paths: str | list[str]) -> list[bytes]:
        return [(folder / path).read_bytes() for path in ([paths] if isinstance(paths, str) else paths)]

    stored = [row | {"image": read(row["image"])} if "image" in row else row for row in ROWS]
    wanted = await of_rows(folder, stored)
    found = await records_of(folder / name)
    assert [record.id for record in found] == [record.id for record in wanted]
    assert [record.messages for record in found] == [record.messages for record in wanted]
    with StoredImages(found[0].folder) as images:
        for record, row in zip(found, stored, strict=True):
            own = {n: v for n, v in record.row.items() if n not in ("image", "__key__")}
            assert own == {n: v for n, v in row.items() if n != "image"}
            assert len(json.dumps(record.row.get("image", []))) < 200
            assert [images.get(reference) for reference in record.row.get("image", [])] == row.get(
                "image", []
            )


async def test_what_is_the_same_by_its_own_id_or_without_images_is_the_same_in_all_forms(
    folder: Path,
) -> None:
    """Whether images are named or stored makes no other difference."""
    by_path, stored = await records_of(folder / "in.jsonl"), await records_of(folder / "stored.parquet")
    alike = [n for n, row in enumerate(ROWS) if "id" in row or "image" not in row]
    assert len(alike) > 600
    assert [by_path[n].id for n in alike] == [stored[n].id for n in alike]


async def test_an_address_gives_the_same_records(folder: Path) -> None:
    """Through fsspec, as a stream and, for Parquet, by its parts; patterns too."""
    memory = fsspec.filesystem("memory")
    wanted = [record.id for record in await records_of(folder / "in.jsonl")]
    for name in ("in.jsonl", "in.csv.gz", "paths.parquet"):
        memory.pipe(f"/mixed/{name}", (folder / name).read_bytes())
        assert [record.id for record in await records_of(f"memory://mixed/{name}")] == wanted
    for path in sorted((folder / "parts").glob("*.parquet")):
        memory.pipe(f"/mixed/parts/{path.name}", path.read_bytes())
    assert [record.id for record in await records_of("memory://mixed/parts/*.parquet")] == wanted


async def test_batch_requests_have_their_ids_messages_and_parameters(folder: Path) -> None:
    """custom_id is the id, the messages the conversation, what else is asked for the row's _params."""
    rows = [row for row in ROWS if "image" not in row]
    (folder / "requests.jsonl").write_bytes(forms.as_batch(rows))
    found, wanted = await records_of(folder / "requests.jsonl"), await of_rows(folder, rows)
    assert [record.messages for record in found] == [record.messages for record in wanted]
    assert [record.id for record in found] == [row.get("id", f"row-{n}") for n, row in enumerate(rows)]
    assert found[0].row == {
        "id": "row-0",
        "conversation": rows[0]["conversation"],
        "_params": {"max_tokens": 100},
    }


@pytest.mark.slow
async def test_answers_are_the_same_in_every_form(folder: Path, tmp_path: Path) -> None:
    """A run over each form, against the embedded endpoint: one answer a record, the same in all."""
    answers = {}
    async with (
        running_server() as server,
        open_engine(base_url=server.base_url, model="looks-1", max_workers=32, fsync="never") as engine,
    ):
        for number, name in enumerate((*PATH_FORMS, *STORED_FORMS)):
            output = tmp_path / f"{number}.jsonl"
            summary = await engine.run(str(folder / name), str(output))
            assert summary.ok, name
            answers[name] = dict(_answers(output))
            assert len(answers[name]) == 1000
    first = answers["in.json"]
    assert len(set(first.values())) > 10
    assert [name for name, found in answers.items() if found != first] == []


def _answers(output: Path) -> Iterator[tuple[int, str]]:
    for line in output.read_text().splitlines():
        row = json.loads(line)
        assert "base64" not in line
        yield row["_meta"]["index"], row["vqa"]
