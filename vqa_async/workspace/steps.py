"""What to do in a new workspace: the commands, ready to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

_STEPS = """\
Next{where}. In another terminal, for an endpoint to try with (it measures pixels and is no model):
  vqa-async serve
Then look at the sample data, answer it, and write the answers in its order:
  vqa-async check data/image_vqa/sample_data.json --config vqa.toml
  vqa-async run data/image_vqa/sample_data.json -o out.jsonl --config vqa.toml
  vqa-async export out.jsonl -o out.json
For your own: put base_url and model into vqa.toml, and name your file or folder of images.
The same from Python: python image_vqa.py. Every option stands in vqa.toml, with what it does."""


def next_steps(folder: Path) -> list[str]:
    """The lines that are said when the workspace in ``folder`` was made."""
    where = "" if folder == Path() else f", after cd {shlex.quote(str(folder))}"
    return _STEPS.format(where=where).splitlines()
