"""A report holds what the output holds: figures, records, images; and survives what outputs may be."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report_outputs import (
    ASK,
    BEGAN,
    answered,
    copies,
    entries,
    failed,
    group,
    keep,
    lying,
    picture,
    tiles,
)

from vqa_async.config import Config
from vqa_async.errors import ConfigError, ImageError, InputError, JournalDamaged, RateLimited
from vqa_async.journal import Journal, JournalPaths, survey
from vqa_async.report import ReportOptions, write_report
from vqa_async.report import write as writing


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Five answers and two failures, with images of several kinds."""
    picture(tmp_path / "red.png")
    lying(tmp_path / "lying.jpg")
    data = base64.b64encode((tmp_path / "red.png").read_bytes()).decode()
    limited = RateLimited("Too many requests.", status=429)
    turned, url = ["lying.jpg", "red.png"], "https://example.com/a.png"
    results = [
        answered(
            0, {"id": "a", "image": ["red.png"], "conversation": ASK, "topic": "art"}, [("What?", "Red.")]
        ),
        answered(
            1,
            {"id": "b", "image": turned, "conversation": ASK},
            [
                ("Which way?", "Up.", ("length", "refusal")),
                ("Sure?", "Yes."),
            ],
            style="counting",
            attempts=3,
        ),
        answered(2, {"id": "c", "image": url, "conversation": ASK}, text="Only prose."),
        answered(
            3, {"id": "d", "image": f"data:image/png;base64,{data}", "conversation": ASK}, [("D?", "d")]
        ),
        answered(4, {"id": "e", "conversation": ASK}, [("E?", "e")], model="other", finish_reason="length"),
        failed(5, {"id": "f", "image": ["gone.png"], "conversation": ASK}),
        failed(6, {"id": "g", "image": ["red.png"], "conversation": ASK}, limited),
    ]
    return keep(tmp_path / "out.jsonl", results, counts={"elapsed_s": 4.0, "cost": 0.5})


def by_id(page: Path) -> dict[str, dict[str, Any]]:
    return {entry["id"]: entry for entry in entries(page)}


def test_the_figures_are_those_of_the_output(output: Path, tmp_path: Path) -> None:
    """They agree with what `status` counts, and with the pairs in the lines."""
    summary = write_report(output, tmp_path / "r.html")
    found, shown = survey(JournalPaths.of(output)), tiles(tmp_path / "r.html")
    assert (summary.answered, summary.failed) == (found.replayed.succeeded, found.failed) == (5, 2)
    assert shown["Answered"][0] == "5"
    assert shown["Failed"] == ("2", "1 may pass on retry")
    assert shown["Pairs"] == ("5", "1 per record, 1 without")
    assert shown["Flagged"] == ("1", "20 % of pairs")
    assert shown["Tokens"] == (f"{found.prompt_tokens + found.completion_tokens}", "500 in, 50 out")
    assert shown["Cost"] == ("$0.5000", "$100.00 per 1,000")
    assert shown["Time"] == ("4 s", "1.75 records/s")


def test_every_record_stands_in_the_page_in_input_order(output: Path, tmp_path: Path) -> None:
    """In the order of the input, with pairs, flags and what the row held; failures with their reasons."""
    write_report(output, tmp_path / "r.html")
    found = by_id(tmp_path / "r.html")
    assert list(found) == ["a", "b", "c", "d", "e", "f", "g"]
    assert found["a"]["pairs"] == [["What?", "Red.", [], None, 0]]
    assert found["a"]["row"] == [["topic", "art"]]
    assert found["b"]["pairs"][0][2] == ["length", "refusal"]
    assert found["b"]["style"] == "counting"
    assert found["c"]["text"] == "Only prose."
    assert found["e"]["model"] == "other"
    assert found["f"]["error"] == {
        "code": "file_not_found",
        "message": "Image 'x.png' was not found.",
        "status": None,
        "retryable": False,
    }
    assert found["g"]["error"]["retryable"]


def test_images_are_small_copies_each_once_and_upright(output: Path, tmp_path: Path) -> None:
    """One copy for each image, however often it is shown; one that lies on its side is turned."""
    summary = write_report(output, tmp_path / "r.html")
    found, images = by_id(tmp_path / "r.html"), copies(tmp_path / "r.html")
    assert len(images) == summary.images == 3  # red.png, lying.jpg, and the one in the row itself
    red, turned = found["a"]["images"][0], found["b"]["images"][0]
    assert red["said"] == "64 × 48 PNG"
    assert found["b"]["images"][1]["at"] == found["g"]["images"][0]["at"] == red["at"]
    assert turned["said"] == "30 × 60 JPEG"
    with Image.open(io.BytesIO(base64.b64decode(images[turned["at"]]))) as shown:
        assert shown.size == (30, 60)
        assert shown.format == "JPEG"


def test_an_image_that_cannot_be_shown_is_a_reason_in_its_place(output: Path, tmp_path: Path) -> None:
    """A missing file and a URL cost nothing but themselves, and nothing is downloaded."""
    (tmp_path / "lying.jpg").write_bytes(b"no image at all")
    summary = write_report(output, tmp_path / "r.html")
    found = by_id(tmp_path / "r.html")
    assert summary.missing == 3
    assert "not found" in found["f"]["images"][0]["problem"]
    assert found["c"]["images"] == [
        {"name": "https://example.com/a.png", "problem": "A URL: nothing is downloaded for a report."}
    ]
    assert "problem" in found["b"]["images"][0]
    assert found["b"]["images"][1]["said"] == "64 × 48 PNG"
    assert found["d"]["images"][0]["name"].startswith("(in the row itself")


def test_a_page_of_many_images_has_them_all(tmp_path: Path) -> None:
    """More than stand in one block of it; a conversation that nobody can read is shown as it was."""
    for n in range(130):
        picture(tmp_path / f"{n}.png", (n, 0, 0), (8, 8))
    results = [answered(n, {"id": f"r{n}", "image": [f"{n}.png"]}, [("q", "a")]) for n in range(130)]
    odd = failed(130, {"id": "odd", "conversation": [{"from": "nobody", "value": 3}]})
    write_report(keep(tmp_path / "out.jsonl", [*results, odd]), tmp_path / "r.html")
    found, images = by_id(tmp_path / "r.html"), copies(tmp_path / "r.html")
    assert len(images) == 130
    for n in (0, 99, 100, 129):
        copy = base64.b64decode(images[found[f"r{n}"]["images"][0]["at"]])
        with Image.open(io.BytesIO(copy)) as shown:
            assert abs(shown.convert("RGB").getpixel((4, 4))[0] - n) < 12  # type: ignore[index, operator]
    assert found["odd"]["asked"] == [["", '[{"from":"nobody","value":3}]']]


def test_an_image_that_the_run_would_not_look_at_is_not_shown(tmp_path: Path) -> None:
    """A record of a stranger cannot get a file into the page that --image-root kept from the run."""
    picture(tmp_path / "private.png")
    outside = ImageError("Image is outside of the folder.", code="path_outside_root")
    row = {"id": "a", "image": [str(tmp_path / "private.png")], "conversation": ASK}
    write_report(keep(tmp_path / "out.jsonl", [failed(0, row, outside)]), tmp_path / "r.html")
    assert copies(tmp_path / "r.html") == []
    assert "images" not in entries(tmp_path / "r.html")[0]


def test_an_embedded_image_is_shown(tmp_path: Path) -> None:
    """What stands in a Parquet file of the input is found there by its reference."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    made = io.BytesIO()
    Image.new("RGB", (20, 10), (0, 0, 255)).save(made, "PNG")
    table = pyarrow.table({"image": [{"bytes": made.getvalue(), "path": "cat.png"}]})
    parquet.write_table(table, tmp_path / "in.parquet")
    row = {"id": "a", "image": ["in.parquet#0/image/0/cat.png", "in.parquet#7/image"], "conversation": ASK}
    write_report(keep(tmp_path / "out.jsonl", [answered(0, row, [("q", "a")])]), tmp_path / "r.html")
    first, second = entries(tmp_path / "r.html")[0]["images"]
    assert first["said"] == "20 × 10 PNG"
    assert "no such image" in second["problem"]


def test_answers_to_several_questions_about_a_row_are_one_record(tmp_path: Path) -> None:
    """Its pairs bear the id and number by which a decision finds them."""
    results = [
        answered(0, {"questions": ["One?", "Two?"]}, [("One?", "1")], id="r#1", group=group("r", 1, 3)),
        answered(0, {"questions": ["One?", "Two?"]}, [("Two?", "2")], id="r#2", group=group("r", 2, 3)),
    ]
    summary = write_report(keep(tmp_path / "out.jsonl", results), tmp_path / "r.html")
    (entry,) = entries(tmp_path / "r.html")
    assert (entry["id"], entry["unanswered"]) == ("r", 1)
    assert [pair[4:] for pair in entry["pairs"]] == [[0, "r#1"], [0, "r#2"]]
    assert (summary.records, summary.answered) == (1, 2)


def test_what_verification_said_is_in_it(tmp_path: Path) -> None:
    """Agreement stands beside a pair, and below the threshold it is a flag."""
    from vqa_async.journal.codec import _line
    from vqa_async.quality.verdicts import pair_id

    out = keep(tmp_path / "out.jsonl", [answered(0, {"id": "a"}, [("q", "yes"), ("p", "no")])])
    lines = [
        _line({"agreement": score}, {"reply": "x"}, {"id": pair_id("a", n, *pair), "index": n, "model": "m"})
        for n, pair, score in ((1, ("q", "yes"), 0.9), (2, ("p", "no"), 0.2))
    ]
    (tmp_path / "out.checks.jsonl").write_bytes(b"".join(lines))
    write_report(out, tmp_path / "r.html")
    (entry,) = entries(tmp_path / "r.html")
    assert [pair[2:4] for pair in entry["pairs"]] == [[[], 0.9], [["disagreement"], 0.2]]
    write_report(out, tmp_path / "r.html", verify_threshold=0.1)
    assert entries(tmp_path / "r.html")[0]["pairs"][1][2] == []


def test_a_sample_is_the_same_each_time_and_leaves_the_figures(tmp_path: Path) -> None:
    """Drawn by id, so that a record stays in it however the output is ordered; counts are of the whole."""
    results = [answered(n, {"id": f"r{n}"}, [("q", "a")]) for n in range(60)]
    once = keep(tmp_path / "once.jsonl", results)
    turned = keep(tmp_path / "turned.jsonl", reversed(results))
    summary = write_report(once, tmp_path / "1.html", sample=7)
    write_report(turned, tmp_path / "2.html", ReportOptions(sample=7))
    ids = [entry["id"] for entry in entries(tmp_path / "1.html")]
    assert len(ids) == summary.records == 7
    assert ids == [entry["id"] for entry in entries(tmp_path / "2.html")]
    assert tiles(tmp_path / "1.html")["Answered"][0] == "60"
    assert "7 records of 60, a sample" in (tmp_path / "1.html").read_text()
    write_report(once, tmp_path / "3.html", sample=600)
    assert len(entries(tmp_path / "3.html")) == 60


def test_images_may_stand_beside_the_page_or_nowhere(output: Path, tmp_path: Path) -> None:
    """The folder is replaced as a whole, and never one that somebody else keeps things in."""
    page = tmp_path / "r.html"
    summary = write_report(output, page, thumbnails="beside")
    files = sorted(path.name for path in (tmp_path / "r.files" / "0").iterdir())
    assert files == ["0.jpg", "1.jpg", "2.jpg"]
    assert summary.files == [page, tmp_path / "r.files"]
    assert copies(page) == []
    assert write_report(output, page, thumbnails="beside").images == 3
    (tmp_path / "r.files" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"mine\.txt"):
        write_report(output, page, thumbnails="beside")
    assert write_report(output, page, thumbnails="none").images == 0
    assert "at" not in by_id(page)["a"]["images"][0]


def test_an_output_that_is_being_written_is_reported_as_far_as_it_goes(output: Path, tmp_path: Path) -> None:
    """Its last line may be half there."""
    whole = output.read_bytes()
    for cut, answers in ((1, 5), (40, 4), (300, 4)):
        output.write_bytes(whole[:-cut])
        assert write_report(output, tmp_path / "r.html").answered == answers
    output.write_bytes(whole[:-1] + b"\n" + whole[:100])
    assert write_report(output, tmp_path / "r.html").answered == 5


def test_failures_that_are_tidied_meanwhile_are_read_again(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of a run rewrites them: what was noted of their places is worth nothing then."""
    failures = JournalPaths.of(output).failures
    lines, tidied = failures.read_bytes().splitlines(keepends=True), []
    count = writing.count

    def tidy(*arguments: Any) -> None:
        count(*arguments)
        if not tidied:
            tidied.append(True)
            failures.unlink()
            failures.write_bytes(lines[1])

    monkeypatch.setattr(writing, "count", tidy)
    assert write_report(output, tmp_path / "r.html").failed == 1
    assert [entry["id"] for entry in entries(tmp_path / "r.html")][5:] == ["g"]


@pytest.mark.parametrize("is_replaced", [False, True])
def test_lines_that_are_no_longer_where_they_were_are_no_figures(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    """Where a run has rewritten the file, it is read again; where somebody else has, that is said."""
    count, whole, spoilt = writing.count, output.read_bytes(), []

    def spoil(*arguments: Any) -> None:
        count(*arguments)
        if not spoilt:
            spoilt.append(True)
            output.write_bytes(b"x" * len(whole))
            if is_replaced:
                output.rename(tmp_path / "old.jsonl")
                output.write_bytes(whole)

    monkeypatch.setattr(writing, "count", spoil)
    if is_replaced:
        assert write_report(output, tmp_path / "r.html").answered == 5
    else:
        with pytest.raises(JournalDamaged, match="changed while they were read"):
            write_report(output, tmp_path / "r.html")


def test_an_output_that_never_stands_still_is_refused(
    output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some tries there is a sentence, and no page."""
    numbers = iter(range(1000))
    monkeypatch.setattr(writing._Report, "_inodes", lambda _: [next(numbers)])
    with pytest.raises(ConfigError, match="Try again"):
        write_report(output, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_an_output_without_a_record_has_a_page(tmp_path: Path) -> None:
    """It says that there is nothing yet."""
    summary = write_report(keep(tmp_path / "out.jsonl", []), tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    assert summary.records == 0
    assert "No answer yet." in text
    assert "No record has ended yet." in text


def test_what_cannot_be_is_refused_in_a_sentence(output: Path, tmp_path: Path) -> None:
    """Nothing is overwritten that belongs to the output, and no page is left half written."""
    (tmp_path / "folder").mkdir()
    before = output.read_bytes()
    refusals: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
        (output, {}, ConfigError, "overwrite"),
        (output.with_name("out.failures.jsonl"), {}, ConfigError, "overwrite"),
        (tmp_path / "folder", {}, ConfigError, "is a folder"),
        (
            tmp_path / "nowhere" / "r.html",
            {},
            ConfigError,
            "cannot be written: there is no folder .* Make it",
        ),
        ("r\0.html", {}, ConfigError, "cannot be a file"),
        (tmp_path / "r.html", {"sample": -1}, ConfigError, "negative"),
        (tmp_path / "r.html", {"thumbnails": "huge"}, ConfigError, "thumbnails"),
        (tmp_path / "r.html", {"verify_threshold": 2}, ConfigError, "threshold"),
        (tmp_path / "r.html", {"colour": "red"}, ConfigError, "unknown"),
        (tmp_path / "r.html", {"options": ReportOptions(), "sample": 3}, ConfigError, "not both"),
    ]
    for page, options, error, words in refusals:
        with pytest.raises(error, match=words):
            write_report(output, page, **options)
    with pytest.raises(InputError):
        write_report(tmp_path / "none.jsonl", tmp_path / "r.html")
    assert output.read_bytes() == before
    assert not list(tmp_path.glob("*.html"))


def test_a_damaged_output_is_refused_as_by_an_export(output: Path, tmp_path: Path) -> None:
    """A figure of lines that somebody changed would be no figure."""
    lines = output.read_bytes().splitlines(keepends=True)
    output.write_bytes(lines[0].replace(b"Red", b"Rad") + b"".join(lines[1:]))
    with pytest.raises(JournalDamaged, match="line 1"):
        write_report(output, tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_values_that_no_version_of_ours_wrote_do_no_harm(tmp_path: Path) -> None:
    """A line with a right checksum may hold anything."""
    from vqa_async.journal.codec import _line

    odd: dict[str, Any] = {"id": "x", "index": 0, "model": 7, "usage": 3, "latency_s": "soon", "style": ["a"]}
    odd |= {"finished_at": -5, "attempts": True, "endpoint": None}
    out = keep(tmp_path / "out.jsonl", [])
    out.write_bytes(_line({"a": None, "b": {"c": 1}}, {"vqa": "t", "qa_pairs": [{"question": 5}]}, odd))
    summary = write_report(out, tmp_path / "r.html")
    (entry,) = entries(tmp_path / "r.html")
    assert entry["pairs"] == [["5", "", [], None, 0]]
    assert entry["row"] == [["b", '{"c":1}']]
    assert summary.answered == 1


def test_endless_texts_are_clipped_and_the_page_says_so(tmp_path: Path) -> None:
    """Nobody reads a megabyte of repetition, and it would be the largest thing in the page."""
    row = {"id": "a", "note": "n" * 5000}
    out = keep(tmp_path / "out.jsonl", [answered(0, row, [("q" * 30_000, "a")] * 600)])
    write_report(out, tmp_path / "r.html")
    (entry,) = entries(tmp_path / "r.html")
    assert entry["pairs"][0][0].endswith("q… (10,000 more characters)")
    assert entry["row"][0][1].endswith("n… (3,000 more characters)")
    assert (len(entry["pairs"]), entry["more"]) == (500, 100)


def test_the_state_of_the_run_is_said(tmp_path: Path) -> None:
    """Also where it was killed, or there is no run file."""
    out = keep(tmp_path / "out.jsonl", [answered(0, {"id": "a"}, [("q", "a")], finished_at=BEGAN)])
    run = tmp_path / "out.run.json"
    content = json.loads(run.read_bytes())
    cases = [
        (
            {"state": "stopped", "reason": "The key <b> was refused"},
            "stopped early",
            "The key &lt;b&gt; was refused.",
        ),
        ({"state": "running"}, "killed", "run the same command again"),
        (
            {"state": "interrupted", "reason": "Interrupted by SIGINT"},
            "interrupted",
            "Interrupted by SIGINT.",
        ),
        (
            {"state": "finished", "counts": {"skipped": 4, "cost": 2, "elapsed_s": 1}},
            "finished",
            "of the last run",
        ),
        ({"state": "odd", "counts": 3, "started_at": 1e300}, "odd", "There is no run file"),
    ]
    for changes, word, words in cases:
        run.write_text(json.dumps(content | {"reason": ""} | changes))
        write_report(out, tmp_path / "r.html")
        text = (tmp_path / "r.html").read_text()
        assert f">{word}</span>" in text
        assert words in text
    run.unlink()
    write_report(out, tmp_path / "r.html", title="<Title>")
    assert "unknown</span>" in (tmp_path / "r.html").read_text()
    assert "&lt;Title&gt;" in (tmp_path / "r.html").read_text()


async def test_a_run_that_goes_on_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    """The page says so; what is written a moment later is not in it, and does not disturb it."""
    async with Journal(tmp_path / "out.jsonl", Config.of(model="m"), source="in.jsonl") as journal:
        for n in range(3):
            await journal.append(answered(n, {"id": f"r{n}"}, [("q", "a")]))
        assert write_report(tmp_path / "out.jsonl", tmp_path / "r.html").answered == 3
        await journal.append(answered(3, {"id": "r3"}, [("q", "a")]))
        text = (tmp_path / "r.html").read_text()
        assert ">running</span>" in text
        assert "The run goes on" in text
        await journal.close("finished", "", {})


def test_names_that_are_not_there_are_no_names_of_the_room() -> None:
    """Loaded when they are used, and only those that there are."""
    import vqa_async.report

    with pytest.raises(AttributeError, match="nothing"):
        vqa_async.report.nothing  # noqa: B018
