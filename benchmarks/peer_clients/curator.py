"""bespokelabs-curator: an LLM over a dataset of image paths, its answers in a working folder of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import litellm
from bespokelabs import curator

from benchmarks.peer_clients import API_KEY, MODEL, NO_LIMIT, Job, question, started

# Its token counter wants a vocabulary, which litellm carries; without this it would be downloaded.
VOCABULARY = Path(litellm.__file__).parent / "litellm_core_utils" / "tokenizers"


class _Asker(curator.LLM):
    """Text and image of a row."""

    def prompt(self, row: dict[str, Any]) -> tuple[str, Any]:
        return row["question"], curator.types.Image(url=row["image"])

    def parse(self, row: dict[str, Any], response: str) -> dict[str, Any]:
        return {"id": row["id"], "answer": response}


def run(job: Job) -> None:
    """Ask all rows, keep its table as JSONL."""
    os.environ["TIKTOKEN_CACHE_DIR"] = str(VOCABULARY)
    asker = _Asker(
        model_name=MODEL,
        backend="openai",
        backend_params={
            "base_url": job.url,
            "api_key": API_KEY,
            "max_concurrent_requests": job.workers,
            "max_requests_per_minute": NO_LIMIT,
            "max_tokens_per_minute": 1000 * NO_LIMIT,
        },
    )
    started(job)
    rows = [
        {"id": number, "question": question(number), "image": str(image)} for number, image in job.items()
    ]
    answers = asker(rows, working_dir=str(job.folder / "curator"))
    answers.dataset.to_json(str(job.output))
