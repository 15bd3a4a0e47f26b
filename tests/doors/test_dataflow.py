"""The guide's class names: its pipeline script runs, resumes, and gives its output form."""

from __future__ import annotations

import csv
import json
import logging
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from PIL import Image

import vqa_async.dataflow
from vqa_async.dataflow import (
    APIVLMServing_openai,
    BatchVQAGenerator,
    FileStorage,
    ImageCaptionGenerator,
    ImageVQAPipeline,
    PromptedVQAGenerator,
    PromptTemplatedVQAGenerator,
)
from vqa_async.errors import AuthError, ConfigError
from vqa_async.workspace import create_workspace


class Endpoint:
    """The embedded endpoint in a process of its own: what is tested here has a loop of its own."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "vqa_async", "serve", "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        self.base_url = self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    running = Endpoint("--latency", "0.02")
    yield running
    running.close()


@pytest.fixture
def serving(endpoint: Endpoint) -> APIVLMServing_openai:
    return APIVLMServing_openai(api_url=endpoint.base_url, model_name="looks-1", max_workers=8)


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Paths of a red and a blue image."""
    paths = [tmp_path / "red.png", tmp_path / "blue.png"]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (40, 20), colour).save(path)
    return [str(path) for path in paths]


# The guide's pipeline, in the names and calls that it uses; only imports and address are ours.
PIPELINE = """
import os
import argparse
from vqa_async.dataflow import FileStorage
from vqa_async.dataflow import APIVLMServing_openai
from vqa_async.dataflow import PromptedVQAGenerator

os.environ["DF_API_KEY"] = "sk-canary-in-the-script"

class ImageVQAPipeline:
    def __init__(self, first_entry_file, cache_path="./cache_local_vqa", file_name_prefix="vqa_task",
                 cache_type="json"):
        self.storage = FileStorage(first_entry_file_name=first_entry_file, cache_path=cache_path,
                                   file_name_prefix=file_name_prefix, cache_type=cache_type)
        self.vlm_serving = APIVLMServing_openai(api_url="{url}", key_name_of_api_key="DF_API_KEY",
                                                model_name="looks-1", max_workers={workers})
        self.vqa_generator = PromptedVQAGenerator(serving=self.vlm_serving, system_prompt="Ask and answer.")

    def forward(self):
        self.vqa_generator.run(storage=self.storage.step(), input_conversation_key="conversation",
                               input_image_key="image", output_answer_key="vqa")

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--images_file", default="data/image_vqa/sample_data.json")
    ImageVQAPipeline(first_entry_file=parser.parse_args().images_file).forward()
"""


def prepare(folder: Path, url: str, count: int, workers: int = 4) -> None:
    """A working directory as the guide has it: script, images and questions, paths relative to it."""
    (folder / "data" / "image_vqa").mkdir(parents=True)
    Image.new("RGB", (30, 60), "green").save(folder / "data" / "image_vqa" / "person.png")
    rows = [
        {
            "image": ["./data/image_vqa/person.png"],
            "conversation": [{"from": "human", "value": f"Generate complete QA pairs. Variant {n}."}],
        }
        for n in range(count)
    ]
    (folder / "data" / "image_vqa" / "sample_data.json").write_text(json.dumps(rows))
    (folder / "pipeline.py").write_text(PIPELINE.format(url=url, workers=workers))


def test_the_guides_pipeline_runs_and_gives_its_output_form(endpoint: Endpoint, tmp_path: Path) -> None:
    """The step file is an array of image and vqa, in input order, answered from the image."""
    prepare(tmp_path, endpoint.base_url, count=3)
    subprocess.run([sys.executable, "pipeline.py"], cwd=tmp_path, check=True, timeout=30)
    answers = json.loads((tmp_path / "cache_local_vqa" / "vqa_task_step1.json").read_text())
    assert [sorted(answer) for answer in answers] == [["image", "vqa"]] * 3
    assert answers[0]["image"] == ["./data/image_vqa/person.png"]
    assert all(answer["vqa"].startswith("- Q: ") for answer in answers)
    assert all("30 x 60" in answer["vqa"] and "green" in answer["vqa"] for answer in answers)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_pipeline_resumes(number: signal.Signals, tmp_path: Path) -> None:
    """Interrupted and run again, it asks only what it has no answer to, and no key is on disk."""
    endpoint = Endpoint("--latency", "0.05")
    try:
        prepare(tmp_path, endpoint.base_url, count=120, workers=4)
        journal = tmp_path / "cache_local_vqa" / "vqa_task_step1.journal.jsonl"
        first = subprocess.Popen(
            [sys.executable, "pipeline.py"], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (
            journal.exists() and journal.read_bytes().count(b"\n") > 20
        ):
            time.sleep(0.02)
        first.send_signal(number)
        first.wait(20)
        kept = journal.read_bytes().count(b"\n")
        assert 20 < kept < 120
        subprocess.run([sys.executable, "pipeline.py"], cwd=tmp_path, check=True, timeout=30)
    finally:
        endpoint.close()
    step = json.loads((tmp_path / "cache_local_vqa" / "vqa_task_step1.json").read_text())
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len(step) == len({line["_meta"]["id"] for line in lines}) == len(lines) == 120
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "pipeline.py"]
    assert not [p for p in files if b"sk-canary" in p.read_bytes() or b"base64" in p.read_bytes()]


def test_the_workspace_script_runs_the_sample_data(endpoint: Endpoint, tmp_path: Path) -> None:
    """image_vqa.py of `init`, with the address of a running endpoint, answers the whole sample."""
    create_workspace(tmp_path, base_url=endpoint.base_url)
    command = [sys.executable, "image_vqa.py", "--images_file", "data/image_vqa/sample_data.json"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    sample = json.loads((tmp_path / "data" / "image_vqa" / "sample_data.json").read_text())
    answers = json.loads((tmp_path / "cache_local_vqa" / "vqa_task_step1.json").read_text())
    assert [answer.get("image") for answer in answers] == [row.get("image") for row in sample]


def test_steps_follow_one_another(serving: APIVLMServing_openai, images: list[str], tmp_path: Path) -> None:
    """A second operator reads what the first wrote, conversation included, and writes the next step."""
    row = {"image": [images[0]], "conversation": [{"from": "human", "value": "What?"}]}
    (tmp_path / "in.json").write_text(json.dumps([row]))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task", "jsonl")
    PromptedVQAGenerator(serving, "First.").run(storage.step())
    PromptedVQAGenerator(serving, "Second.").run(storage.step(), output_answer_key="more")
    last = json.loads((tmp_path / "cache" / "task_step2.jsonl").read_text())
    assert "red" in last["vqa"]
    assert "red" in last["more"]
    assert last["conversation"] == row["conversation"]


@pytest.mark.parametrize("cache_type", ["json", "jsonl"])
def test_later_steps_keep_the_order_of_the_first_input(
    cache_type: str, serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """The journal has answers as they came; what a step hands to the next is in the order of the rows."""
    rows = [{"n": n, "image": images[n % 2], "conversation": f"{n}?"} for n in range(12)]
    source = tmp_path / "in.json"
    generator = PromptedVQAGenerator(serving)
    source.write_text(json.dumps(rows[::-1]))
    generator.run(FileStorage(str(source), str(tmp_path / "cache"), "task", cache_type).step())
    source.write_text(json.dumps(rows))
    storage = FileStorage(str(source), str(tmp_path / "cache"), "task", cache_type)
    for key in ("vqa", "more"):
        generator.run(storage.step(), output_answer_key=key)
    text = (tmp_path / "cache" / f"task_step2.{cache_type}").read_text()
    last = json.loads(text) if cache_type == "json" else [json.loads(line) for line in text.splitlines()]
    assert [row["n"] for row in last] == list(range(12))
    assert all(row["vqa"] and row["more"] for row in last)


def test_the_pipeline_object_does_all_in_one(endpoint: Endpoint, images: list[str], tmp_path: Path) -> None:
    """ImageVQAPipeline(...).forward() may be called twice: the second call sends nothing."""
    rows = [{"image": path, "conversation": "Colour?"} for path in images]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    pipeline = ImageVQAPipeline(
        str(tmp_path / "in.json"), str(tmp_path / "cache"), api_url=endpoint.base_url, model_name="looks-1"
    )
    pipeline.forward()
    first = (tmp_path / "cache" / "vqa_task_step1.json").read_bytes()
    pipeline.forward()
    assert (tmp_path / "cache" / "vqa_task_step1.json").read_bytes() == first
    assert [("red" in a["vqa"], "blue" in a["vqa"]) for a in json.loads(first)] == [
        (True, False),
        (False, True),
    ]


def test_lists_of_texts_and_images_are_answered_in_order(
    serving: APIVLMServing_openai, images: list[str]
) -> None:
    """generate_from_input and its one-image form keep the order of what they are given."""
    answers = serving.generate_from_input(["Colour?"] * 3, "Be brief.", [images[0], [images[1]], None])
    assert ["red" in (a or "") for a in answers] == [True, False, False]
    assert ["blue" in (a or "") for a in answers] == [False, True, False]
    one = serving.generate_from_input_one_image(images, ["a", "b"], model="looks-1", timeout=5)
    assert ["red" in (a or "") for a in one] == [True, False]


def test_conversations_are_answered_with_their_images(
    serving: APIVLMServing_openai, images: list[str]
) -> None:
    """generate_from_input_messages takes both conversation forms; other media are refused."""
    conversations = [
        [{"from": "human", "value": "<image>Colour?"}],
        [{"role": "user", "content": "Colour?"}],
    ]
    answers = serving.generate_from_input_messages(
        conversations, [[images[0]], [images[1]]], system_prompt="S"
    )
    assert ["red" in (a or "") for a in answers] == [True, False]
    with pytest.raises(ConfigError, match="video_list"):
        serving.generate_from_input_messages(conversations, video_list=[["a.mp4"], []])


def test_several_images_go_with_their_labels(serving: APIVLMServing_openai, images: list[str]) -> None:
    """Both images of a group reach the endpoint; groups and labels must match in number."""
    answers = serving.generate_from_input_multi_images(
        [images], [["before", "after"]], user_prompts=["Compare."]
    )
    assert "red" in (answers[0] or "")
    assert "blue" in (answers[0] or "")
    with pytest.raises(ConfigError, match="2 image paths but 1 image labels"):
        serving.generate_from_input_multi_images([images], [["one"]])


def test_a_failed_item_is_none_and_counted(
    serving: APIVLMServing_openai, images: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Never a string that looks like an answer."""
    with caplog.at_level(logging.WARNING, "vqa_async.dataflow"):
        answers = serving.generate_from_input(["a", "b"], image_inputs=[images[0], "missing.png"])
    assert answers[1] is None
    assert not (answers[0] or "").startswith("Error")
    assert "1 of 2 items failed" in caplog.text
    serving.cleanup()


def test_failed_rows_stay_out_of_the_step_file(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They stand in the journal's failures, which the log names."""
    rows = [{"image": path, "conversation": "Colour?"} for path in [images[0], "missing.png"]]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    with caplog.at_level(logging.INFO, "vqa_async.dataflow"):
        PromptedVQAGenerator(serving).run(FileStorage(str(tmp_path / "in.json"), str(tmp_path / "c")).step())
    assert len(json.loads((tmp_path / "c" / "dataflow_cache_step_step1.json").read_text())) == 1
    assert "dataflow_cache_step_step1.journal.failures.jsonl" in caplog.text


def test_a_refused_key_is_raised_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operator raises the reason; the key is in no message."""
    monkeypatch.setenv("MY_KEY", "sk-canary-wrong")
    (tmp_path / "in.json").write_text('[{"conversation": "What?"}]')
    endpoint = Endpoint("--api-key", "sk-right")
    try:
        wrong = APIVLMServing_openai(endpoint.base_url, "MY_KEY", "looks-1")
        storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"))
        with pytest.raises(AuthError) as refused:
            PromptedVQAGenerator(wrong).run(storage.step())
    finally:
        endpoint.close()
    assert "sk-canary" not in repr(refused.value)


def test_an_unknown_storage_type_is_refused() -> None:
    """Pickle is refused for what it is."""
    with pytest.raises(ConfigError, match="no cache_type 'xml'"):
        FileStorage("in.json", cache_type="xml")
    with pytest.raises(ConfigError, match="can run code when they are read: choose json, jsonl"):
        FileStorage("in.json", cache_type="pickle")


def test_the_class_names_are_those_of_the_guide() -> None:
    """What the guide's script imports is what this module exports."""
    used = set(re.findall(r"from vqa_async\.dataflow import (\w+)", PIPELINE))
    assert used | {"ImageVQAPipeline"} <= set(vqa_async.dataflow.__all__)


def test_a_step_file_holds_only_answers_to_its_own_input(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """A second, shorter input under the same prefix: what is not asked any more is not in the file."""
    for paths in (images, images[1:]):
        (tmp_path / "in.json").write_text(
            json.dumps([{"image": path, "conversation": "Colour?"} for path in paths])
        )
        storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task")
        PromptedVQAGenerator(serving).run(storage.step())
        answers = json.loads((tmp_path / "cache" / "task_step1.json").read_text())
        assert [answer["image"] for answer in answers] == paths


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a step file of any type."""
    if path.suffix == ".json":
        return list(json.loads(path.read_text()))
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text().splitlines()]
    if path.suffix == ".parquet":
        return list(pyarrow.parquet.read_table(path).to_pylist())
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("cache_type", ["json", "jsonl", "csv", "parquet"])
def test_many_questions_about_one_image_are_answered_as_a_list(
    cache_type: str, serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """In the order of the questions; a failed one is None, and costs no other."""
    rows = [
        {"image": [images[0]], "questions": ["Which colour?", "How large?"], "note": "größer"},
        {
            "image": [images[1]],
            "questions": ["Which colour?", {"question": "Bad?", "_params": {"n": 2}}],
            "n": 7,
        },
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task", cache_type).step()
    assert BatchVQAGenerator(serving).run(storage) == "answers"
    lists = []
    for row in rows_of(storage.output_file):
        answers = json.loads(row["answers"]) if cache_type == "csv" else row["answers"]
        lists.append(answers)
    assert [len(answers) for answers in lists] == [2, 2]
    assert "red" in lists[0][0]
    assert "blue" in lists[1][0]
    assert lists[1][1] is None
    first = rows_of(storage.output_file)[0]
    assert (first["note"], first["image"]) == (
        "größer",
        [images[0]] if cache_type != "csv" else json.dumps([images[0]], separators=(",", ":")),
    )


@pytest.mark.parametrize("cache_type", ["csv", "parquet"])
def test_table_steps_follow_one_another(
    cache_type: str, serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """A caption, then a question that a template makes of it; each step file has all columns so far."""
    (tmp_path / "in.csv").write_text(f"image,n\n{images[0]},1\n{images[1]},2\n")
    storage = FileStorage(str(tmp_path / "in.csv"), str(tmp_path / "cache"), "task", cache_type)
    assert ImageCaptionGenerator(serving).run(storage.step()) == "caption"
    template = "Is this true of image {{ n }}: {{ caption }}?"
    assert PromptTemplatedVQAGenerator(serving, template).run(storage.step()) == "answer"
    last = rows_of(tmp_path / "cache" / f"task_step2.{cache_type}")
    assert [row["n"] for row in last] == ["1", "2"]
    assert all("red" in last[0][key] and "blue" in last[1][key] for key in ("caption", "answer"))


def test_a_caption_asks_what_it_says_and_nothing_else(
    endpoint: Endpoint, images: list[str], tmp_path: Path
) -> None:
    """Braces in it are text, and the row's own conversation is not asked."""
    row = {"image": images[0], "conversation": "Something else?"}
    (tmp_path / "in.json").write_text(json.dumps([row]))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task", "jsonl").step()
    serving = APIVLMServing_openai(endpoint.base_url, model_name="looks-1")
    ImageCaptionGenerator(serving, prompt='Say "{{ what }}" {% of %} it: 😀 größer.').run(storage)
    (line,) = rows_of(storage.output_file)
    assert "red" in line["caption"]


def test_a_template_that_cannot_work_is_refused_before_the_first_request(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """It names the column that is missing."""
    (tmp_path / "in.json").write_text(json.dumps([{"image": images[0], "thing": "cat"}]))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache")).step()
    with pytest.raises(ConfigError, match="thng"):
        PromptTemplatedVQAGenerator(serving, "What does the {{ thng }}?").run(storage)


def test_what_follows_a_list_of_questions_asks_once_for_each_row(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """The list is still in the row, and no reason to caption its image once for each question."""
    (tmp_path / "in.json").write_text(json.dumps([{"image": images[0], "questions": ["a?", "b?"]}]))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task", "jsonl")
    BatchVQAGenerator(serving).run(storage.step())
    ImageCaptionGenerator(serving).run(storage.step())
    PromptTemplatedVQAGenerator(serving, "Is it true: {{ answers[0] }} ({{ caption }})?").run(storage.step())
    for step, key in ((2, "caption"), (3, "answer")):
        journal = tmp_path / "cache" / f"task_step{step}.journal.jsonl"
        assert len(journal.read_text().splitlines()) == 1
        (row,) = rows_of(tmp_path / "cache" / f"task_step{step}.jsonl")
        assert "red" in row[key]
    assert len(row["answers"]) == 2


def relative_rows(folder: Path, images: list[str]) -> str:
    """An input in a folder of its own, whose images are named relative to it."""
    asked = {"conversation": "Colour?", "questions": ["a?", "b?"]}
    rows = [{"image": [Path(path).name], **asked} for path in images]
    (folder / "in.json").write_text(json.dumps(rows))
    return str(folder / "in.json")


def test_images_beside_the_first_input_are_found_in_every_step(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """The rows name them as they did, and the step files lie elsewhere."""
    storage = FileStorage(relative_rows(tmp_path, images), str(tmp_path / "a" / "cache"), "task", "jsonl")
    ImageCaptionGenerator(serving).run(storage.step())
    PromptTemplatedVQAGenerator(serving, "Is it true: {{ caption }}?").run(storage.step())
    BatchVQAGenerator(serving).run(storage.step())
    last = rows_of(storage.step().rows_file.parent / "task_step3.jsonl")
    assert [row["image"] for row in last] == [["red.png"], ["blue.png"]]
    assert ["red" in row["answer"] and "red" in row["answers"][1] for row in last] == [True, False]


def test_a_row_of_which_all_questions_failed_is_there(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With None for each; one that is no row to ask about is not. Once mended, it has its answers."""
    rows = [
        {"n": 0, "image": "late.png", "questions": ["a?", "b?"]},
        {"n": 1, "image": images[0], "questions": ["a?", {"question": "Bad?", "_params": {"n": 2}}, "c?"]},
        {"n": 2, "image": images[1], "questions": 7},
        {"n": 3, "image": images[1], "conversation": "Colour?", "questions": []},
    ]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task").step()
    with caplog.at_level(logging.WARNING, "vqa_async.dataflow"):
        BatchVQAGenerator(serving).run(storage)
    found = rows_of(storage.output_file)
    assert [(row["n"], [answer is not None for answer in row["answers"]]) for row in found] == [
        (0, [False, False]),
        (1, [True, False, True]),
        (3, [True]),
    ]
    assert found[0] == {**rows[0], "answers": [None, None]}
    assert "4 questions failed and are None in it" in caplog.text
    Path(images[0]).rename(tmp_path / "late.png")
    again = APIVLMServing_openai(serving.config.endpoint.base_url[0], model_name="looks-1", retry_failed=True)
    BatchVQAGenerator(again).run(storage)
    assert all(rows_of(storage.output_file)[0]["answers"])


def test_an_empty_list_of_questions_is_named(
    serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """A row with nothing to ask: the sentence names the field of the questions too."""
    (tmp_path / "in.json").write_text(json.dumps([{"image": images[0], "asks": []}]))
    storage = FileStorage(str(tmp_path / "in.json"), str(tmp_path / "cache"), "task").step()
    BatchVQAGenerator(serving).run(storage, input_question_list_key="asks")
    (failure,) = rows_of(tmp_path / "cache" / "task_step1.journal.failures.jsonl")
    assert "it has no conversation and no asks: add one" in failure["error"]["message"]


@pytest.mark.parametrize("form", ["parquet", "tar"])
def test_images_in_the_first_input_itself_are_there_in_every_step(
    form: str, serving: APIVLMServing_openai, images: list[str], tmp_path: Path
) -> None:
    """A step file refers to them; the next step has the images nevertheless."""
    source = tmp_path / "data" / f"train.{form}"
    source.parent.mkdir()
    if form == "parquet":
        contents = [{"bytes": Path(path).read_bytes(), "path": "a.png"} for path in images]
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"image": one} for one in contents]), source)
    else:
        with tarfile.open(source, "w") as tar:
            for number, path in enumerate(images):
                tar.add(path, f"{number:06}.png")
    storage = FileStorage(str(source), str(tmp_path / "cache"), "task", "jsonl")
    ImageCaptionGenerator(serving).run(storage.step())
    PromptTemplatedVQAGenerator(serving, "True: {{ caption }}?").run(storage.step())
    rows = rows_of(tmp_path / "cache" / "task_step2.jsonl")
    assert ["red" in row["answer"] for row in rows] == [True, False]
    assert "#" in json.dumps(rows[0]["image"])


RESUMED = """
import sys
from vqa_async.dataflow import *

serving = APIVLMServing_openai(api_url=sys.argv[1], model_name="looks-1", max_workers=4)
operator = {operator}
operator.run(FileStorage("in.json", "cache", "task", "jsonl").step())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "operator",
    [
        "PromptedVQAGenerator(serving)",
        "BatchVQAGenerator(serving)",
        "PromptTemplatedVQAGenerator(serving, 'Is this {{ n }}?')",
        "ImageCaptionGenerator(serving)",
    ],
)
def test_each_operator_resumes_after_a_kill(operator: str, images: list[str], tmp_path: Path) -> None:
    """Nothing that was answered is asked again, and the step file is whole."""
    many = operator.startswith("Batch")
    asks: dict[str, Any] = {"questions": ["a?", "b?", "c?"]} if many else {"conversation": "Colour?"}
    rows = [{"n": n, "id": f"r{n}", "image": images[n % 2], **asks} for n in range(20 if many else 60)]
    (tmp_path / "in.json").write_text(json.dumps(rows))
    script = RESUMED.format(operator=operator)
    journal = tmp_path / "cache" / "task_step1.journal.jsonl"
    running = Endpoint("--latency", "0.05")
    try:
        command = [sys.executable, "-c", script, running.base_url]
        first = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not (
            journal.exists() and journal.read_bytes().count(b"\n") > 10
        ):
            time.sleep(0.01)
        first.kill()
        first.wait(20)
        kept = journal.read_bytes().count(b"\n")
        assert 10 < kept < 60
        subprocess.run(command, cwd=tmp_path, check=True, timeout=30)
    finally:
        running.close()
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    assert len({line["_meta"]["id"] for line in lines}) == len(lines) == 60
    last = rows_of(tmp_path / "cache" / "task_step1.jsonl")
    assert [row["n"] for row in last] == list(range(len(rows)))
