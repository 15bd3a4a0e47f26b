"""The options of an export, once each: flags and Python keywords follow from the fields here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from vqa_async.errors import ConfigError

FormatName = Literal[
    "",
    "json",
    "jsonl",
    "csv",
    "parquet",
    "hf",
    "sharegpt",
    "llava",
    "swift",
    "openai",
    "webdataset",
]


ImageMode = Literal["", "copy", "link", "embed"]


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What goes into an export, and in which form."""

    format: FormatName = ""
    """json: an array of the rows with their answers, without the conversations, as in the guide. jsonl:
    everything. csv, parquet: tables. hf: a folder for 'datasets'. sharegpt (LLaMA-Factory), llava, swift,
    openai: for trainers. webdataset: tar shards. Default: by the suffix."""

    split: str = ""
    """Shares such as train=0.9,val=0.1, a file each. All records that share an image go to the same."""

    with_images: ImageMode = ""
    """Copy the images into images/ beside the export, link them there (hard links), or embed them. Default:
    as the form needs it, and references where it needs none."""

    image_paths: Literal["", "relative", "absolute"] = ""
    """How references are written in trainers' forms. Default: relative to the export; absolute for swift."""

    pairs_as: Literal["turns", "rows"] = "turns"
    """One conversation with all pairs of a record, or a row for each pair."""

    system: str = ""
    """System prompt to put before every conversation of a trainer's form."""

    drop_flagged: bool | tuple[str, ...] = False
    """Leave out pairs that have a flag of the quality checks; with names (--drop-flagged=empty,refusal) those
    flags alone: those of the run, 'disagreement' of its verification, and 'common' and 'near_duplicate_run',
    which are looked for where they are named. Records that lose all their pairs are left out."""

    verify_threshold: float = 0.5
    """Agreement, from 0 to 1, below which a verified pair counts as flagged 'disagreement'."""

    decisions: str = ""
    """JSONL file of lines {"id": ..., "decision": "accept" or "reject"}, for one pair with "pair": its number
    from 0. What is rejected is left out."""

    only_accepted: bool = False
    """Leave out everything that --decisions does not accept."""

    ungrouped: bool = False
    """Leave answers to several questions about one row as they are: a row for each question."""

    failures: bool | Literal["merged"] = False
    """Export the failed rows instead, each as it was in the input with its 'error', fit to be run again; with
    --failures=merged, the failed among the answered."""

    card: bool = False
    """Also write README.md beside the export: counts, model, prompts, settings. A folder for hf has one."""

    license: str = ""
    """Licence for the card, as the Hugging Face Hub calls it, such as cc-by-4.0."""

    def __post_init__(self) -> None:
        if not isinstance(self.drop_flagged, bool):
            given: object = self.drop_flagged  # Python callers may give one text
            words = given if isinstance(given, str) else ",".join(self.drop_flagged)
            names = tuple(name.strip() for name in words.split(",") if name.strip())
            object.__setattr__(self, "drop_flagged", names or True)
        shares(self.split)
        if self.only_accepted and not self.decisions:
            raise ConfigError("--only-accepted needs --decisions FILE, which says what is accepted.")
        if not re.fullmatch(r"[\w.-]*", self.license, re.ASCII):
            raise ConfigError(f"The licence {self.license!r} is no name such as cc-by-4.0.")


def shares(split: str) -> dict[str, float]:
    """The splits and the share of each; {} where there is none.

    Raises:
        ConfigError: a name or a number is not one, a name stands twice, or the shares are not 1 together.
    """
    found: dict[str, float] = {}
    for word in split.split(",") if split else ():
        name, _, number = (part.strip() for part in word.partition("="))
        if not re.fullmatch(r"[A-Za-z]\w{0,39}", name, re.ASCII) or name in found:
            raise ConfigError(f"In --split {split}, {name!r} is no name of its own: use letters, digits, _.")
        try:
            found[name] = float(number)
        except ValueError:
            found[name] = math.nan
        if not 0 < found[name] <= 1:
            raise ConfigError(f"In --split {split}, the share of {name} must be above 0 and at most 1.")
    if found and not math.isclose(sum(found.values()), 1, abs_tol=1e-6):
        raise ConfigError(f"The shares in --split {split} are {sum(found.values()):g} together, not 1.")
    return found
