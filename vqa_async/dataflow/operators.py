"""What may be asked of each row of a step. Each operator writes the step's file, and resumes."""

from __future__ import annotations

import json
import logging
from pathlib import Path

from vqa_async.api import run_sync
from vqa_async.config import Config
from vqa_async.dataflow.serving import APIVLMServing_openai
from vqa_async.dataflow.step_files import StepRows, write_rows
from vqa_async.dataflow.storage import FileStorage
from vqa_async.export import export
from vqa_async.journal import JournalPaths
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT, asking_for
from vqa_async.sources import open_source, places_of

log = logging.getLogger("vqa_async.dataflow")

CAPTION_PROMPT = "Describe this image in one or two sentences, with what matters most first."
CAPTION_SYSTEM_PROMPT = (
    "You write captions. Say what can be seen, plainly and exactly; guess nothing, and add no introduction."
)


class PromptedVQAGenerator:
    """The guide's operator: asks about each row's images, writes the answers into a field of the row.

    Args:
        serving: the API to ask.
        system_prompt: system prompt of every request.
    """

    def __init__(self, serving: APIVLMServing_openai, system_prompt: str = DEFAULT_SYSTEM_PROMPT) -> None:
        self.serving = serving
        self.system_prompt = system_prompt

    def run(
        self,
        storage: FileStorage,
        input_conversation_key: str = "conversation",
        input_image_key: str = "image",
        output_answer_key: str = "vqa",
    ) -> str:
        """Answer every row of the step's input and write the step's file; returns ``output_answer_key``.

        Raises:
            VQAError: settings or input cannot work, or the endpoint refuses: run it again to go on.
        """
        columns = {
            "conversation_key": input_conversation_key,
            "image_key": input_image_key,
            "output_key": output_answer_key,
        }
        config = self.serving.step_config(columns=columns, system_prompt=self.system_prompt)
        return _step(self.serving, storage, config)


class BatchVQAGenerator:
    """One image, many questions: a row has a list of questions, each is asked alone, and the answers are a
    list in the same order, with ``None`` for one that failed.

    Args:
        serving: the API to ask.
        system_prompt: system prompt of every request; default: one that asks for short, true answers.
    """

    def __init__(self, serving: APIVLMServing_openai, system_prompt: str | None = None) -> None:
        self.serving = serving
        self.system_prompt = system_prompt

    def run(
        self,
        storage: FileStorage,
        input_question_list_key: str = "questions",
        input_image_key: str = "image",
        output_answer_key: str = "answers",
    ) -> str:
        """Answer every question of every row and write the step's file; returns ``output_answer_key``.

        Raises:
            VQAError: settings or input cannot work, or the endpoint refuses: run it again to go on.
        """
        columns = {
            "questions_key": input_question_list_key,
            "image_key": input_image_key,
            "output_key": output_answer_key,
        }
        config = self.serving.step_config(columns=columns, system_prompt=self.system_prompt)
        return _step(self.serving, storage, config, lists=True)


class PromptTemplatedVQAGenerator:
    """The question of each row is made of its columns by a template.

    Args:
        serving: the API to ask.
        prompt_template: a Jinja template such as ``What is {{ thing }} doing?``; sandboxed, and a column that
            is missing is an error before the first request.
        system_prompt: system prompt of every request; default: that of the guide.
    """

    def __init__(
        self, serving: APIVLMServing_openai, prompt_template: str, system_prompt: str | None = None
    ) -> None:
        self.serving = serving
        self.prompt_template = prompt_template
        self.system_prompt = system_prompt

    def run(
        self, storage: FileStorage, input_image_key: str = "image", output_answer_key: str = "answer"
    ) -> str:
        """Answer every row and write the step's file; returns ``output_answer_key``.

        Raises:
            VQAError: settings or input cannot work, or the endpoint refuses: run it again to go on.
        """
        # A list of questions in the row is a column like any other here: the template is asked once.
        columns = {"image_key": input_image_key, "output_key": output_answer_key, "questions_key": ""}
        config = self.serving.step_config(
            columns=columns, system_prompt=self.system_prompt, template=self.prompt_template
        )
        return _step(self.serving, storage, config)


class ImageCaptionGenerator:
    """A caption for each row's images, whatever else the row holds.

    Args:
        serving: the API to ask.
        prompt: what is asked.
        system_prompt: system prompt of every request.
    """

    def __init__(
        self,
        serving: APIVLMServing_openai,
        prompt: str = CAPTION_PROMPT,
        system_prompt: str = CAPTION_SYSTEM_PROMPT,
    ) -> None:
        self.serving = serving
        self.prompt = prompt
        self.system_prompt = system_prompt

    def run(
        self, storage: FileStorage, input_image_key: str = "image", output_caption_key: str = "caption"
    ) -> str:
        """Caption every row and write the step's file; returns ``output_caption_key``.

        Raises:
            VQAError: settings or input cannot work, or the endpoint refuses: run it again to go on.
        """
        columns = {"image_key": input_image_key, "output_key": output_caption_key, "questions_key": ""}
        # A prompt is no template. Not in ASCII: Jinja would read an escaped emoji as two surrogates.
        literal = "{{ " + json.dumps(self.prompt, ensure_ascii=False) + " }}"
        config = self.serving.step_config(columns=columns, system_prompt=self.system_prompt, template=literal)
        return _step(self.serving, storage, config)


def _step(serving: APIVLMServing_openai, storage: FileStorage, config: Config, *, lists: bool = False) -> str:
    """Answer the step's input and write what the step leaves; returns the field of the answers."""
    Path(storage.cache_path).mkdir(parents=True, exist_ok=True)
    summary = serving.run_journalled(storage, config)
    key = config.columns.output_key
    # The journal may hold answers to rows that have left the input since; the step's file does not.
    source = open_source(
        storage.input_file, config.columns, asking=asking_for(config), folder=storage.image_folder
    )
    places = run_sync(lambda: places_of(source))

    def place(id: str, _: int) -> int | None:
        return None if (at := places.get(id)) is None else int.from_bytes(at, "big")

    files = {storage.rows_file: "jsonl", storage.output_file: storage.cache_type}
    for path, form in files.items():
        if form in ("csv", "parquet") or lists:
            count = write_rows(path, form, StepRows(storage.journal_file, place, key, lists=lists))
        else:
            count = export(storage.journal_file, path, format=form, place=place)
    log.info("%d answers in %s", count, storage.output_file)
    if failed := summary.statistics.failed + summary.statistics.skipped_failed:
        failures = JournalPaths.of(storage.journal_file).failures
        what = "questions failed and are None in it" if lists else "rows failed and are not in it"
        log.warning("%d %s; see %s", failed, what, failures)
    return key
