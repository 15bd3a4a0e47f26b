"""The guide's pipeline as one object."""

from __future__ import annotations

from typing import Any

from vqa_async.dataflow.operators import PromptedVQAGenerator
from vqa_async.dataflow.serving import APIVLMServing_openai
from vqa_async.dataflow.storage import FileStorage
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT


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
