"""What ``save_to_disk`` of Hugging Face's datasets leaves: which Arrow files, in which order.

A dataset is a folder with state.json, which names its files; several splits are a folder with
dataset_dict.json and a folder for each.
"""

from __future__ import annotations

import json
import os
from typing import Any

from vqa_async.errors import InputError

_SPLITS = "dataset_dict.json"
_STATE = "state.json"


def is_saved_dataset(folder: str) -> bool:
    """Whether ``folder`` was made by ``save_to_disk``."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in (_SPLITS, _STATE))


def arrow_files(folder: str) -> list[str]:
    """The files of a saved dataset; of all its splits, one after the other.

    Raises:
        InputError: what describes it cannot be read.
    """
    if not os.path.isfile(os.path.join(folder, _SPLITS)):
        return _files(folder)
    splits = _read(os.path.join(folder, _SPLITS), "splits")
    return [file for split in splits for file in _files(os.path.join(folder, str(split)))]


def _files(folder: str) -> list[str]:
    listed = _read(os.path.join(folder, _STATE), "_data_files")
    try:
        return [os.path.join(folder, os.path.basename(file["filename"])) for file in listed]
    except (TypeError, KeyError):
        raise _unreadable(os.path.join(folder, _STATE)) from None


def _read(path: str, field: str) -> list[Any]:
    try:
        with open(path, encoding="utf-8") as file:
            found = json.load(file)[field]
    except (OSError, ValueError, KeyError, TypeError):
        raise _unreadable(path) from None
    if not isinstance(found, list):
        raise _unreadable(path)
    return found


def _unreadable(path: str) -> InputError:
    return InputError(f"{path} does not say which files the dataset has: save it again with save_to_disk.")
