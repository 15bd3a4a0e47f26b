"""The serving: settings of an API, and the calls that operators make on it."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

from vqa_async.api import open_engine, run_sync
from vqa_async.config import Config
from vqa_async.dataflow.storage import FileStorage
from vqa_async.engine import RunSummary
from vqa_async.errors import ConfigError, VQAError
from vqa_async.models import Failure

log = logging.getLogger("vqa_async.dataflow")

Row = Mapping[str, Any]


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

    def step_config(
        self, *, columns: Mapping[str, str], system_prompt: str | None = None, template: str = ""
    ) -> Config:
        """The settings of a step: the serving's own, with what the operator asks and of which columns."""
        config = self._configured(system_prompt)
        prompting = config.prompting
        return dataclasses.replace(
            config,
            columns=dataclasses.replace(config.columns, **columns),
            prompting=dataclasses.replace(prompting, prompt_template=template or prompting.prompt_template),
        )

    def run_journalled(self, storage: FileStorage, config: Config) -> RunSummary:
        """Answer the step's input into its journal; the same call again goes on where it stopped.

        Raises:
            VQAError: the run ended early; what is finished is kept.
        """

        async def main() -> RunSummary:
            async with open_engine(config, api_key=self.api_key) as engine:
                return await engine.run(
                    storage.input_file, str(storage.journal_file), folder=storage.image_folder
                )

        summary = run_sync(main)
        if summary.error is not None:
            raise summary.error
        return summary

    def _configured(
        self, system_prompt: str | None, model: str | None = None, timeout: float | None = None
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
