"""What the searches of scripts/fuzz start from and what they have found; and that the script itself works."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import random
import sys
from pathlib import Path
from types import ModuleType

import journal_door
import pairs_door
import pytest
import reply_door
import source_door

from vqa_async.qa.labels import labels_in

SCRIPT = Path(__file__).resolve().parent.parent.parent / "scripts" / "fuzz"
DOORS = {"journal": journal_door, "reply": reply_door, "pairs": pairs_door, "source": source_door}

FOUND = [
    # An error's message nested deeper than orjson writes: TypeError out of read_error and read_completion.
    ("reply", b'\17{"error":' + b"[" * 260 + b"1" + b"]" * 260 + b"}"),
    ("reply", b'\0{"error":{"message":' + b"[" * 1000 + b"1" + b"]" * 1000 + b"}}"),
    ("reply", b'\0{"choices":[{"error":' + b'{"a":' * 300 + b"1" + b"}" * 300 + b"}]}"),
    # A refusal nested deeper than Python shows: RecursionError.
    ("reply", b'\0{"choices":[{"message":{"refusal":' + b"[" * 1000 + b"1" + b"]" * 1000 + b"}}]}"),
    # Blanks among invisible characters: a success without an answer.
    ("reply", b'\0{"choices":[{"message":{"content":"\\u200b\\u000b\\u200b"}}]}'),
    # An answer's line with a right checksum and without usage: KeyError out of the survey.
    ("journal", b'\x01\t(a,"_mgta":{,"_meta":{"id":"r1","index":1\xd7\xd7\xd7\xd7\xd7'),
    ("journal", b'\x01\t\x2b{"a":1,"_meta":{"id":"r9","index":1,"usage":7'),
    # A list item and then another decoration before a label: SystemError out of the re module of Python 3.11.
    ("pairs", "-❓A".encode()),
    ("pairs", "- ❓Q:".encode()),
    ("pairs", b"1. # Q: What?\n1. # A: This."),
]
"""Inputs that once broke a promise, as the search made them small or as they were thought of beside it."""


@pytest.mark.parametrize(("door", "data"), FOUND, ids=[f"{door}-{at}" for at, (door, _) in enumerate(FOUND)])
def test_what_was_found_is_mended(door: str, data: bytes) -> None:
    """Each finding keeps the promise now."""
    DOORS[door].check(data)


@pytest.mark.parametrize("door", DOORS)
def test_every_seed_keeps_the_promise(door: str) -> None:
    """What a search starts from is no finding, nor is a token, an empty input or a single byte."""
    module = DOORS[door]
    for data in (*module.SEEDS, *module.TOKENS, b"", *(bytes([byte]) for byte in range(256))):
        module.check(data)
    assert all(module.TOKENS)


@pytest.mark.parametrize("door", ["reply", "source"])
def test_changed_seeds_are_other_inputs(door: str) -> None:
    """The changes to JSON bring the search further than the parser."""
    module, rng = DOORS[door], random.Random(1)
    changed = [module.mutate(seed, rng) for seed in module.SEEDS for _ in range(20)]
    assert sum(data is not None for data in changed) > len(changed) / 3


@pytest.mark.parametrize("line", ["- ❓ Q: x", "1. # Q: x", "- **1.** Q: x", "# 1. Q: x", "1) ✅ **Q:** x"])
def test_a_label_in_a_list_is_known_to_be_listed_whatever_decorates_it(line: str) -> None:
    """The list item may be any of the decorations before the label."""
    (label,) = labels_in([line])
    assert label is not None
    assert (label.name, label.text, label.listed) == ("q", "x", True)


# --- the script ------------------------------------------------------------------------------------------


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/fuzz as a module."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader = importlib.machinery.SourceFileLoader("fuzz_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("fuzz_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def test_without_atheris_the_script_says_how_to_install_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It installs nothing by itself."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["fuzz", "reply"])
    assert script.main() == 2
    assert ".venv/bin/python -m pip install atheris" in capsys.readouterr().err


def test_a_finding_is_made_as_small_as_it_gets(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told by the place where it broke, and shown as Python bytes."""

    def check(data: bytes) -> None:
        if b"x" in data and data.count(b"y") > 1:
            raise ValueError("two of them")

    artifact = tmp_path / "crash-1"
    artifact.write_bytes(b"abcx" * 50 + b"defyghyi" * 20)
    place, smallest = script.shown(check, artifact)
    assert sorted(smallest) == sorted(b"xyy")
    assert place.startswith("ValueError in test_doors.py:")
    assert repr(smallest) in capsys.readouterr().out


def test_the_corpus_and_the_dictionary_are_written_in_the_form_that_the_search_reads(
    script: ModuleType, tmp_path: Path
) -> None:
    """A file for each seed; a quoted line for each token, every byte of it escaped."""
    script.write_corpus(pairs_door, tmp_path)
    assert len(list((tmp_path / "corpus").iterdir())) == len(pairs_door.SEEDS)
    assert (tmp_path / "dictionary").read_text().startswith('"\\x51\\x3a"\n')
