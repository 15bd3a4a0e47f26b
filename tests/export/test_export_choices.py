"""What is left out, what goes where: selections, groups, splits, failures."""

from __future__ import annotations

import base64
import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from outputs import ASK, add_line, answered, failed, json_lines, keep, picture

from vqa_async.api import run_sync
from vqa_async.config import Columns
from vqa_async.errors import ConfigError, JournalDamaged, TransportError
from vqa_async.export import ExportOptions, export_dataset
from vqa_async.export.options import shares
from vqa_async.export.splits import Splits
from vqa_async.models import Failure, Record
from vqa_async.sources import open_source

OURS = "http://models.example/v1"


def rows_of(out: Path, name: str = "o.jsonl", **options: Any) -> list[dict[str, Any]]:
    target = out.with_name(name)
    export_dataset(out, target, ExportOptions(**options))
    found = json_lines(target) if target.suffix == ".jsonl" else json.loads(target.read_bytes())
    assert isinstance(found, list)
    return found


# --- selections ----------------------------------------------------------------------------------------


@pytest.fixture
def flagged(tmp_path: Path) -> Path:
    """A clean record, one with a flagged pair of two, one with only flagged pairs, one without pairs."""
    out = keep(tmp_path / "out.jsonl", [answered(0, {"conversation": ASK}, [("Q0?", "A0")])])
    lines: list[list[dict[str, Any]]] = [
        [{"question": "Q1?", "answer": "A1"}, {"question": "Q2?", "answer": "", "flags": ["empty"]}],
        [{"question": "Q3?", "answer": "A3", "flags": ["refusal", "length"]}],
        [],
    ]
    for n, pairs in enumerate(lines, 1):
        add_line(out, {"conversation": ASK}, {"vqa": "whole", "qa_pairs": pairs}, {"id": f"r{n}", "index": n})
    return out


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["_meta"]["id"] for row in rows]


def test_flagged_pairs_are_left_out_and_counted(flagged: Path) -> None:
    """Of their texts too; a record that loses all its pairs goes, one that had none stays."""
    rows = rows_of(flagged, drop_flagged=True)
    assert ids(rows) == ["r0", "r1", "r3"]
    assert rows[1]["vqa"] == "- Q: Q1?\n  A: A1"
    assert rows[1]["qa_pairs"] == [{"question": "Q1?", "answer": "A1"}]
    summary = export_dataset(flagged, flagged.with_name("o.csv"), ExportOptions(drop_flagged=True))
    assert dict(summary.dropped) == {"flag empty": 1, "flag refusal": 1}
    assert summary.sentences() == [
        "2 pairs kept; left out: 1 flag empty, 1 flag refusal.",
        "1 records of which no pair is left are not in it: 1 flag refusal.",
    ]


@pytest.mark.parametrize("names", ["length, other", ("length",), ["other", "length"]])
def test_some_flags_can_be_named(flagged: Path, names: Any) -> None:
    """Others are kept, and stay in the full form."""
    rows = rows_of(flagged, drop_flagged=names)
    assert ids(rows) == ["r0", "r1", "r3"]
    assert rows[1]["vqa"] == "whole"
    assert rows[1]["qa_pairs"][1]["flags"] == ["empty"]


def decide(out: Path, *lines: dict[str, Any]) -> str:
    path = out.with_name("decisions.jsonl")
    path.write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    return str(path)


def test_what_people_reject_is_left_out(flagged: Path) -> None:
    """Whole records or single pairs; of two decisions the later; with only_accepted the rest goes too."""
    path = decide(
        flagged,
        {"id": "r0", "decision": "reject"},
        {"id": "r0", "decision": "accept"},
        {"id": "r1", "decision": "reject", "pair": 1},
        {"id": "r2", "decision": "accept", "pair": 0},
        {"id": "r3", "decision": "reject"},
    )
    rows = rows_of(flagged, decisions=path)
    assert ids(rows) == ["r0", "r1", "r2"]
    assert [pair["question"] for pair in rows[1]["qa_pairs"]] == ["Q1?"]
    assert ids(rows_of(flagged, decisions=path, only_accepted=True)) == ["r0", "r2"]
    summary = export_dataset(
        flagged, flagged.with_name("o.json"), ExportOptions(decisions=path, only_accepted=True)
    )
    assert dict(summary.dropped) == {"not accepted": 1, "rejected": 1}
    assert summary.emptied.total() == 2


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"id": "a"}', '{"id": 1, "decision": "accept"}', '{"id": "a", "decision": "maybe"}',
     '{"id": "a", "decision": "accept", "pair": -1}', '{"id": "a", "decision": "accept", "pair": true}'],
)  # fmt: skip
def test_a_line_that_is_no_decision_is_refused(flagged: Path, line: str) -> None:
    """With its place, before anything is written."""
    path = flagged.with_name("d.jsonl")
    path.write_text('{"id": "r0", "decision": "accept"}\n' + line)
    with pytest.raises(ConfigError, match="line 2, is no decision"):
        rows_of(flagged, decisions=str(path))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        rows_of(flagged, decisions="gone.jsonl")
    assert not flagged.with_name("o.jsonl").exists()


# --- groups --------------------------------------------------------------------------------------------


@pytest.fixture
def grouped(tmp_path: Path) -> Path:
    """Two rows of three questions each, answered out of order; of the second one question has failed."""
    out = keep(tmp_path / "out.jsonl", [])
    row = {"image": "a.png", "questions": ["q1", "q2", "q3"]}
    for index, number in ((1, 3), (0, 2), (1, 1), (0, 3), (0, 1)):
        pairs = [{"question": f"q{number}", "answer": f"a{index}{number}"}] if number != 2 else []
        meta = {
            "id": f"p{index}#{number}",
            "index": index,
            "group": {"id": f"p{index}", "number": number, "of": 3},
            "question": f"q{number}",
            "endpoint": OURS,
        }
        add_line(out, row, {"vqa": f"text {index}{number}", "qa_pairs": pairs}, meta)
    meta = {
        "id": "p1#2",
        "index": 1,
        "retryable": False,
        "group": {"id": "p1", "number": 2, "of": 3},
        "question": "q2",
    }
    error = {"type": "ImageError", "code": "bad_image", "message": "no"}
    add_line(tmp_path / "out.failures.jsonl", row, {"error": error}, meta)
    return out


def test_answers_to_several_questions_become_one_row(grouped: Path) -> None:
    """In the order of the questions; an answer without a pair has its question; what failed is counted."""
    rows = rows_of(grouped)
    assert [row["_meta"]["id"] for row in rows] == ["p0", "p1"]
    assert rows[0]["vqa"] == "- Q: q1\n  A: a01\n\n- Q: q2\n  A: text 02\n\n- Q: q3\n  A: a03"
    assert [pair["question"] for pair in rows[1]["qa_pairs"]] == ["q1", "q3"]
    assert rows[1]["_meta"]["unanswered"] == 1
    assert [part["id"] for part in rows[1]["_meta"]["parts"]] == ["p1#1", "p1#3"]
    summary = export_dataset(grouped, grouped.with_name("o.json"))
    assert (summary.records, summary.pairs, summary.unanswered) == (2, 5, 1)
    assert "1 questions of these rows have failed" in summary.sentences()[0]


def test_groups_can_be_left_as_they_are(grouped: Path) -> None:
    """A row for each question, still in order."""
    rows = rows_of(grouped, ungrouped=True)
    assert ids(rows) == ["p0#1", "p0#2", "p0#3", "p1#1", "p1#3"]
    assert rows[1]["vqa"] == "text 02"


def test_decisions_reach_into_groups(grouped: Path) -> None:
    """By the row, by the question, or by the number of the pair in the row."""
    path = decide(
        grouped,
        {"id": "p0#2", "decision": "reject"},
        {"id": "p0", "decision": "reject", "pair": 2},
        {"id": "p1", "decision": "reject"},
    )
    (row,) = rows_of(grouped, decisions=path)
    assert [pair["question"] for pair in row["qa_pairs"]] == ["q1"]


def test_failed_questions_are_asked_again_alone(grouped: Path) -> None:
    """The row with those of its questions that have no answer."""
    (row,) = rows_of(grouped, failures=True)
    assert row["questions"] == ["q2"]
    assert row["error"]["code"] == "bad_image"


# --- failures ------------------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """Answers and failures, one superseded by an answer, one by a later failure."""
    rows = [{"id": f"r{n}", "image": f"pics/{n}.png", "conversation": ASK} for n in range(5)]
    late = TransportError("late", code="timeout")
    results = [
        failed(4, rows[4], late),
        failed(1, rows[1], late),
        answered(3, rows[3], [("Q?", "A")]),
        failed(2, rows[2], late),
        answered(1, rows[1], [("Q?", "A")]),
        failed(2, rows[2]),
        answered(0, rows[0], [("Q?", "A")]),
    ]
    picture(tmp_path / "pics" / "2.png")
    return keep(tmp_path / "out.jsonl", results)


@pytest.mark.parametrize("name", ["f.jsonl", "f.json", "f.csv"])
def test_failures_alone_are_in_input_form_and_order(mixed: Path, name: str) -> None:
    """Of each record the newest, none that was answered since; with its error."""
    target = mixed.with_name(name)
    summary = export_dataset(mixed, target, ExportOptions(failures=True))
    assert (summary.records, summary.failed, summary.pairs) == (2, 2, 0)
    if name == "f.csv":
        with target.open(newline="", encoding="utf-8") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
        codes = [json.loads(row["error"])["code"] for row in rows]
    else:
        rows = json_lines(target) if name == "f.jsonl" else json.loads(target.read_bytes())
        codes = [row["error"]["code"] for row in rows]
        assert rows[0]["conversation"] == ASK
        assert "_meta" not in rows[0]
    assert [row["id"] for row in rows] == ["r2", "r4"]
    assert codes == ["file_not_found", "timeout"]


def test_failures_can_be_run_again_from_another_folder(tmp_path: Path) -> None:
    """Their images are found from there, and they are the same records, though their rows have no ids."""
    (tmp_path / "elsewhere").mkdir()
    picture(tmp_path / "pics" / "a.png")
    (tmp_path / "in.jsonl").write_text('{"image": "pics/a.png", "conversation": "Q?"}\n')

    async def first(path: Path) -> Record:
        async with open_source(str(path), Columns()) as source:
            async for item in source:
                assert not isinstance(item, Failure)
                return item
        raise AssertionError

    record = run_sync(lambda: first(tmp_path / "in.jsonl"))
    out = keep(tmp_path / "out.jsonl", [Failure(record, TransportError("late"), 1, 1.0)])
    target = tmp_path / "elsewhere" / "again.jsonl"
    export_dataset(out, target, ExportOptions(failures=True))
    again = run_sync(lambda: first(target))
    assert again.id == record.id
    assert (target.parent / str(again.images[0].value)).exists()
    export_dataset(out, tmp_path / "again.jsonl", ExportOptions(failures=True))
    (row,) = json_lines(tmp_path / "again.jsonl")
    assert {name: row[name] for name in row if name != "error"} == dict(record.row)


@pytest.mark.parametrize("name", ["o.json", "o.jsonl", "o.csv"])
def test_failures_can_be_merged(mixed: Path, name: str) -> None:
    """Each in its place among the answers."""
    summary = export_dataset(mixed, mixed.with_name(name), ExportOptions(failures="merged"))
    assert (summary.records, summary.failed, summary.pairs) == (5, 2, 3)
    copied = export_dataset(
        mixed, mixed.with_name(name), ExportOptions(failures="merged", with_images="copy")
    )
    assert (copied.failed, copied.without_image) == (2, 3)  # an answer without its image is of no use
    if name != "o.csv":
        rows = rows_of(mixed, name, failures="merged")
        assert [row["id"] for row in rows] == [f"r{n}" for n in range(5)]
        assert ["error" in row for row in rows] == [False, False, True, False, True]
        assert [row.get("vqa") for row in rows][2:4] == [None, "- Q: Q?\n  A: A"]


def test_failures_of_rows_that_are_none_are_shown(tmp_path: Path) -> None:
    """What stood there, and why."""
    row = {"_input": "{broken"}
    odd = {"image": 5, "conversation": ASK}
    out = keep(tmp_path / "out.jsonl", [failed(0, row), failed(1, odd)])
    rows = rows_of(out, failures=True)
    assert [r.get("_input", r.get("image")) for r in rows] == ["{broken", 5]
    (tmp_path / "out.failures.jsonl").unlink()
    assert rows_of(out, failures=True) == []


# --- splits --------------------------------------------------------------------------------------------


def split_names(out: Path, split: str, form: str = "llava", **options: Any) -> dict[str, str]:
    """The split of each record, by id."""
    target = out.with_name("s.json")
    export_dataset(out, target, ExportOptions(format=form, split=split, **options))  # type: ignore[arg-type]
    found = {}
    for name in shares(split):
        for row in json.loads(target.with_name(f"s.{name}.json").read_bytes()):
            found[row["id"]] = name
    assert not target.exists()
    return found


def test_no_image_is_in_two_splits(tmp_path: Path) -> None:
    """Also where records are tied together only through others; the shares are about right."""
    rows: list[dict[str, Any]] = []
    for n in range(0, 600, 3):
        rows += [
            {"id": f"a{n}", "image": [f"{n}.png"]},
            {"id": f"b{n}", "image": [f"./x/../{n}.png", f"{n + 1}.png"]},
            {"id": f"c{n}", "image": [str(tmp_path / f"{n + 1}.png")]},
        ]
    out = keep(
        tmp_path / "out.jsonl",
        [answered(n, r | {"conversation": ASK}, [("Q?", "A")]) for n, r in enumerate(rows)],
    )
    found = split_names(out, "train=0.8,val=0.1,test=0.1")
    assert len(found) == 600
    for n in range(0, 600, 3):
        assert found[f"a{n}"] == found[f"b{n}"] == found[f"c{n}"]
    counts = {name: list(found.values()).count(name) for name in ("train", "val", "test")}
    assert 420 < counts["train"] < 540
    assert min(counts.values()) > 20
    again = split_names(out, "train=0.8,val=0.1,test=0.1", drop_flagged=True)
    assert again == found


def test_a_record_keeps_its_split_when_others_come(tmp_path: Path) -> None:
    """In whatever order; rows without images go by their id."""
    rows = [
        {"id": f"r{n}", "conversation": ASK} | ({"image": f"{n}.png"} if n % 2 else {}) for n in range(80)
    ]
    few = keep(tmp_path / "few.jsonl", [answered(n, row, [("Q?", "A")]) for n, row in enumerate(rows[:40])])
    many = keep(
        tmp_path / "many.jsonl", [answered(n, row, [("Q?", "A")]) for n, row in enumerate(reversed(rows))]
    )
    before, after = split_names(few, "a=0.5,b=0.5"), split_names(many, "a=0.5,b=0.5")
    assert len(after) == 80
    assert before == {id: after[id] for id in before}


def test_the_same_content_under_two_names_is_one_image_where_it_is_read(tmp_path: Path) -> None:
    """Where bytes are embedded or copied; a URL and a missing file are known by name alone."""
    names = [f"{n}.png" for n in range(30)]
    for name in names:
        picture(tmp_path / name)
    rows = [{"id": name, "image": name, "conversation": ASK} for name in names]
    rows += [{"id": "u", "image": "https://e.com/u.png", "conversation": ASK}]
    rows += [{"id": "gone", "image": "gone.png", "conversation": ASK}]
    out = keep(tmp_path / "out.jsonl", [answered(n, row, [("Q?", "A")]) for n, row in enumerate(rows)])
    found = split_names(out, "a=0.5,b=0.5", with_images="copy")
    assert len({found[name] for name in names}) == 1
    assert len({split for id, split in split_names(out, "a=0.5,b=0.5").items() if id in names}) == 2


def test_chains_of_any_length_are_one_component() -> None:
    """Joined from both ends."""
    splits = Splits({"a": 0.5, "b": 0.5})
    for n in [*range(0, 100, 2), *range(1, 100, 2)]:
        splits.add([f"{n}", f"{n + 1}"], [f"{n}"])
    assert len({splits.of(n) for n in range(100)}) == 1


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("train=0.9", "are 0.9 together, not 1"),
        ("train=0.9,val=0.2", "are 1.1 together"),
        ("train=1,val=0", "share of val must be"),
        ("train=x", "share of train must be"),
        ("train", "share of train must be"),
        ("a/b=1", "no name of its own"),
        ("a=0.5,a=0.5", "no name of its own"),
    ],
)
def test_shares_that_cannot_be_are_refused(split: str, message: str) -> None:
    """With what is wrong."""
    with pytest.raises(ConfigError, match=message):
        ExportOptions(split=split)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"only_accepted": True}, "needs --decisions"), ({"license": "a b"}, "no name such as")],
)
def test_options_that_mean_nothing_are_refused(options: Any, message: str) -> None:
    """When they are made."""
    with pytest.raises(ConfigError, match=message):
        ExportOptions(**options)


# --- images in rows ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["copy", "embed"])
def test_rows_refer_to_their_copies_wherever_they_named_images(tmp_path: Path, mode: Any) -> None:
    """In the image field, whatever its shape, and in the parts of a conversation."""
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png", (0, 255, 0))
    part = {"type": "image_url", "image_url": {"url": "b.png"}}
    bare = {"type": "image_url", "image_url": "b.png"}
    turn = {"role": "user", "content": [part, bare, {"type": "text", "text": "Q?"}]}
    rows: list[dict[str, Any]] = [
        {"image": "a.png", "conversation": ASK},
        {"image": ["a.png"], "conversation": ASK},
        {"image": ["a.png"], "conversation": [turn, {"role": "user", "content": "And?"}]},
        {"image": "a.png", "conversation": [turn]},
        {"conversation": [turn]},
        {"conversation": "text only"},
    ]
    out = keep(tmp_path / "out.jsonl", [answered(n, row, [("Q?", "A")]) for n, row in enumerate(rows)])
    found = rows_of(out, with_images=mode)
    start = "images/" if mode == "copy" else "data:image/png;base64,"
    for row in found[:2]:
        assert str(row["image"]).strip("['").startswith(start)
    for row in found[2:5]:
        content = row["conversation"][0]["content"]
        assert content[0]["image_url"]["url"].startswith(start)
        assert content[1]["image_url"].startswith(start)
        assert "image" not in row or str(row["image"]).strip("['").startswith(start)
    assert len(list((tmp_path / "images").iterdir()) if mode == "copy" else "ab") == 2


# --- card and command ----------------------------------------------------------------------------------


def test_a_card_beside_any_form(flagged: Path) -> None:
    """Replaced by the next export, but never the README of somebody else."""
    options = ExportOptions(card=True, drop_flagged=True)
    for _ in range(2):
        export_dataset(flagged, flagged.with_name("o.csv"), options)
    card = flagged.with_name("README.md").read_text()
    assert "| Pairs left out: flag empty | 1 |" in card
    assert "configs:" not in card
    flagged.with_name("README.md").write_text("# Mine\n")
    with pytest.raises(ConfigError, match="was not written by an export"):
        export_dataset(flagged, flagged.with_name("o.csv"), options)
    assert flagged.with_name("README.md").read_text() == "# Mine\n"


def test_an_output_without_its_run_file_is_exported(flagged: Path) -> None:
    """With the usual names of fields."""
    flagged.with_name("out.run.json").unlink()
    assert len(rows_of(flagged, "o.json")) == 4


def test_the_command_has_all_of_it(mixed: Path) -> None:
    """Flags with and without values; paths on stdout, the rest on stderr."""

    def command(*flags: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "vqa_async", "export", *flags]
        return subprocess.run(line, cwd=mixed.parent, capture_output=True, text=True, check=False, timeout=30)

    done = command("--failures", "out.jsonl", "-o", "again.jsonl")
    assert (done.returncode, done.stdout) == (0, "again.jsonl\n")
    assert "2 failed records, in input order." in done.stderr
    done = command(
        "out.jsonl", "-o", "o.json", "--format=llava", "--split=train=0.5,val=0.5", "--drop-flagged=empty",
    )  # fmt: skip
    assert done.returncode == 0
    assert [Path(line).name for line in done.stdout.splitlines()] == ["o.train.json", "o.val.json"]
    assert "Splits: train" in done.stderr
    done = command("out.jsonl", "-o", "o.json", "--failures=merged", "--drop-flagged")
    assert "5 records, in input order." in done.stderr
    assert command("out.jsonl", "-o", "o.json", "--split", "a=2").returncode == 2


def test_damaged_failures_are_refused(mixed: Path) -> None:
    """As damaged answers are, and only where they are asked for."""
    failures = mixed.with_name("out.failures.jsonl")
    failures.write_bytes(failures.read_bytes().replace(b"late", b"soon", 1))
    assert len(rows_of(mixed)) == 3
    with pytest.raises(JournalDamaged, match=r"out\.failures\.jsonl, line 1"):
        rows_of(mixed, failures=True)


def test_records_that_have_left_the_input_are_left_out(mixed: Path) -> None:
    """Where the caller's order has no place for them."""
    target = mixed.with_name("o.jsonl")
    options = ExportOptions(failures="merged")
    export_dataset(mixed, target, options, place=lambda id, index: None if id in ("r0", "r4") else -index)
    assert [row["id"] for row in json_lines(target)] == ["r3", "r2", "r1"]


def test_images_from_standard_input_are_seen_from_the_working_directory(tmp_path: Path) -> None:
    """There is no other folder to look in."""
    out = keep(tmp_path / "out.jsonl", [answered(0, {"image": "a.png"}, [("Q?", "A")])], source="-")
    (row,) = rows_of(out, "o.json", format="llava")
    assert (tmp_path / row["image"]).resolve() == Path("a.png").resolve()


def test_what_is_no_image_is_not_taken_in(tmp_path: Path) -> None:
    """A record may name any file; only images go into a data set."""
    (tmp_path / "secret.png").write_text("root:x:0:0")
    out = keep(tmp_path / "out.jsonl", [answered(0, {"image": "secret.png"}, [("Q?", "A")])])
    summary = export_dataset(out, tmp_path / "o.json", ExportOptions(format="llava", with_images="copy"))
    assert (summary.records, summary.without_image) == (0, 1)
    assert "'secret.png' is not an image" in summary.first_missing
    assert not (tmp_path / "images").exists()


def test_a_disk_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The export is the same."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    data = picture(tmp_path / "a.png")
    out = keep(tmp_path / "out.jsonl", [answered(0, {"image": "a.png"}, [("Q?", "A")])])
    (row,) = rows_of(out, "o.json", format="llava", with_images="link")
    assert (tmp_path / row["image"]).read_bytes() == data


def test_data_uris_stay_what_they_are(tmp_path: Path) -> None:
    """Where nothing is copied or embedded; their decoded bytes count where it is."""
    uri = f"data:image/png;base64,{base64.b64encode(picture(tmp_path / 'a.png')).decode()}"
    rows = [{"image": uri}, {"image": "a.png"}]
    out = keep(tmp_path / "out.jsonl", [answered(n, r, [("Q?", "A")]) for n, r in enumerate(rows)])
    assert rows_of(out, "o.json", format="llava")[0]["image"] == uri
    assert rows_of(out, format="swift", with_images="embed")[1]["images"] == [uri]


def test_a_killed_folder_is_swept_up(mixed: Path) -> None:
    """As killed files are."""
    stale = mixed.with_name(".set.1234.new")
    (stale / "data").mkdir(parents=True)
    os.utime(stale, (0, 0))
    export_dataset(mixed, mixed.with_name("set"), ExportOptions(format="webdataset", failures=False))
    assert not stale.exists()


def test_names_that_are_not_there() -> None:
    """The room's names are loaded when used."""
    import vqa_async.export

    assert all(getattr(vqa_async.export, name) for name in vqa_async.export.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        vqa_async.export.nothing  # noqa: B018


@pytest.mark.parametrize("name", ["out.jsonl", "folder"])
def test_a_folder_that_does_not_exist_is_named(flagged: Path, tmp_path: Path, name: str) -> None:
    """It may be a slip of the pen: it is not made."""
    options = ExportOptions(format="webdataset" if name == "folder" else "jsonl")
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere\. Make it"):
        export_dataset(flagged, tmp_path / "nowhere" / name, options)
    assert not (tmp_path / "nowhere").exists()


def test_a_card_of_shards_names_them(flagged: Path) -> None:
    """So that the Hub finds them; a prompt that holds a fence stays in its own."""
    run = json.loads(flagged.with_name("out.run.json").read_bytes())
    run["settings"]["system_prompt"] = "Say ```text``` of <b>| it"
    flagged.with_name("out.run.json").write_text(json.dumps(run))
    for split, pattern in (("", "shard-*.tar"), ("a=1", "a-*.tar")):
        export_dataset(flagged, flagged.with_name("set"), ExportOptions("webdataset", split, card=True))
        card = (flagged.with_name("set") / "README.md").read_text()
        assert f"path: {pattern}" in card
        assert "````text\nSay ```text``` of <b>| it\n````" in card


def test_a_folder_that_cannot_take_its_name_leaves_the_old_one(
    flagged: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put back, and nothing is left beside it."""
    target = flagged.with_name("set")
    export_dataset(flagged, target, ExportOptions("webdataset"))
    before = sorted(path.read_bytes() for path in target.iterdir())
    rename = Path.rename

    def fail(self: Path, new: Path) -> Path:
        if self.name.endswith(".new") and not self.name.endswith(".old.new"):
            raise OSError(5, "Input/output error")
        return rename(self, new)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(ConfigError, match="cannot be written: Input/output error"):
        export_dataset(flagged, target, ExportOptions("webdataset"))
    assert sorted(path.read_bytes() for path in target.iterdir()) == before
    assert not [path for path in target.parent.iterdir() if path.name.startswith(".")]
