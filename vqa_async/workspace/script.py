"""The text of ``image_vqa.py``: the guide's pipeline over this engine, for the user to change."""

from __future__ import annotations

import json
from string import Template

from vqa_async.config import Config
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT

_SCRIPT = Template('''\
"""Question-answer pairs for a list of images: the pipeline as a script of your own.

    python image_vqa.py --images_file data/image_vqa/sample_data.json

The result is cache_local_vqa/vqa_task_step1.json. After an interruption the same command goes on where it
stopped. Set the environment variable DF_API_KEY if the endpoint wants a key.
"""

import argparse

from vqa_async.dataflow import APIVLMServing_openai, FileStorage, PromptedVQAGenerator


class ImageVQAPipeline:
    """Reads the records, asks the model about each image, keeps the answers in the field "vqa"."""

    def __init__(
        self,
        first_entry_file: str,
        cache_path: str = "./cache_local_vqa",
        file_name_prefix: str = "vqa_task",
        cache_type: str = "json",
    ):
        # Where the records come from and the results go to.
        self.storage = FileStorage(
            first_entry_file_name=first_entry_file,
            cache_path=cache_path,
            file_name_prefix=file_name_prefix,
            cache_type=cache_type,
        )
        # Which model answers. Any OpenAI-compatible address will do.
        self.vlm_serving = APIVLMServing_openai(
            api_url=$base_url,
            key_name_of_api_key="DF_API_KEY",
            model_name=$model,
            max_workers=$max_workers,
        )
        # What it is told to do.
        self.vqa_generator = PromptedVQAGenerator(
            serving=self.vlm_serving,
            system_prompt=$system_prompt,
        )

    def forward(self):
        self.vqa_generator.run(
            storage=self.storage.step(),
            input_conversation_key="conversation",
            input_image_key="image",
            output_answer_key="vqa",
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Question-answer pairs for a list of images")
    parser.add_argument("--images_file", default="data/image_vqa/sample_data.json")
    args = parser.parse_args()

    ImageVQAPipeline(first_entry_file=args.images_file).forward()
''')


def pipeline_script(config: Config) -> str:
    """``image_vqa.py`` for the endpoint, model and width of ``config``, with the guide's system prompt."""
    return _SCRIPT.substitute(
        base_url=_literal(config.endpoint.base_url[0]),
        model=_literal(config.endpoint.model),
        max_workers=config.limits.max_workers,
        system_prompt=_literal(DEFAULT_SYSTEM_PROMPT),
    )


def _literal(text: str) -> str:
    # Double quotes as in the rest of the script; with every character as it is, JSON's strings are Python's.
    return json.dumps(text, ensure_ascii=False)
