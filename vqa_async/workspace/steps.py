"""What to do in a new workspace: the commands, ready to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path

_STEPS = """\
Next{where}:
  vqa-async serve                                    in another terminal: an endpoint to try with, no model
  vqa-async check data/image_vqa/sample_data.json --config vqa.toml
  vqa-async run data/image_vqa/sample_data.json -o out.jsonl --config vqa.toml
  vqa-async export out.jsonl -o out.json             the answers, in the order of the input
For your own: put your base_url and model into vqa.toml, and name your file or folder of images instead.
The same from Python: image_vqa.py. Every option stands in vqa.toml, with what it does."""


def next_steps(folder: Path) -> list[str]:
    """The lines that are said when the workspace in ``folder`` was made."""
    where = "" if folder == Path() else f", after cd {shlex.quote(str(folder))}"
    return _STEPS.format(where=where).splitlines()
