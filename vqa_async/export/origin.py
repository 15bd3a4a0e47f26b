"""What an output's run file says of the rows that its lines hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vqa_async.journal import JournalPaths
from vqa_async.journal.runfile import load
from vqa_async.prompts import DEFAULT_PROMPT
from vqa_async.sources.locations import folder_of


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the rows come from and how they were read.

    Attributes:
        run: content of OUT.run.json, {} where there is none.
        image_key, conversation_key, output_key: the fields of a row.
        prompt: the question of rows that have none.
        folder: where relative image paths were looked for first; "" means only the working directory.
    """

    run: dict[str, Any] = field(default_factory=dict)
    image_key: str = "image"
    conversation_key: str = "conversation"
    output_key: str = "vqa"
    prompt: str = DEFAULT_PROMPT
    folder: str = ""

    @classmethod
    def of(cls, paths: JournalPaths) -> Origin:
        """The origin of an output.

        Raises:
            JournalDamaged: the run file is not as it was written.
        """
        run = load(paths.run)
        if run is None:
            return cls()
        settings = run["settings"]
        names = ("image_key", "conversation_key", "output_key", "prompt")
        told = {name: settings[name] for name in names if isinstance(settings.get(name), str)}
        return cls(run, **told, folder=folder_of(str(run.get("input", "-"))))
