"""Which records are wanted: judged after they have their ids, the same in a run that is resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from reading import read, read_until_broken

from vqa_async import Config, ConfigError, open_engine
from vqa_async.config import Selection
from vqa_async.keytable import RecordTable
from vqa_async.models import Failure
from vqa_async.server import running_server
from vqa_async.sources import Finished, open_source, places_of
from vqa_async.sources.selection import SHUFFLED, as_text, part_of

ROWS: list[dict[str, Any]] = [
    {"conversation": f"Why {n % 40}?", "n": n, "lang": ("de", "en", None)[n % 3], "deep": {"a": [n]}}
    | ({"id": f"own-{n}"} if n % 5 == 0 else {})
    for n in range(100)
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "no row\n")
    return path


async def chosen(path: Path, **options: Any) -> list[Any]:
    found = await read(path, selection=Selection(**options))
    return [result.record if isinstance(result, Failure) else result for result in found]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("lang=de", lambda row: row["lang"] == "de"),
        ("lang!=de", lambda row: row["lang"] != "de"),
        ("lang=", lambda row: row["lang"] is None),
        ("nothing=", lambda row: True),
        ("n=7", lambda row: row["n"] == 7),
        ('deep={"a":[7]}', lambda row: row["n"] == 7),
        (("lang=en", "n!=4"), lambda row: row["lang"] == "en" and row["n"] != 4),
        ("conversation=Why 3?", lambda row: row["n"] % 40 == 3),
    ],
)
async def test_rows_are_left_out_by_their_fields(path: Path, where: Any, holds: Any) -> None:
    """The others have the ids and places that they always have; what is no row cannot be judged."""
    everything = await chosen(path)
    found = await chosen(path, where=where)
    assert found == [record for record in everything[:-1] if holds(record.row)] + everything[-1:]


async def test_the_parts_of_an_input_are_all_of_it(path: Path) -> None:
    """Each record in one part, by its id: the same wherever it stands."""
    everything = await chosen(path)
    parts = [await chosen(path, shard=f"{k}/3") for k in (1, 2, 3)]
    assert sorted(record.index for part in parts for record in part) == list(range(101))
    assert all(len(part) > 20 for part in parts)
    for number, part in enumerate(parts):
        assert part == [record for record in everything if part_of(record.id, 3) == number]
    assert part_of("own-5", 1000) == 837  # for ever: parts are run at different times


async def test_only_some_fields_are_kept(path: Path) -> None:
    """Of failures too; image, conversation, id and our own stay."""
    found = await chosen(path, select="lang, deep")
    assert found[5].row == {"id": "own-5", "conversation": "Why 5?", "lang": None, "deep": {"a": [5]}}
    assert found[5].messages
    assert found[-1].row == {"_input": "no row"}
    assert (await chosen(path, select="lang"))[1].row == {"conversation": "Why 1?", "lang": "en"}


async def test_another_order_depends_on_the_seed_alone(path: Path) -> None:
    """All records, with the places that they have in the input."""
    everything = await chosen(path)
    first = await chosen(path, shuffle=1)
    assert first == await chosen(path, shuffle=1)
    assert first != everything
    assert first != await chosen(path, shuffle=0) != everything
    assert sorted(first, key=lambda record: record.index) == everything


async def test_a_long_input_is_shuffled_within_a_buffer(tmp_path: Path) -> None:
    """The first records come before the last are read; none is lost."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"conversation": "{n}"}}\n' for n in range(3 * SHUFFLED)))
    async with open_source(path, selection=Selection(shuffle=3)) as source:
        indexes = [(await anext(aiter(source))).index]
        assert source.fraction() < 0.5
        indexes += [result.index async for result in source]
    assert sorted(indexes) == list(range(3 * SHUFFLED))


async def test_what_was_read_before_an_input_breaks_off_is_given_in_any_order(tmp_path: Path) -> None:
    """Then the error."""
    (tmp_path / "in.json").write_text(json.dumps(ROWS)[:-5])
    results, said = await read_until_broken(tmp_path / "in.json", selection=Selection(shuffle=1))
    assert len(results) == 99
    assert "not valid JSON" in said


async def test_a_resumed_run_draws_in_the_same_order(path: Path) -> None:
    """Records that are done with take the places that they had, and are not shown where they are left out."""
    order = await chosen(path, shuffle=5, where="lang=de")
    known = RecordTable()
    for record in order[:10]:
        known.set(record.id, b"x")
    selection = Selection(shuffle=5, where="lang=de", select="n")
    found = await read(path, selection=selection, known=known, is_finished=lambda state: True)
    assert [isinstance(result, Finished) for result in found] == [True] * 10 + [False] * (len(order) - 10)


async def test_places_are_those_in_the_whole_input(path: Path) -> None:
    """Whatever of it is asked for."""
    everything = await places_of(open_source(path))
    some = await places_of(open_source(path, selection=Selection(where="lang=en", shuffle=2)))
    assert len(some) == 34
    for record in await chosen(path, where="lang=en"):
        assert some.get(record.id) == everything.get(record.id) == record.index.to_bytes(6, "big")


async def test_a_selected_run_resumes_and_its_parts_make_the_whole(path: Path, tmp_path: Path) -> None:
    """With limit, shuffle and where; then the parts; the rest is then answered, each record once."""
    output = str(tmp_path / "out.jsonl")

    async def run(limit: int | None = None, **options: Any) -> Any:
        async with (
            running_server() as server,
            open_engine(base_url=server.base_url, model="looks-1", **options) as engine,
        ):
            return (await engine.run(str(path), output, limit=limit)).statistics

    first = await run(limit=5, shuffle=1, where=["lang=de"])
    assert (first.succeeded, first.skipped) == (5, 0)
    again = await run(limit=5, shuffle=1, where=["lang=de"], select=["n"])
    assert (again.succeeded, again.skipped) == (0, 5)
    both = [await run(shard=part) for part in ("1/2", "2/2")]
    assert sum(statistics.succeeded for statistics in both) == 95
    assert sum(statistics.skipped for statistics in both) == 5
    assert sum(statistics.failed for statistics in both) == 1
    whole = await run()
    assert (whole.succeeded, whole.skipped) == (0, 101)
    lines = [json.loads(line) for line in Path(output).read_text().splitlines()]
    assert sorted(line["_meta"]["index"] for line in lines) == list(range(100))


def test_fields_are_compared_as_text() -> None:
    """As JSON writes them."""
    assert [as_text(value) for value in (None, "", "a", 1, 1.5, True, [1, "ü"])] == [
        "", "", "a", "1", "1.5", "true", '[1,"ü"]',
    ]  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"where": "lang"},
        {"where": "=de"},
        {"where": "!=de"},
        {"shard": "0/2"},
        {"shard": "3/2"},
        {"shard": "1"},
        {"shard": "1/0"},
        {"shard": "x/y"},
    ],
)
def test_a_selection_that_cannot_be_meant_is_refused(options: dict[str, Any]) -> None:
    """Before anything is read."""
    with pytest.raises(ConfigError, match="must be"):
        Config.of(**options)


def test_a_selection_changes_no_answers() -> None:
    """So that an output may be made in parts."""
    settings = Config.of(shard="1/2", where="a=b", shuffle=1, select="x").answer_settings()
    assert settings == Config().answer_settings()
    assert not Selection()
    assert Selection(shuffle=0)
