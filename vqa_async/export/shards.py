"""WebDataset: tar files in which the files of one example stand side by side, under one key.

The same examples make the same bytes: USTAR, no times, no owners. Keys have no dot, since all behind the
first one is the kind of a file: ``000000007.jpg``, or ``000000007.0.jpg`` of several, and ``000000007.json``.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from vqa_async.export.conversations import conversations, inline
from vqa_async.export.example import Example
from vqa_async.export.files import Row
from vqa_async.export.options import ExportOptions
from vqa_async.export.origin import Origin
from vqa_async.export.pictures import Picture
from vqa_async.journal.json_text import to_json

SHARD_BYTES = 1_000_000_000


def shard_rows(
    example: Example, pictures: Sequence[Picture] | None, options: ExportOptions, origin: Origin
) -> Iterator[Row]:
    """The images of an example, and what stands in the JSON beside them."""
    chosen = pictures or ()
    fields = {n: v for n, v in example.row.items() if n not in (origin.image_key, origin.conversation_key)}
    for said in conversations(example, system=options.system, as_rows=options.pairs_as == "rows"):
        turns = [
            {"role": "assistant" if n % 2 else "user", "content": inline(parts)}
            for n, parts in enumerate(said.turns)
        ]
        system = [{"role": "system", "content": said.system}] if said.system else []
        text = {
            **fields,
            "id": said.id,
            "messages": [*system, *turns],
            "qa_pairs": [pair.content for pair in said.pairs],
            "vqa": example.text,
        }
        yield {"pictures": chosen, "json": text}


class TarShards:
    """The shards of one split. Use as a context.

    Args:
        folder: where they stand.
        prefix: how their names begin.
    """

    def __init__(self, folder: Path, prefix: str) -> None:
        self._folder = folder
        self._prefix = prefix
        self._shards = 0
        self._count = 0
        self._open: tarfile.TarFile | None = None

    def __enter__(self) -> TarShards:
        self._begin()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._open is not None
        self._open.close()

    def add(self, row: Row) -> None:
        """The next example."""
        assert self._open is not None
        if self._open.offset >= SHARD_BYTES:
            self._open.close()
            self._begin()
        key = f"{self._count:09}"
        self._count += 1
        names = []
        for number, picture in enumerate(row["pictures"]):
            if picture.data is None:
                names.append(picture.reference)
                continue
            many = f".{number}" if len(row["pictures"]) > 1 else ""
            names.append(f"{key}{many}.{picture.suffix}")
            self._put(names[-1], picture.data)
        self._put(f"{key}.json", to_json(row["json"] | {"images": names}))

    def _begin(self) -> None:
        path = self._folder / f"{self._prefix}-{self._shards:06}.tar"
        self._open = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 - closed in __exit__
        self._shards += 1

    def _put(self, name: str, data: bytes) -> None:
        assert self._open is not None
        member = tarfile.TarInfo(name)  # its time is 0, its owner 0
        member.size = len(data)
        self._open.addfile(member, io.BytesIO(data))
