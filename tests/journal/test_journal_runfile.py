"""OUT.run.json: other settings are refused with their names; the file is whole at every moment."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from journal_results import config, contents, failure, ids, journal, keep, success

from vqa_async.errors import JournalDamaged, SettingsChanged
from vqa_async.journal import Journal
from vqa_async.journal.replacing import replaced
from vqa_async.journal.runfile import fingerprint, load, store


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


async def test_the_run_file_says_how_the_last_run_ended(out: Path) -> None:
    """And names settings, input, process and times, but no address and no key."""
    async with journal(out, header="X-Team: secret") as opened:
        run = json.loads(opened.paths.run.read_bytes())
        assert (run["state"], run["pid"], run["input"]) == (
            "running",
            os.getpid(),
            os.path.abspath("in.jsonl"),
        )
        await opened.append(success(1))
        await opened.close("stopped", "The key is wrong.", {"succeeded": 1})
    text = opened.paths.run.read_text()
    run = json.loads(text)
    assert (run["state"], run["reason"], run["counts"]) == ("stopped", "The key is wrong.", {"succeeded": 1})
    assert run["started_at"] <= run["ended_at"]
    assert run["settings"]["model"] == "qwen"
    assert "secret" not in text
    assert "base_url" not in text


async def test_the_same_settings_are_accepted(out: Path) -> None:
    """Also with other settings of the kind that changes no answer."""
    await keep(out, success(1), temperature=0.5)
    await keep(
        out, success(2), temperature=0.5, max_workers=500, timeout=1, fsync="interval", base_url="http://b/v1"
    )
    assert ids(out) == ["r1", "r2"]


async def test_other_settings_are_refused_with_their_names(out: Path) -> None:
    """Each difference, both values; nothing is changed."""
    await keep(out, success(1), temperature=0.5, system_prompt="x" * 100)
    before = contents(out.parent)
    with pytest.raises(SettingsChanged) as caught:
        await keep(out, model="gpt", max_tokens=5, system_prompt="y", temperature=0.5)
    message = str(caught.value)
    assert "model was 'qwen' and is now 'gpt'" in message
    assert "max_tokens was not set and is now 5" in message
    assert f"system_prompt was '{'x' * 56}... and is now 'y'" in message
    assert "temperature" not in message
    assert "--allow-changed-settings" in message
    assert contents(out.parent) == before


async def test_long_settings_that_differ_late_are_told_apart(out: Path) -> None:
    """Two prompts with the same beginning do not look the same in the message."""
    await keep(out, success(1), system_prompt="x" * 200 + "1")
    with pytest.raises(SettingsChanged, match="system_prompt differs from its character 201 on"):
        await keep(out, system_prompt="x" * 200 + "2")


async def test_settings_that_came_later_are_taken_for_unset(out: Path) -> None:
    """An output of an earlier version is gone on with, unless such a setting is used now."""
    await keep(out, success(1))
    path = out.parent / "out.run.json"
    run = json.loads(path.read_bytes())
    for name in ("questions_key", "language", "pairs"):
        del run["settings"][name]
    store(path, run | {"fingerprint": fingerprint(run["settings"])})
    with pytest.raises(SettingsChanged, match="language was not set and is now 'German'"):
        await keep(out, success(2), language="German")
    store(path, run | {"fingerprint": fingerprint(run["settings"])})
    await keep(out, success(2))
    assert ids(out) == ["r1", "r2"]


async def test_other_settings_can_be_allowed(out: Path) -> None:
    """From then on the new ones are the output's."""
    await keep(out, success(1))
    await keep(out, success(2), model="gpt", allow_changed_settings=True)
    await keep(out, success(3), model="gpt")
    with pytest.raises(SettingsChanged):
        await keep(out)
    assert ids(out) == ["r1", "r2", "r3"]


async def test_without_answers_any_settings_will_do(out: Path) -> None:
    """Failures are no reason to hold on to settings that may have caused them."""
    await keep(out, failure(1))
    await keep(out, success(1), model="gpt")
    with pytest.raises(SettingsChanged):
        await keep(out)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"5", b"{}", b'{"settings": 5}', b"\xff", b"[" * 100_000])
async def test_a_run_file_that_is_none_is_refused(out: Path, text: bytes) -> None:
    """With the way out: put it back or delete it."""
    paths = await keep(out, success(1))
    paths.run.write_bytes(text)
    before = contents(out.parent)
    with pytest.raises(JournalDamaged, match=r"out\.run\.json is not the run file .* or delete it"):
        await keep(out)
    assert contents(out.parent) == before
    paths.run.unlink()
    await keep(out, success(2), model="gpt")
    assert ids(out) == ["r1", "r2"]


async def test_what_a_killed_process_left_does_not_disturb_the_next(out: Path) -> None:
    """Not even when the process number comes again, as it does in containers; and it is cleaned up."""
    paths = await keep(out, success(1), failure(2))
    for path in (paths.run, paths.failures, paths.successes):
        path.with_name(f".{path.name}.new").write_bytes(b"half")
    out.write_bytes(b"oops\n" + out.read_bytes())
    await keep(out, success(2), repair=True)
    assert ids(out) == ["r1", "r2"]
    assert not list(out.parent.glob(".*"))


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    """Until the block has ended well the old file is there as it was."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o640)

    def fail() -> None:
        with replaced(path) as file:
            file.write(b"new")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert contents(tmp_path) == {"file": b"old"}
    with replaced(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"file": b"new"}
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_planted_in_the_way_is_not_followed(tmp_path: Path) -> None:
    """Nobody gets us to write elsewhere by guessing a temporary name."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".file.new").symlink_to(victim)
    with replaced(tmp_path / "file") as file:
        file.write(b"new")
    assert contents(tmp_path) == {"file": b"new", "victim": b"precious"}


def test_any_text_can_stand_in_the_run_file(tmp_path: Path) -> None:
    """Names of files are not always valid Unicode, and seeds not always short."""
    content = {"settings": {"seed": 2**80}, "input": "\udcff.jsonl", "reason": "\u2028\0"}
    store(tmp_path / "run.json", content)
    assert load(tmp_path / "run.json") == content


async def test_an_input_with_an_odd_name_can_be_resumed(out: Path) -> None:
    """Its name goes into the run file and comes back."""
    for n in range(2):
        async with Journal(out, config(), source="\udcff.jsonl") as opened:
            await opened.append(success(n))
    assert ids(out) == ["r0", "r1"]
