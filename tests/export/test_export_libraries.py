"""Every export that a library reads is read by that library: nothing is lost, changed or put out of order."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from outputs import ALL_PAIRS, ASK, PAIRS, answered, json_lines, keep, picture
from PIL import Image

from vqa_async.errors import ConfigError
from vqa_async.export import ExportOptions, export_dataset
from vqa_async.export import parquet as parquet_module
from vqa_async.export import shards as shards_module

IDS = ["one", "several", "url", "text", "prose"]


@pytest.fixture
def load_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``datasets.load_dataset``, offline, with a cache of its own."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    return lambda path, **options: datasets.load_dataset(path, cache_dir=str(tmp_path / "hf"), **options)


def as_pairs(pairs: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(pair["question"], pair["answer"]) for pair in pairs]


def test_a_hub_folder_loads_with_datasets(out: Path, load_dataset: Any) -> None:
    """Images as images, pairs, texts and the rest of the rows."""
    target = out.with_name("hub")
    summary = export_dataset(out, target, ExportOptions(format="hf"))
    assert summary.files == [target]
    loaded = load_dataset(str(target))
    assert list(loaded) == ["train"]
    rows = loaded["train"]
    assert rows["id"] == IDS
    assert {row["id"]: as_pairs(row["qa_pairs"]) for row in rows.remove_columns("images")} == PAIRS | {
        "prose": []
    }
    several = rows[1]
    assert [image.size for image in several["images"]] == [(8, 6), (8, 6)]
    assert several["images"][1].convert("RGB").getpixel((0, 0)) == (255, 0, 0)
    assert several["messages"][0] == {"role": "user", "content": f"<image><image>{PAIRS['several'][0][0]}"}
    assert json.loads(rows[0]["fields"]) == {"tags": ["a", {"b": None}], "n": 2**53}
    assert rows[3]["images"] == []


def test_a_hub_folder_with_splits_and_several_shards_loads(
    tmp_path: Path, load_dataset: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A split that nothing falls into has no file, for then nothing could be loaded."""
    monkeypatch.setattr(parquet_module, "SHARD_BYTES", 2000)
    results = [answered(n, {"id": f"r{n}", "conversation": ASK}, [("Q?", f"A{n}")] * 2) for n in range(40)]
    out = keep(tmp_path / "out.jsonl", results)
    options = ExportOptions(format="hf", split="train=0.799,val=0.2,none=0.001", pairs_as="rows")
    summary = export_dataset(out, tmp_path / "hub", options)
    names = sorted(path.name for path in (tmp_path / "hub" / "data").iterdir())
    assert summary.splits["none"] == 0
    assert not [name for name in names if name.startswith("none-")]
    assert len([name for name in names if name.startswith("train-")]) > 3
    loaded = load_dataset(str(tmp_path / "hub"))
    assert {name: len(rows) // 2 for name, rows in loaded.items()} == {
        name: count for name, count in summary.splits.items() if count
    }
    numbers = [int(row["answer"][1:]) for row in loaded["train"]]
    assert numbers == sorted(numbers)
    assert sorted(numbers + [int(row["answer"][1:]) for row in loaded["val"]]) == sorted(2 * list(range(40)))


def test_the_card_is_valid_for_the_hub(out: Path) -> None:
    """Front matter that the Hub's own library reads; counts, model, host, prompts, no key."""
    hub = pytest.importorskip("huggingface_hub")
    export_dataset(
        out, out.with_name("hub"), ExportOptions(format="hf", license="cc-by-4.0", split="train=.7,val=.3")
    )
    card = hub.DatasetCard.load(out.with_name("hub") / "README.md")
    assert card.data.license == "cc-by-4.0"
    assert card.data.task_categories == ["visual-question-answering"]
    assert card.data.size_categories == ["n<1K"]
    assert card.data.to_dict()["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*"}
    for said in (
        "| Records | 5 |",
        "| Question-answer pairs | 7 |",
        "| Records without an answer, not in it | 1 |",
        "| Model | qwen-vl |",
        "| Endpoint | models.example |",
        "| Answered | 2023-11-14 |",
        "### System prompt",
    ):
        assert said in card.text


def test_parquet_is_read_by_pyarrow_and_datasets(out: Path, load_dataset: Any) -> None:
    """References as text, or bytes that 'datasets' opens."""
    arrow = pytest.importorskip("pyarrow.parquet")
    target = out.with_name("o.parquet")
    export_dataset(out, target)
    rows = arrow.read_table(target).to_pylist()
    assert [row["id"] for row in rows] == IDS
    assert [as_pairs(row["qa_pairs"]) for row in rows] == [*PAIRS.values(), []]
    assert rows[1]["images"] == ["in/blue one.jpg", "in/pics/red.png"]
    export_dataset(out, target, ExportOptions(with_images="embed"))
    bytes_of = [[image["bytes"] for image in row["images"]] for row in arrow.read_table(target).to_pylist()]
    assert bytes_of[0] == [(out.parent / "in/pics/red.png").read_bytes()]
    assert bytes_of[2] == [None]  # of a URL
    loaded = load_dataset("parquet", data_files=str(target), split="train")
    assert loaded[0]["images"][0].size == (8, 6)


def test_csv_is_read_back(out: Path) -> None:
    """Quotes, line breaks and nested values survive; all fields of all rows are columns."""
    target = out.with_name("o.csv")
    export_dataset(out, target)
    with target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "image", "tags", "n", "vqa", "qa_pairs", "note"]
    assert [row["id"] for row in rows] == IDS
    assert [as_pairs(json.loads(row["qa_pairs"])) for row in rows] == [*PAIRS.values(), []]
    assert json.loads(rows[0]["image"]) == ["pics/red.png"]
    assert (rows[0]["n"], rows[0]["note"], rows[1]["note"]) == (str(2**53), "", "größer")
    export_dataset(out, target, ExportOptions(pairs_as="rows"))
    with target.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["question"], row["answer"]) for row in rows if row["question"]] == ALL_PAIRS
    assert rows[-1]["vqa"] == "It is <image> red."


def test_half_a_surrogate_pair_spoils_no_table(tmp_path: Path) -> None:
    """Its escape stands where UTF-8 cannot hold it."""
    arrow = pytest.importorskip("pyarrow.parquet")
    row = {"id": "a", "conversation": ASK, "odd": "\ud800"}
    out = keep(tmp_path / "out.jsonl", [answered(0, row, [("Q\udfff?", "A")])])
    export_dataset(out, tmp_path / "o.csv")
    assert "\\ud800" in (tmp_path / "o.csv").read_text(encoding="utf-8")
    export_dataset(out, tmp_path / "o.parquet", ExportOptions(pairs_as="rows"))
    assert arrow.read_table(tmp_path / "o.parquet").to_pylist()[0]["question"] == "Q\\udfff?"


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # webdataset leaves its streams to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_the_shards(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys without dots, images before their text, over several shards; the same bytes each time."""
    webdataset = pytest.importorskip("webdataset")
    monkeypatch.setattr(shards_module, "SHARD_BYTES", 3000)
    target = out.with_name("shards")
    export_dataset(out, target, ExportOptions(format="webdataset"))
    tars = sorted(target.glob("*.tar"))
    assert len(tars) > 1
    assert tars[0].name == "shard-000000.tar"
    before = [tar.read_bytes() for tar in tars]
    samples = list(webdataset.WebDataset([str(t) for t in tars], shardshuffle=False, empty_check=False))
    texts = [json.loads(sample["json"]) for sample in samples]
    assert [sample["__key__"] for sample in samples] == [f"{n:09}" for n in range(5)]
    assert [text["id"] for text in texts] == IDS
    assert [as_pairs(text["qa_pairs"]) for text in texts] == [*PAIRS.values(), []]
    assert samples[0]["png"] == (out.parent / "in/pics/red.png").read_bytes()
    assert Image.open(io.BytesIO(samples[1]["0.jpg"])).size == (8, 6)
    assert texts[1]["images"] == ["000000001.0.jpg", "000000001.1.png"]
    assert texts[2]["images"] == ["https://example.com/a.png"]
    export_dataset(out, target, ExportOptions(format="webdataset"))
    assert [tar.read_bytes() for tar in sorted(target.glob("*.tar"))] == before
    export_dataset(out, target, ExportOptions(format="webdataset", split="train=0.5,val=0.5"))
    assert sorted(path.name[:3] for path in target.glob("*.tar"))[0] == "tra"


@pytest.mark.parametrize("name", ["o.json", "o.jsonl"])
def test_own_forms_keep_every_pair(out: Path, name: str) -> None:
    """A row a pair, in the order of the input; one JSONL export can be the input of the next run."""
    target = out.with_name(name)
    export_dataset(out, target, ExportOptions(pairs_as="rows"))
    rows = json_lines(target) if name == "o.jsonl" else json.loads(target.read_bytes())
    assert [(row["question"], row["answer"]) for row in rows[:-1]] == ALL_PAIRS
    assert "question" not in rows[-1]
    assert rows[-1]["vqa"] == "It is <image> red."


def test_a_folder_of_somebody_else_is_not_replaced(out: Path) -> None:
    """Nor one of ours to which something was added, nor a file; an empty folder is taken."""
    target = out.with_name("hub")
    target.mkdir()
    options = ExportOptions(format="hf")
    for _ in range(2):
        export_dataset(out, target, options)
    (target / "data" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds data/notes\.txt, which no export has made"):
        export_dataset(out, target, options)
    assert (target / "data" / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError, match="is a file"):
        export_dataset(out, out.with_name("out.failures.jsonl").rename(out.with_name("x")), options)
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".")]


def test_a_missing_library_is_named(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra to install; nothing is left behind."""
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    for name, form in (("o.parquet", ""), ("hub", "hf")):
        with pytest.raises(ConfigError, match=r"pip install 'vqa-async\[parquet\]'"):
            export_dataset(out, out.with_name(name), ExportOptions(format=form))  # type: ignore[arg-type]
    assert not [path for path in out.parent.iterdir() if path.name.startswith(".") or path.name == "hub"]


def test_images_of_a_picture_that_is_gone_cost_only_their_record(out: Path) -> None:
    """Left out and counted where the bytes are wanted; referred to and counted where not."""
    (out.parent / "in" / "blue one.jpg").unlink()
    summary = export_dataset(out, out.with_name("hub"), ExportOptions(format="hf"))
    assert (summary.records, summary.without_image) == (4, 1)
    assert "'blue one.jpg' was not found" in summary.sentences()[0]
    summary = export_dataset(out, out.with_name("o.json"), ExportOptions(format="llava"))
    assert (summary.records, summary.unfound) == (5, 1)
    assert "1 images were not found" in summary.sentences()[0]


def test_a_data_uri_and_a_file_with_the_same_content_are_one_copy(tmp_path: Path) -> None:
    """Copies are named by content, whatever they were called; hard links share their bytes."""
    import base64

    data = picture(tmp_path / "a b.dat")
    uri = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    rows = [{"image": ["a b.dat", uri], "conversation": ASK}]
    out = keep(tmp_path / "out.jsonl", [answered(n, row, [("Q?", "A")]) for n, row in enumerate(rows)])
    for mode, links in (("copy", 1), ("link", 1)):
        export_dataset(out, tmp_path / "o.json", ExportOptions(format="llava", with_images=mode))  # type: ignore[arg-type]
        (row,) = json.loads((tmp_path / "o.json").read_bytes())
        assert len(set(row["image"])) == 1
        assert (tmp_path / row["image"][0]).read_bytes() == data
        assert (tmp_path / row["image"][0]).stat().st_nlink == links
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    export_dataset(out, tmp_path / "o.json", ExportOptions(with_images="link"))
    (row,) = json.loads((tmp_path / "o.json").read_bytes())
    assert (tmp_path / row["image"][0]).stat().st_nlink == 2
