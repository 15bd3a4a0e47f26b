"""A thousand records of every kind, and the forms in which they may be written down."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd
from PIL import Image

Row = dict[str, Any]

COLOURS = ("red", "blue", "green", "white", "black", "yellow", "purple", "orange")
WORDS = ("Was ist das?", "这是什么？", "ما هذا؟", "Что это?", 'He said "so",\nthen; left\t!', "🎈 how many?")


def draw_images(folder: Path) -> None:
    """The images that the records are about."""
    (folder / "images").mkdir()
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (16 + number, 24), colour).save(folder / "images" / f"{colour}.png")


def mixed_records(count: int = 1000) -> list[Row]:
    """Several images, text only, unicode, own ids and none, several turns, repeats."""
    return [_record(number) for number in range(count)]


def _record(number: int) -> Row:
    word, colour = WORDS[number % len(WORDS)], COLOURS[number % 7]
    human = {"from": "human", "value": f"{word} ({number // 3})"}
    row: Row = {"conversation": [human], "note": f"n° {number}", "topic": ("a", "b")[number % 2]}
    match number % 6:
        case 0:
            row["image"] = f"images/{colour}.png"
        case 1:
            row["image"] = [f"images/{colour}.png", f"images/{COLOURS[7]}.png"]
            human["value"] = f"<image>\n{word}\n<image> {number}"
        case 2:
            row["id"] = f"own-{number}"
            row["image"] = [f"images/{colour}.png"]
        case 3:
            row["conversation"] = [
                human,
                {"from": "gpt", "value": "Yes."},
                {"from": "human", "value": "Why?"},
            ]
        case 4:
            row["image"] = [f"images/{colour}.png"]
            row["conversation"] = [{"from": "system", "value": "Be brief."}, human]
            row["id"] = str(number)
        case _:
            pass
    return row


def as_lines(rows: list[Row]) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)


def as_array(rows: list[Row]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=1).encode()


def as_csv(rows: list[Row], delimiter: str = ",") -> bytes:
    names = ["id", "image", "conversation", "note", "topic"]
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names, delimiter=delimiter)
    writer.writeheader()
    for row in rows:
        cells = {name: row.get(name, "") for name in names}
        writer.writerow(
            {n: c if isinstance(c, str) else json.dumps(c, ensure_ascii=False) for n, c in cells.items()}
        )
    return file.getvalue().encode()


def as_batch(rows: list[Row]) -> bytes:
    """Requests of OpenAI's Batch API."""
    return b"".join(
        json.dumps(
            {
                "custom_id": row.get("id", f"row-{number}"),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "m", "messages": row["conversation"], "max_tokens": 100},
            }
        ).encode()
        + b"\n"
        for number, row in enumerate(rows)
    )


def as_table(rows: list[Row], read: Callable[[str], Any] | None = None) -> pa.Table:
    """With images by path in a list, or in Hugging Face's struct with what ``read`` gives for a path."""
    listed = [_listed(row.get("image")) for row in rows]
    if read is None:
        images: Any = pa.array(listed, pa.list_(pa.string()))
    else:
        stored = [i and [{"bytes": read(p), "path": p} for p in i] for i in listed]
        images = pa.array(stored, pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
    names = ("id", "conversation", "note", "topic")
    return pa.table({"image": images} | {name: pa.array([row.get(name) for row in rows]) for name in names})


def _listed(images: Any) -> list[str] | None:
    return [images] if isinstance(images, str) else images


def write_parquet(path: Path, table: pa.Table, row_group_size: int = 64) -> Path:
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_shards(folder: Path, rows: list[Row], shards: int, read: Callable[[str], bytes]) -> None:
    """The records as WebDataset, the images as members."""
    each = -(-len(rows) // shards)
    for shard in range(shards):
        with tarfile.open(folder / f"shard-{shard:06d}.tar", "w") as tar:
            for number, row in enumerate(rows[shard * each : (shard + 1) * each], shard * each):
                for name, content in _members(row, read):
                    member = tarfile.TarInfo(f"{number:06d}.{name}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))


def _members(row: Row, read: Callable[[str], bytes]) -> Iterator[tuple[str, bytes]]:
    for at, path in enumerate(_listed(row.get("image")) or ()):
        yield f"{at}.png", read(path)
    yield "json", json.dumps({name: value for name, value in row.items() if name != "image"}).encode()


TEXT_FORMS: dict[str, Callable[[list[Row]], bytes]] = {
    "in.json": as_array,
    "in.jsonl": as_lines,
    "in.json.gz": lambda rows: gzip.compress(as_array(rows)),
    "in.jsonl.gz": lambda rows: gzip.compress(as_lines(rows[:500])) + gzip.compress(as_lines(rows[500:])),
    "in.json.zst": lambda rows: zstd.compress(as_array(rows)),
    "in.jsonl.zst": lambda rows: zstd.compress(as_lines(rows[:500])) + zstd.compress(as_lines(rows[500:])),
    "packed": lambda rows: zstd.compress(as_lines(rows)),
    "in.csv": as_csv,
    "bom.csv": lambda rows: b"\xef\xbb\xbf" + as_csv(rows),
    "semicolons.csv": lambda rows: as_csv(rows, ";"),
    "in.tsv": lambda rows: as_csv(rows, "\t"),
    "in.csv.gz": lambda rows: gzip.compress(as_csv(rows)),
    "table": as_csv,
}
