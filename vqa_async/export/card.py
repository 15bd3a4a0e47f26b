"""The README.md of an export: what is in it and how it was made, with the front matter of the Hub."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vqa_async.errors import ConfigError
from vqa_async.export.example import Example
from vqa_async.export.options import ExportOptions
from vqa_async.export.origin import Origin
from vqa_async.export.summary import ExportSummary
from vqa_async.prompts import DEFAULT_SYSTEM_PROMPT

CARD = "README.md"

_OURS = "<!-- written by vqa-async export -->"
_SIZES = (
    (10**3, "n<1K"),
    (10**4, "1K<n<10K"),
    (10**5, "10K<n<100K"),
    (10**6, "100K<n<1M"),
    (10**7, "1M<n<10M"),
    (10**8, "10M<n<100M"),
)
_SAMPLING = ("temperature", "top_p", "max_tokens", "seed", "extra_body")


@dataclass(slots=True)
class Makers:
    """Who answered, and when: gathered while the lines go by."""

    models: Counter[str] = field(default_factory=Counter)
    hosts: Counter[str] = field(default_factory=Counter)
    first_s: float = 0.0
    last_s: float = 0.0

    def note(self, example: Example) -> None:
        """Look at the lines of an example."""
        for line in example.lines:
            meta = line["_meta"]
            self.models[str(meta.get("model") or "unknown")] += 1
            self.hosts[urlsplit(str(meta.get("endpoint") or "")).hostname or "unknown"] += 1
            at = meta.get("finished_at")
            if isinstance(at, int | float):
                self.first_s = min(self.first_s or at, at)
                self.last_s = max(self.last_s, at)


def require_no_other_card(path: Path) -> None:
    """Refuse to replace a README that somebody else has written.

    Raises:
        ConfigError: there is one.
    """
    try:
        if _OURS not in path.read_text(encoding="utf-8", errors="replace"):
            raise ConfigError(f"{path} was not written by an export, and --card would replace it: move it.")
    except FileNotFoundError:
        return


def card_text(
    name: str,
    summary: ExportSummary,
    makers: Makers,
    origin: Origin,
    options: ExportOptions,
    *,
    failures: int,
    is_folder: bool,
) -> str:
    """The whole card.

    Args:
        name: of the data set.
        failures: records of the run that have no answer.
        is_folder: whether 'datasets' loads the folder as it is.
    """
    splits = dict(summary.splits) or {"train": summary.records}
    front = "\n".join(_front(summary, options, splits if is_folder else {}))
    settings = origin.run.get("settings", {})
    parts = [
        f"---\n{front}\n---\n{_OURS}\n\n# {_one_line(name)}\n",
        "Question-answer pairs about images, written by a model and not by people.\n",
        _table(_counts(summary, failures, splits)),
        "## How it was made\n",
        _table(_making(makers, settings)),
        *_prompts(settings, origin),
    ]
    return "\n".join(parts)


def _front(summary: ExportSummary, options: ExportOptions, splits: dict[str, int]) -> Iterator[str]:
    """YAML, of which JSON's strings are a part."""
    if options.license:
        yield f"license: {json.dumps(options.license)}"
    yield "task_categories:\n- visual-question-answering"
    yield "tags:\n- vqa-async\n- synthetic"
    yield f"size_categories:\n- {next((name for most, name in _SIZES if summary.rows < most), 'n>100M')}"
    if splits:
        yield "configs:\n- config_name: default\n  data_files:"
        for name in [name for name, count in splits.items() if count] or splits:
            pattern = (
                f"data/{name}-*" if options.format != "webdataset" else f"{_prefix(options, name)}-*.tar"
            )
            yield f"  - split: {name}\n    path: {pattern}"


def _prefix(options: ExportOptions, split: str) -> str:
    return split if options.split else "shard"


def _counts(summary: ExportSummary, failures: int, splits: dict[str, int]) -> Iterator[tuple[str, str]]:
    yield "Records", f"{summary.records:,}"
    yield "Rows", f"{summary.rows:,}"
    yield "Question-answer pairs", f"{summary.pairs:,}"
    yield "Images shown", f"{summary.images:,}"
    yield "Records without an answer, not in it", f"{failures:,}"
    for reason, count in summary.dropped.most_common():
        yield f"Pairs left out: {reason}", f"{count:,}"
    if summary.without_image:
        yield "Records left out: image missing", f"{summary.without_image:,}"
    if len(splits) > 1 or summary.splits:
        yield "Splits (by image)", ", ".join(f"{name} {count:,}" for name, count in splits.items())


def _making(makers: Makers, settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Model", ", ".join(makers.models) or str(settings.get("model", "unknown"))
    yield "Endpoint", ", ".join(makers.hosts)
    yield "Answered", " to ".join(dict.fromkeys(_day(at) for at in (makers.first_s, makers.last_s) if at))
    for name in _SAMPLING:
        if settings.get(name) not in (None, "", {}):
            yield name, json.dumps(settings[name], ensure_ascii=False)


def _prompts(settings: dict[str, Any], origin: Origin) -> Iterator[str]:
    system = settings.get("system_prompt")
    for title, text in (
        ("System prompt", DEFAULT_SYSTEM_PROMPT if system is None else system),
        ("Question of rows that have none", origin.prompt),
    ):
        if text:
            yield f"\n### {title}\n\n{_fenced(str(text))}"


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}\n"


def _table(rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {_one_line(name)} | {_one_line(value)} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
