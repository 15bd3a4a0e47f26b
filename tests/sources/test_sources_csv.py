"""CSV and TSV as people and programs write them."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest
from reading import read, read_until_broken

from vqa_async.config import Columns
from vqa_async.errors import InputError
from vqa_async.models import Failure, Record
from vqa_async.sources import RowReader
from vqa_async.sources.csv_rows import CsvRows


def parse(content: bytes, size: int = 1 << 20, **options: object) -> list[Record | Failure]:
    """The rows of a file that comes in chunks of so many bytes."""
    parser = CsvRows("in.csv", RowReader(Columns(), prompt="What?", clock=lambda: 0.0), **options)
    results = [
        result for at in range(0, len(content), size) for result in parser.feed(content[at : at + size])
    ]
    results += parser.end()
    assert parser.count == len(results)
    assert [getattr(r, "record", r).index for r in results] == list(range(len(results)))
    return results


def rows(content: bytes, size: int = 1 << 20) -> list[dict[str, object]]:
    return [
        result.row if isinstance(result, Record) else {"!": result.error.message}
        for result in parse(content, size)
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 1 << 20])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_quoted_line_breaks_quotes_and_delimiters_are_data(size: int, end: str) -> None:
    """However the bytes are cut into chunks, and however lines end."""
    text = f'image,conversation{end}a.png,"What, ""this""?{end}And é\u2028?"{end}{end}b.png,5" wide?{end}'
    assert rows(text.encode(), size) == [
        {"image": "a.png", "conversation": f'What, "this"?{end}And é\u2028?'},
        {"image": "b.png", "conversation": '5" wide?'},
    ]


def test_cells_of_json_are_values_and_all_others_are_text() -> None:
    """Numbers stay the text that they are; what only looks like JSON does too."""
    content = b"id,image,conversation,n,o\n"
    content += b'007,"[""a.png""]","[{""from"":""human"",""value"":""?""}]",1.50,[a].png\n'
    (row,) = rows(content)
    assert row == {
        "id": "007",
        "image": ["a.png"],
        "conversation": [{"from": "human", "value": "?"}],
        "n": "1.50",
        "o": "[a].png",
    }


def test_an_empty_cell_is_no_value() -> None:
    """A row of text only, and one without an id of its own."""
    (row,) = rows(b"id,image,conversation\n,,Why?\n")
    assert row == {"conversation": "Why?"}


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_told_by_the_first_line(delimiter: str) -> None:
    """What stands in quotes does not count."""
    first = delimiter.join(['"a,;|,;|,;|"', "image", "conversation"])
    assert rows(f"{first}\n{delimiter.join(['1', 'a.png', 'Why?'])}\n".encode()) == [
        {"a,;|,;|,;|": "1", "image": "a.png", "conversation": "Why?"}
    ]


def test_rows_with_too_few_or_too_many_cells_fail_alone() -> None:
    """Each names its line, counted as an editor does."""
    found = rows(b'image,conversation\na.png\nb.png,"x\ny"\nc.png,Why?,1\nd.png,Why?\n')
    assert found == [
        {"!": "in.csv line 2: it has 1 cells, but there are 2 columns."},
        {"image": "b.png", "conversation": "x\ny"},
        {"!": "in.csv line 5: it has 3 cells, but there are 2 columns."},
        {"image": "d.png", "conversation": "Why?"},
    ]


@pytest.mark.parametrize("size", [1, 5, 1 << 20])
def test_a_quote_that_is_never_closed_costs_one_row(size: int) -> None:
    """The rows behind it, which it would swallow, are read."""
    found = rows(b'image,conversation\na.png,"Why?\nb.png,Why?\nc.png,Why?', size)
    assert found == [
        {"!": "in.csv line 2: a quote in it is never closed."},
        {"image": "b.png", "conversation": "Why?"},
        {"image": "c.png", "conversation": "Why?"},
    ]


def test_bytes_that_are_no_utf_8_cost_one_row() -> None:
    """As in JSON."""
    first, second = parse(b"image,conversation\na.png,caf\xe9\nb.png,caf\xc3\xa9\n")
    assert isinstance(first, Failure)
    assert "not valid Unicode" in first.error.message
    assert second.row["conversation"] == "café"


def test_cells_of_many_bytes_are_read_and_the_process_is_left_as_it_was() -> None:
    """The library's own limit is 128 KiB, for all that use it."""
    before, text = csv.field_size_limit(), "x" * 3_000_000
    (row,) = rows(f'conversation,n\n"{text}",1\n'.encode(), 1 << 18)
    assert row["conversation"] == text
    assert csv.field_size_limit() == before


def test_a_row_of_very_many_lines_is_read() -> None:
    """Not anew for each chunk: that would take minutes."""
    text = "line\n" * 400_000
    (row,) = rows(f'conversation\n"{text}"\n'.encode(), 1 << 14)
    assert row["conversation"] == text


def test_what_is_longer_than_is_held_costs_one_row() -> None:
    """A line without an end, and a quote that would swallow all that follows."""
    found = parse(b"image,conversation\na.png," + b"x" * 2000 + b"\nb.png,Why?\n", 100, limit=1000)
    assert [isinstance(result, Failure) for result in found] == [True, False]
    assert found[0].error.code == "line_too_long"
    found = parse(b'image,conversation\na.png,"x\n' + b"b.png,Why?\n" * 200, 100, limit=1000)
    assert [isinstance(result, Failure) for result in found] == [True] + [False] * 200


@pytest.mark.parametrize("seed", range(20))
def test_what_the_library_writes_is_read_back(seed: int, tmp_path: Path) -> None:
    """Cells of all kinds of characters, in chunks of all sizes."""
    draw = random.Random(seed)
    cells = [
        ["".join(draw.choices('ab",;\n\r\t é', k=draw.randrange(9))) for _ in range(3)] for _ in range(50)
    ]
    path = tmp_path / "in.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "c"], *cells])
    wanted = [{name: cell for name, cell in zip("abc", row, strict=True) if cell} for row in cells]
    assert rows(path.read_bytes(), draw.randrange(1, 100)) == wanted


async def test_the_content_tells_where_the_name_does_not(tmp_path: Path) -> None:
    """By a column that is asked for; --format tells for sure."""
    for name in ("table", "in.txt"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbfimage;conversation\r\na.png;Why?\r\n")
        (record,) = await read(tmp_path / name)
        assert record.row == {"image": "a.png", "conversation": "Why?"}
    (tmp_path / "in.txt").write_bytes(b"picture,question\na.png,Why?\n")
    _, said = await read_until_broken(tmp_path / "in.txt")
    assert "is no JSON" in said
    columns = Columns(image_key="picture", conversation_key="question")
    (record,) = await read(tmp_path / "in.txt", format="csv", columns=columns)
    assert record.messages[0].parts[1] == "Why?"


async def test_a_table_without_rows_or_with_a_name_twice_is_refused(tmp_path: Path) -> None:
    """In a sentence; a column without a name gets one."""
    (tmp_path / "in.csv").write_bytes(b"image,conversation\n")
    assert (await read_until_broken(tmp_path / "in.csv"))[1].startswith("in.csv holds no records.")
    (tmp_path / "in.csv").write_bytes(b"image,image\na,b\n")
    assert "several columns that are called 'image'" in (await read_until_broken(tmp_path / "in.csv"))[1]
    assert rows(b",conversation\n0,Why?\n") == [{"column_1": "0", "conversation": "Why?"}]
    with pytest.raises(InputError):
        parse(b"a,a\n1,2\n")
