"""Exports: the guide's form to the byte, in the order of the input, and never half a file."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from vqa_async.config import Config
from vqa_async.errors import ConfigError, ImageError, InputError, JournalDamaged
from vqa_async.export import FORMATS, export, format_for
from vqa_async.journal import Journal
from vqa_async.models import Completion, Failure, QAPair, Record, Result, Success, Usage

ASK = [{"from": "human", "value": "Generate complete QA pairs based on image content and caption."}]
TEXT = (
    "- Q: What is the title of the movie shown on the poster?\n  A: Nightmare Alley\n\n"
    "- Q: Farbe?\n  A: Gold, größer"
)


def answer(n: int, row: dict[str, Any] | None = None, text: str = TEXT) -> Success:
    own = {"image": [f"./{n}.png"], "conversation": ASK} if row is None else row
    return Success(
        Record(f"r{n}", n, own, ()),
        Completion(text, "qwen", "stop", Usage(1, 2)),
        (QAPair("Farbe?", "Gold"),),
        endpoint="http://localhost:8000/v1",
        attempts=1,
        latency_s=0.5,
        finished_at=1.5,
        request_digest="00",
    )


def write(output: Path, *results: Result, **options: Any) -> None:
    async def main() -> None:
        config = Config.of(model="qwen", fsync="never", **options)
        async with Journal(output, config, source="in.json") as journal:
            for result in results:
                await journal.append(result)
            await journal.close("finished", "", {})

    asyncio.run(main())


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def left_behind(folder: Path) -> list[Path]:
    return list(folder.glob(".*"))


def test_json_has_the_form_of_the_guide(out: Path) -> None:
    """Image and answer, indented by two blanks, text as it is; no conversation, nothing about how."""
    write(out, answer(0, {"image": ["./data/image_vqa/person.png"], "conversation": ASK}))
    target = out.with_name("vqa.json")
    assert export(out, target) == 1
    assert target.read_text() == (
        "[\n"
        "  {\n"
        '    "image": [\n'
        '      "./data/image_vqa/person.png"\n'
        "    ],\n"
        '    "vqa": "- Q: What is the title of the movie shown on the poster?\\n  A: Nightmare Alley'
        '\\n\\n- Q: Farbe?\\n  A: Gold, größer"\n'
        "  }\n"
        "]\n"
    )


def test_json_is_what_the_standard_library_would_write(out: Path) -> None:
    """Many rows, with fields of their own, empty and nested ones among them."""
    rows = [{"image": "a.png", "n": n, "empty": [], "deep": {"a": [{}, None, [1]]}} for n in range(5)]
    write(out, *(answer(n, row) for n, row in enumerate(rows)))
    export(out, out.with_name("o.json"))
    expected = [{**row, "vqa": TEXT} for row in rows]
    assert out.with_name("o.json").read_text() == json.dumps(expected, indent=2, ensure_ascii=False) + "\n"


def test_the_order_is_that_of_the_input(out: Path) -> None:
    """However the answers came in."""
    numbers = list(range(300))
    random.Random(3).shuffle(numbers)
    write(out, *(answer(n) for n in numbers))
    for name in ("o.json", "o.jsonl"):
        assert export(out, out.with_name(name)) == 300
    images = [row["image"][0] for row in json.loads(out.with_name("o.json").read_bytes())]
    assert images == [f"./{n}.png" for n in range(300)]
    lines = out.with_name("o.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["_meta"]["index"] for line in lines] == list(range(300))


def test_failures_are_not_exported(out: Path) -> None:
    """Their records are simply not there."""
    failed = Failure(Record("r1", 1, {"image": "b.png"}, ()), ImageError("no"), 0, 1.0)
    write(out, answer(2), failed, answer(0))
    assert export(out, out.with_name("o.json")) == 2
    assert b"b.png" not in out.with_name("o.json").read_bytes()


def test_jsonl_has_everything_but_the_checksum(out: Path) -> None:
    """One object a line; the sum would be wrong in another file."""
    write(out, answer(0))
    export(out, out.with_name("o.jsonl"))
    (line,) = map(json.loads, out.with_name("o.jsonl").read_bytes().splitlines())
    whole = json.loads(out.read_bytes())
    del whole["_meta"]["crc"]
    assert line == whole


def test_other_field_names_are_respected(out: Path) -> None:
    """The conversation is left out under the name that it had in this run."""
    row = {"pics": ["a.png"], "chat": ASK, "conversation": "a field like any other"}
    write(out, answer(0, row), conversation_key="chat", image_key="pics", output_key="answer")
    export(out, out.with_name("o.json"))
    assert json.loads(out.with_name("o.json").read_bytes()) == [
        {"pics": ["a.png"], "conversation": "a field like any other", "answer": TEXT}
    ]


@pytest.mark.parametrize(("name", "text"), [("o.json", b"[]\n"), ("o.jsonl", b"")])
def test_an_output_without_answers_is_an_empty_export(out: Path, name: str, text: bytes) -> None:
    """A valid file, not an error."""
    write(out)
    assert export(out, out.with_name(name)) == 0
    assert out.with_name(name).read_bytes() == text


@pytest.mark.parametrize(
    "value", [2**64, -(10**30), {"a": [10**100]}, "\ud800", "\u2028\0", 1e300, True, None]
)
def test_unusual_values_are_exported_as_they_were(out: Path, value: Any) -> None:
    """Integers of any length are not rounded."""
    write(out, answer(0, {"x": value}), answer(1, {"x": "größer"}))
    for name in ("o.json", "o.jsonl"):
        export(out, out.with_name(name))
        text = out.with_name(name).read_bytes().decode("utf-8", "strict")
        rows = json.loads(text) if name == "o.json" else [json.loads(line) for line in text.split("\n")[:-1]]
        assert [row["x"] for row in rows] == [value, "größer"]


def test_an_unfinished_output_can_be_exported(out: Path) -> None:
    """What is whole is exported; the output is left as it is."""
    write(out, answer(1), answer(0))
    torn = out.read_bytes()[:-30]
    out.write_bytes(torn)
    assert export(out, out.with_name("o.json")) == 1
    assert json.loads(out.with_name("o.json").read_bytes())[0]["image"] == ["./1.png"]
    out.write_bytes(torn[:50])
    assert export(out, out.with_name("o.json")) == 0
    assert out.read_bytes() == torn[:50]


def test_a_last_line_without_its_newline_is_exported(out: Path) -> None:
    """It is whole."""
    write(out, answer(0))
    out.write_bytes(out.read_bytes()[:-1])
    assert export(out, out.with_name("o.jsonl")) == 1
    assert out.with_name("o.jsonl").read_bytes().count(b"\n") == 1


def harm_middle(data: bytes) -> bytes:
    return data.replace(b"./1.png", b"./7.png")


def harm_twice(data: bytes) -> bytes:
    return data + data.splitlines(keepends=True)[1]


@pytest.mark.parametrize("harm", [harm_middle, harm_twice])
def test_a_damaged_output_is_refused_and_the_old_export_kept(out: Path, harm) -> None:  # type: ignore[no-untyped-def]
    """With the line's number and what to do."""
    write(out, *(answer(n) for n in range(3)))
    out.write_bytes(harm(out.read_bytes()))
    target = out.with_name("o.json")
    target.write_bytes(b"old")
    with pytest.raises(JournalDamaged, match=rf"{out}, line \d, .*--repair"):
        export(out, target)
    assert target.read_bytes() == b"old"
    assert not left_behind(out.parent)


def test_a_file_that_is_no_output_is_refused(out: Path) -> None:
    """Neither an input nor the failures of a run become an export."""
    write(out, Failure(Record("r1", 1, {}, ()), ImageError("no"), 0, 1.0))
    foreign = out.with_name("in.jsonl")
    foreign.write_bytes(b'{"image": "a.png"}\n')
    for wrong in (foreign, out.with_name("out.failures.jsonl")):
        with pytest.raises(JournalDamaged, match="line 1"):
            export(wrong, out.with_name("o.json"))
    assert not out.with_name("o.json").exists()


def test_an_output_that_is_not_there_is_said(out: Path) -> None:
    """Nothing is made."""
    with pytest.raises(InputError, match=r"out\.jsonl cannot be read: No such file"):
        export(out, out.with_name("o.json"))
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    "name", ["out.jsonl", "out.failures.jsonl", "out.run.json", "./link.json", "out.jsonl.lock"]
)
def test_the_output_is_not_overwritten_by_its_own_export(out: Path, name: str) -> None:
    """Nor any file beside it, under whatever name."""
    write(out, answer(0))
    before = out.read_bytes()
    out.with_name("link.json").symlink_to(out)
    with pytest.raises(ConfigError, match="would overwrite the output"):
        export(out, out.parent / name, format="json")
    assert out.read_bytes() == before


def test_an_export_through_a_link_goes_to_the_file(out: Path) -> None:
    """The link stays a link."""
    write(out, answer(0))
    (out.parent / "elsewhere").mkdir()
    out.with_name("link.json").symlink_to(out.parent / "elsewhere" / "o.json")
    export(out, out.with_name("link.json"))
    assert out.with_name("link.json").is_symlink()
    assert json.loads((out.parent / "elsewhere" / "o.json").read_bytes())


@pytest.mark.parametrize(
    ("name", "format", "message"),
    [
        (
            "o.txt",
            "",
            r"There is no export format 'txt' \(known formats: json, jsonl, csv, .*\)\. Give one",
        ),
        ("o.json", "xml", r"There is no export format 'xml' "),
        ("o", "", r"The name .*o has no suffix \(known formats: json, jsonl, csv, "),
    ],
)
def test_an_unknown_form_is_refused_with_the_known_ones(
    out: Path, name: str, format: str, message: str
) -> None:
    """Before anything is written."""
    write(out, answer(0))
    with pytest.raises(ConfigError, match=message):
        export(out, out.with_name(name), format=format)
    assert not out.with_name(name).exists()


def test_the_form_is_taken_from_the_flag_before_the_suffix() -> None:
    """In any case of letters."""
    assert format_for(Path("o.JSON")) is FORMATS["json"]
    assert format_for(Path("o.json"), "jsonl") is FORMATS["jsonl"]


@pytest.mark.parametrize(
    "name", ["no/o.json", ".", "out.jsonl/o.json", "a\0.json", "circle.json", "x" * 300 + ".json"]
)
def test_a_target_that_cannot_be_written_is_said(out: Path, name: str) -> None:
    """In one sentence; nothing is left behind."""
    write(out, answer(0))
    out.with_name("circle.json").symlink_to(out.with_name("circle.json"))
    with pytest.raises(ConfigError, match=r"The export .* cannot be .*\.$"):
        export(out, out.parent / name, format="json")
    assert not left_behind(out.parent)


def test_a_disk_that_is_full_leaves_the_old_export(out: Path) -> None:
    """The new one takes the name only when it is whole."""
    disk = out.parent / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this test mounts a small disk, and that is not permitted here")
    try:
        (disk / "o.json").write_bytes(b"old")
        write(out, *(answer(n, text="x" * 10_000) for n in range(10)))
        with pytest.raises(ConfigError, match="No space left"):
            export(out, disk / "o.json")
        assert [(p.name, p.read_bytes()) for p in disk.iterdir()] == [("o.json", b"old")]
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_what_killed_exports_left_is_swept_up(out: Path) -> None:
    """But not what another export is writing at this moment."""
    write(out, answer(0))
    stale, fresh, other = (
        out.with_name(n) for n in (".o.json.1234.new", ".o.json.5678.new", ".p.json.12.new")
    )
    for path in (stale, fresh, other):
        path.write_bytes(b"[\n")
    for path in (stale, other):
        os.utime(path, (time.time() - 7200,) * 2)
    export(out, out.with_name("o.json"))
    assert sorted(left_behind(out.parent)) == sorted([fresh, other])


def test_an_export_keeps_the_permissions_of_the_old_one(out: Path) -> None:
    """Replacing is not publishing."""
    write(out, answer(0))
    target = out.with_name("o.json")
    target.touch(mode=0o600)
    export(out, target)
    assert target.stat().st_mode & 0o777 == 0o600
