"""The class names of the DataFlow-MM image VQA guide, over this engine.

A pipeline written for that guide runs with its imports changed to this module and nothing else. Step files
are named as there, ``{prefix}_step{n}.{type}``; under each of them lies a journal
(``{prefix}_step{n}.journal.jsonl`` and its neighbours), so that a pipeline that was interrupted goes on
where it stopped, and pays for no answer twice. The next step reads ``{prefix}_step{n}.rows.jsonl``, the rows
with all their fields in the order of the input (with ``cache_type="jsonl"``, the step file itself).

A failed item is ``None`` in a returned list and a line in the journal's failures, counted in the log; never
a text that looks like an answer.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vqa_async.api import open_engine, run_sync
from vqa_async.config import Config, Sampling
from vqa_async.engine import RunSummary
from vqa_async.errors import ConfigError, VQAError
from vqa_async.export import export
from vqa_async.journal import JournalPaths
from vqa_async.models import Failure
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT, Asking
from vqa_async.sources import open_source, places_of

__all__ = ["APIVLMServing_openai", "FileStorage", "ImageVQAPipeline", "PromptedVQAGenerator"]

log = logging.getLogger("vqa_async.dataflow")

Row = Mapping[str, Any]


class FileStorage:
    """Files of a pipeline: the first input, then one file for each step.

    Args:
        first_entry_file_name: input of the first step (JSON array or JSONL).
        cache_path: folder for the step files; made when needed.
        file_name_prefix: start of their names.
        cache_type: ``json`` (the guide's form) or ``jsonl``.
    """

    def __init__(
        self,
        first_entry_file_name: str,
        cache_path: str = "./cache",
        file_name_prefix: str = "dataflow_cache_step",
        cache_type: str = "json",
    ) -> None:
        if cache_type not in ("json", "jsonl"):
            raise ConfigError(f"There is no cache_type {cache_type!r} (known: json, jsonl).")
        self.first_entry_file_name = first_entry_file_name
        self.cache_path = cache_path
        self.file_name_prefix = file_name_prefix
        self.cache_type = cache_type
        self.operator_step = -1

    def step(self) -> FileStorage:
        """This storage, one step on: what the next operator reads and writes."""
        self.operator_step += 1
        return copy.copy(self)

    def reset(self) -> FileStorage:
        """Back to before the first step."""
        self.operator_step = -1
        return self

    @property
    def input_file(self) -> str:
        """What this step reads: the first input, or the rows of the step before with all their fields."""
        if self.operator_step <= 0:
            return self.first_entry_file_name
        return str(self._rows(self.operator_step))

    @property
    def journal_file(self) -> Path:
        """Where this step keeps its answers as they come."""
        return self._journal(self.operator_step + 1)

    @property
    def output_file(self) -> Path:
        """What this step leaves for people and other tools."""
        return self._stem(self.operator_step + 1, self.cache_type)

    @property
    def rows_file(self) -> Path:
        """What this step leaves for the next: the rows with all their fields, in the order of the input."""
        return self._rows(self.operator_step + 1)

    def _rows(self, step: int) -> Path:
        return self._stem(step, "jsonl" if self.cache_type == "jsonl" else "rows.jsonl")

    def _journal(self, step: int) -> Path:
        return self._stem(step, "journal.jsonl")

    def _stem(self, step: int, suffix: str) -> Path:
        return Path(self.cache_path) / f"{self.file_name_prefix}_step{step}.{suffix}"


class APIVLMServing_openai:
    """Settings of an OpenAI-compatible API, and the calls that operators make on it.

    Args:
        api_url: base URL, with or without ``/chat/completions``.
        key_name_of_api_key: environment variable that holds the key; unset is fine for a local server.
        model_name: model to ask.
        max_workers: requests in flight at most.
        timeout: seconds for one attempt.
        temperature: None leaves it to the endpoint.
        **options: any other option of ``vqa_async.config``.
    """

    def __init__(
        self,
        api_url: str = "https://api.openai.com/v1",
        key_name_of_api_key: str = "DF_API_KEY",
        model_name: str = "o4-mini",
        max_workers: int = 10,
        timeout: float = 1800,
        temperature: float | None = None,
        **options: Any,
    ) -> None:
        self.key_name_of_api_key = key_name_of_api_key
        self.config = Config.of(
            base_url=api_url,
            model=model_name,
            api_key_env=key_name_of_api_key,
            max_workers=max_workers,
            timeout=float(timeout),
            temperature=temperature,
            **options,
        )

    @property
    def api_key(self) -> str:
        """The key, read when it is needed and kept nowhere."""
        return os.environ.get(self.key_name_of_api_key, "").strip()

    def generate_from_input_messages(
        self,
        conversations: Sequence[Sequence[Row]],
        image_list: Sequence[Sequence[str]] | None = None,
        video_list: Sequence[Any] | None = None,
        audio_list: Sequence[Any] | None = None,
        system_prompt: str = "",
    ) -> list[str | None]:
        """Answer conversations, each with its images; ``None`` where that failed."""
        if any(video_list or ()) or any(audio_list or ()):
            raise ConfigError("Only images can be sent: leave video_list and audio_list out.")
        images = image_list or [[] for _ in conversations]
        _require_pairs("conversations", conversations, "image_list", images)
        rows = [_row(turns, paths) for turns, paths in zip(conversations, images, strict=True)]
        return self._answers(rows, system_prompt)

    def generate_from_input(
        self,
        user_inputs: Sequence[str],
        system_prompt: str = "",
        image_inputs: Sequence[str | Sequence[str] | None] | None = None,
    ) -> list[str | None]:
        """Answer one text each, with one image, several or none."""
        images = image_inputs or [None] * len(user_inputs)
        _require_pairs("user_inputs", user_inputs, "image_inputs", images)
        return self._answers([_ask(t, i) for t, i in zip(user_inputs, images, strict=True)], system_prompt)

    def generate_from_input_one_image(
        self,
        image_paths: Sequence[str],
        text_prompts: Sequence[str],
        system_prompt: str = "",
        model: str | None = None,
        timeout: float | None = None,
    ) -> list[str | None]:
        """Answer one text about one image, for each pair of them."""
        _require_pairs("image_paths", image_paths, "text_prompts", text_prompts)
        rows = [_ask(text, path) for path, text in zip(image_paths, text_prompts, strict=True)]
        return self._answers(rows, system_prompt, model, timeout)

    def generate_from_input_multi_images(
        self,
        list_of_image_paths: Sequence[Sequence[str]],
        list_of_image_labels: Sequence[Sequence[str]],
        system_prompt: str = "",
        user_prompts: Sequence[str] | None = None,
        model: str | None = None,
        timeout: float | None = None,
    ) -> list[str | None]:
        """Answer about several images at once, each introduced by its label."""
        _require_pairs(
            "list_of_image_paths", list_of_image_paths, "list_of_image_labels", list_of_image_labels
        )
        prompts = user_prompts or [""] * len(list_of_image_paths)
        _require_pairs("list_of_image_paths", list_of_image_paths, "user_prompts", prompts)
        groups = zip(list_of_image_paths, list_of_image_labels, prompts, strict=True)
        return self._answers([_labelled(*group) for group in groups], system_prompt, model, timeout)

    def cleanup(self) -> None:
        """Nothing to do: each call closes what it opened."""

    def run_journalled(
        self, storage: FileStorage, *, system_prompt: str, columns: Mapping[str, str]
    ) -> RunSummary:
        """Answer the step's input into its journal; the same call again goes on where it stopped.

        Raises:
            VQAError: the run ended early; what is finished is kept.
        """
        config = dataclasses.replace(
            self._configured(system_prompt),
            columns=dataclasses.replace(self.config.columns, **columns),
        )

        async def main() -> RunSummary:
            async with open_engine(config, api_key=self.api_key) as engine:
                return await engine.run(storage.input_file, str(storage.journal_file))

        summary = run_sync(main)
        if summary.error is not None:
            raise summary.error
        return summary

    def _configured(
        self, system_prompt: str, model: str | None = None, timeout: float | None = None
    ) -> Config:
        config = self.config
        return dataclasses.replace(
            config,
            sampling=dataclasses.replace(config.sampling, system_prompt=system_prompt),
            endpoint=dataclasses.replace(config.endpoint, model=model or config.endpoint.model),
            timeouts=dataclasses.replace(config.timeouts, timeout=float(timeout or config.timeouts.timeout)),
        )

    def _answers(
        self,
        rows: Sequence[Row],
        system_prompt: str,
        model: str | None = None,
        timeout: float | None = None,
    ) -> list[str | None]:
        config = self._configured(system_prompt, model, timeout)
        answers: list[str | None] = [None] * len(rows)

        async def main() -> None:
            async with open_engine(config, api_key=self.api_key) as engine:
                async for result in engine.stream(rows):
                    if isinstance(result, Failure):
                        log.warning("item %d failed: %s", result.record.index, result.error.message)
                    else:
                        answers[result.record.index] = result.text

        try:
            run_sync(main)
        except VQAError as error:
            if answers.count(None) == len(answers):
                raise
            log.error("stopped early, what is answered is kept: %s", error.message)
        if failed := answers.count(None):
            log.warning("%d of %d items failed and are None", failed, len(rows))
        return answers


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
        Path(storage.cache_path).mkdir(parents=True, exist_ok=True)
        columns = {
            "conversation_key": input_conversation_key,
            "image_key": input_image_key,
            "output_key": output_answer_key,
        }
        summary = self.serving.run_journalled(storage, system_prompt=self.system_prompt, columns=columns)
        # The journal may hold answers to rows that have left the input since; the step's file does not.
        config = self.serving.config
        source = open_source(
            storage.input_file,
            dataclasses.replace(config.columns, **columns),
            asking=Asking(Sampling(prompt=config.sampling.prompt), config.prompting),
        )
        places = run_sync(lambda: places_of(source))

        def place(id: str, _: int) -> int | None:
            return None if (at := places.get(id)) is None else int.from_bytes(at, "big")

        count = export(storage.journal_file, storage.output_file, format=storage.cache_type, place=place)
        if storage.rows_file != storage.output_file:
            export(storage.journal_file, storage.rows_file, format="jsonl", place=place)
        log.info("%d answers in %s", count, storage.output_file)
        if failed := summary.statistics.failed + summary.statistics.skipped_failed:
            failures = JournalPaths.of(storage.journal_file).failures
            log.warning("%d rows failed and are not in it; see %s", failed, failures)
        return output_answer_key


class ImageVQAPipeline:
    """The guide's pipeline as one object: a file of images and questions in, a file of answers out.

    Args:
        first_entry_file: input in the guide's form.
        cache_path, file_name_prefix, cache_type: see FileStorage.
        serving: the API to ask; by default the one that ``options`` describe.
        system_prompt: system prompt of every request.
        **options: passed to APIVLMServing_openai where no ``serving`` is given.
    """

    def __init__(
        self,
        first_entry_file: str,
        cache_path: str = "./cache_local_vqa",
        file_name_prefix: str = "vqa_task",
        cache_type: str = "json",
        *,
        serving: APIVLMServing_openai | None = None,
        system_prompt: str = DEFAULT_SYSTEM_PROMPT,
        **options: Any,
    ) -> None:
        self.storage = FileStorage(first_entry_file, cache_path, file_name_prefix, cache_type)
        self.vlm_serving = serving or APIVLMServing_openai(**options)
        self.vqa_generator = PromptedVQAGenerator(self.vlm_serving, system_prompt)

    def forward(self) -> None:
        """Run the pipeline from its first step."""
        self.vqa_generator.run(storage=self.storage.reset().step())


def _row(turns: Sequence[Row], images: Sequence[str] | str) -> Row:
    return {"image": [images] if isinstance(images, str) else list(images), "conversation": list(turns)}


def _ask(text: str, images: str | Sequence[str] | None) -> Row:
    return _row([{"from": "human", "value": text}], images or [])


def _labelled(paths: Sequence[str], labels: Sequence[str], prompt: str) -> Row:
    _require_pairs("image paths", paths, "image labels", labels)
    shown = "\n".join(f"{label}:\n<image>" for label in labels)
    return _ask(f"{shown}\n{prompt}" if prompt else shown, list(paths))


def _require_pairs(name: str, items: Sequence[Any], other_name: str, others: Sequence[Any]) -> None:
    if len(items) != len(others):
        raise ConfigError(
            f"There are {len(items)} {name} but {len(others)} {other_name}: give as many of each."
        )
