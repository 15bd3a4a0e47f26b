"""What trainers read: each form against the rules that its trainer has."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from outputs import ALL_PAIRS, ASK, PAIRS, answered, json_lines, keep, picture

from vqa_async.errors import ConfigError
from vqa_async.export import ExportOptions, export_dataset

Rows = list[dict[str, Any]]


def exported(out: Path, name: str = "set.json", **options: Any) -> Rows:
    """The rows of an export in a folder of its own."""
    target = out.with_name("export") / name
    target.parent.mkdir(exist_ok=True)
    export_dataset(out, target, ExportOptions(**options))
    rows: Rows = json_lines(target) if target.suffix == ".jsonl" else json.loads(target.read_bytes())
    return rows


def require_alternating(turns: Rows, who: str, users: str, models: str) -> None:
    assert turns
    assert len(turns) % 2 == 0
    assert [turn[who] for turn in turns] == [users, models] * (len(turns) // 2)


def pairs_of(turns: Rows, content: str) -> list[tuple[str, str]]:
    """Questions and answers, without the placeholders in front."""
    texts = [turn[content].removeprefix("<image>\n").removeprefix("<image>\n") for turn in turns]
    texts = [text.removeprefix("<image>").removeprefix("<image>") for text in texts]
    return list(zip(texts[::2], texts[1::2], strict=True))


def check_sharegpt(row: dict[str, Any], folder: Path) -> None:
    """LLaMA-Factory: human in odd places, gpt in even; as many placeholders as images; files exist."""
    require_alternating(row["conversations"], "from", "human", "gpt")
    assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(row["images"])
    for image in row["images"]:
        assert image.startswith("https://") or (folder / image).is_file()


def check_llava(row: dict[str, Any], folder: Path) -> None:
    """LLaVA: a string or a list of paths, or no such field; a single placeholder leads its turn."""
    require_alternating(row["conversations"], "from", "human", "gpt")
    images = row.get("image", [])
    assert images != [] or "image" not in row
    images = [images] if isinstance(images, str) else images
    assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == len(images)
    if len(images) == 1:
        assert any(turn["value"].startswith("<image>\n") for turn in row["conversations"])
    for image in images:
        assert image.startswith("https://") or (folder / image).is_file()


def check_swift(row: dict[str, Any]) -> None:
    """ms-swift: messages, one placeholder an image, absolute paths or data URIs."""
    messages = row["messages"]
    if messages[0]["role"] == "system":
        messages = messages[1:]
    require_alternating(messages, "role", "user", "assistant")
    assert sum(turn["content"].count("<image>") for turn in messages) == len(row["images"])
    for image in row["images"]:
        assert image.startswith(("https://", "data:image/")) or (
            Path(image).is_absolute() and Path(image).is_file()
        )


def check_openai(row: dict[str, Any]) -> None:
    """OpenAI: no other field, image parts of users alone, data URIs of JPEG, PNG or WebP, or URLs."""
    assert set(row) == {"messages"}
    messages = row["messages"]
    if messages[0]["role"] == "system":
        messages = messages[1:]
    require_alternating(messages, "role", "user", "assistant")
    for message in messages[::2]:
        for part in message["content"]:
            if part["type"] == "text":
                assert isinstance(part["text"], str)
                continue
            url = part["image_url"]["url"]
            if not url.startswith("https://"):
                head, _, data = url.partition(",")
                assert head in ("data:image/png;base64", "data:image/jpeg;base64")
                assert base64.b64decode(data, validate=True)
    assert all(isinstance(message["content"], str) for message in messages[1::2])


@pytest.mark.parametrize("name", ["set.json", "set.jsonl"])
@pytest.mark.parametrize("with_images", ["", "copy", "link"])
@pytest.mark.parametrize("form", ["sharegpt", "llava"])
def test_sharegpt_and_llava_keep_their_rules_and_all_pairs(
    out: Path, name: str, with_images: Any, form: Any
) -> None:
    """In input order, nothing of the texts changed; images where the trainer looks for them."""
    rows = exported(out, name, format=form, with_images=with_images)
    assert [row["id"] for row in rows] == ["one", "several", "url", "text", "prose"]
    for row in rows:
        (check_sharegpt if form == "sharegpt" else check_llava)(row, out.with_name("export"))
        if row["id"] in PAIRS:
            assert pairs_of(row["conversations"], "value") == PAIRS[row["id"]]


def test_an_answer_without_pairs_is_the_conversation_that_was_sent(out: Path) -> None:
    """Its images where they were, its own system turn, a placeholder that the model wrote made harmless."""
    row = exported(out, format="sharegpt")[-1]
    assert row["system"] == "Be brief."
    assert [turn["value"] for turn in row["conversations"]] == [
        "Look: <image> What now?",
        "A square.",
        "Describe it.",
        "It is < image > red.",
    ]
    row = exported(out, format="llava")[-1]
    assert row["conversations"][0]["value"] == "<image>\nBe brief.\nLook:  What now?"


@pytest.mark.parametrize("with_images", ["", "embed", "copy"])
def test_swift_keeps_its_rules_and_all_pairs(out: Path, with_images: Any) -> None:
    """Absolute paths by default; a system prompt where one is given."""
    rows = exported(out, "set.jsonl", format="swift", with_images=with_images, system="Look well.")
    assert len(rows) == 5
    for row, pairs in zip(rows, PAIRS.values(), strict=False):
        check_swift(row)
        assert row["messages"][0] == {"role": "system", "content": "Look well."}
        assert pairs_of(row["messages"][1:], "content") == pairs
    assert rows[1]["images"][0].startswith("data:image/jpeg;base64," if with_images == "embed" else "/")


def test_openai_keeps_its_rules_and_all_pairs(out: Path) -> None:
    """Image parts come before the question."""
    rows = exported(out, "set.jsonl", format="openai")
    assert len(rows) == 5
    for row, pairs in zip(rows, PAIRS.values(), strict=False):
        check_openai(row)
        asked = [message["content"][-1]["text"] for message in row["messages"][::2]]
        said = [message["content"] for message in row["messages"][1::2]]
        assert list(zip(asked, said, strict=True)) == pairs
    assert [part["type"] for part in rows[1]["messages"][0]["content"]] == ["image_url", "image_url", "text"]
    assert rows[4]["messages"][0]["role"] == "system"


def test_openai_leaves_out_what_it_would_refuse(tmp_path: Path) -> None:
    """A GIF, and eleven images; it is said."""
    picture(tmp_path / "a.gif", format="GIF")
    picture(tmp_path / "a.png")
    rows = [{"image": "a.gif"}, {"image": ["a.png"] * 11}, {"image": "a.png"}]
    out = keep(
        tmp_path / "out.jsonl",
        [answered(n, r | {"conversation": ASK}, [("Q?", "A")]) for n, r in enumerate(rows)],
    )
    summary = export_dataset(out, tmp_path / "o.jsonl", ExportOptions(format="openai"))
    assert (summary.records, summary.without_image) == (1, 2)
    assert "must be JPEG" in summary.sentences()[0]


@pytest.mark.parametrize("form", ["sharegpt", "llava"])
def test_a_row_a_pair(out: Path, form: Any) -> None:
    """Each with its images and an id of its own."""
    rows = exported(out, format=form, pairs_as="rows")
    assert [row["id"] for row in rows] == [
        "one#1", "several#1", "several#2", "url#1", "text#1", "text#2", "text#3", "prose",
    ]  # fmt: skip
    for row in rows:
        (check_sharegpt if form == "sharegpt" else check_llava)(row, out.with_name("export"))
    assert [p for row in rows[:-1] for p in pairs_of(row["conversations"], "value")] == ALL_PAIRS


def test_conversations_of_any_order_alternate(tmp_path: Path) -> None:
    """Users who speak twice, models who speak first or last, images that no user shows."""
    conversations = [
        [
            {"from": "gpt", "value": "Hello."},
            {"from": "human", "value": "a"},
            {"from": "human", "value": "b"},
        ],
        [{"from": "human", "value": "a"}, {"from": "gpt", "value": "It goes"}],
        [
            {"from": "human", "value": "a"},
            {"from": "gpt", "value": "see <image>"},
            {"from": "human", "value": "b"},
        ],
        "only text",
        None,
    ]
    picture(tmp_path / "a.png")
    rows = [{"image": "a.png", "conversation": c} for c in conversations]
    out = keep(
        tmp_path / "out.jsonl", [answered(n, row, text="T") for n, row in enumerate(rows)], prompt="P?"
    )
    found = exported(out, format="sharegpt", image_paths="absolute")
    for row in found:
        require_alternating(row["conversations"], "from", "human", "gpt")
        assert sum(turn["value"].count("<image>") for turn in row["conversations"]) == 1
    assert [row["conversations"][0]["value"] for row in found] == [
        "a\n<image>b", "<image>a", "<image>a", "<image>only text", "<image>P?",
    ]  # fmt: skip
    assert Path(found[0]["images"][0]).is_absolute()


def test_llama_factory_is_told_of_the_data_set(out: Path) -> None:
    """Its entry stands beside those of others; a name that is taken is refused before anything is written."""
    info = out.with_name("dataset_info.json")
    info.write_text('{"mine": {"file_name": "mine.json"}}')
    for _ in range(2):
        export_dataset(
            out, out.with_name("vqa.json"), ExportOptions(format="sharegpt", split="train=.5,val=.5")
        )
    entries = json.loads(info.read_bytes())
    assert list(entries) == ["mine", "vqa_train", "vqa_val"]
    assert entries["vqa_val"] == {
        "file_name": "vqa.val.json",
        "formatting": "sharegpt",
        "columns": {"messages": "conversations", "images": "images", "system": "system"},
    }
    with pytest.raises(ConfigError, match="another data set called 'mine'"):
        export_dataset(out, out.with_name("mine.jsonl"), ExportOptions(format="sharegpt"))
    assert not out.with_name("mine.jsonl").exists()
    info.write_text("[]")
    with pytest.raises(ConfigError, match="no JSON object"):
        export_dataset(out, out.with_name("vqa.json"), ExportOptions(format="sharegpt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "llava", "with_images": "embed"}, "llava cannot embed images: it can copy, link"),
        ({"format": "openai", "with_images": "copy"}, "openai cannot copy images: it can embed"),
        ({"format": "swift", "failures": "merged"}, "Failures have no answer.* choose json, jsonl, csv"),
    ],
)
def test_what_a_form_cannot_do_is_refused(out: Path, options: Any, message: str) -> None:
    """In one sentence."""
    with pytest.raises(ConfigError, match=message):
        export_dataset(out, out.with_name("o.json"), ExportOptions(**options))
