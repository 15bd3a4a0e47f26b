"""Disks that are full, limited, taken away: real ones, where the system lets us make them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from journal_results import contents, failure, ids, journal, keep, success

from vqa_async.errors import ConfigError, DiskError
from vqa_async.journal import JournalPaths


def mount(*arguments: str) -> bool:
    return subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if sys.platform != "linux" or not mount("-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)):
        pytest.skip("this test mounts a small disk, and that is not permitted here")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def is_whole(path: Path) -> bool:
    data = path.read_bytes()
    return data == b"" or data.endswith(b"\n")


async def fill(output: Path, count: int = 1000) -> int:
    """Keep answers until the disk is full; how many were acknowledged."""
    kept = 0

    async def keep_many() -> None:
        nonlocal kept
        for kept in range(count):
            await opened.append(success(kept))

    async with journal(output) as opened:
        with pytest.raises(DiskError) as caught:
            await keep_many()
        assert caught.value.code == "disk_full"
        assert str(output) in str(caught.value)
        assert "No space left" in str(caught.value)
        with pytest.raises(DiskError):
            await opened.append(failure(kept))
        with pytest.raises(DiskError):
            await opened.close("stopped", str(caught.value), {})
    return kept


async def test_a_full_disk_ends_the_run_with_whole_lines(small_disk: Path) -> None:
    """All that was acknowledged is there; with space again the run goes on where it stopped."""
    out, ballast = small_disk / "out.jsonl", small_disk / "ballast"
    ballast.write_bytes(bytes(32 << 10))
    kept = await fill(out)
    assert kept > 10
    assert ids(out) == [f"r{n}" for n in range(kept)]
    assert is_whole(out)
    with pytest.raises(DiskError, match="No space left"):
        await keep(out)
    ballast.unlink()
    before = out.read_bytes()
    async with journal(out) as opened:
        assert opened.finished_before == kept
        assert opened.notices == []
        await opened.append(success(kept))
        await opened.close("finished", "", {})
    assert out.read_bytes().startswith(before)
    assert not list(small_disk.glob(".*"))


async def test_a_disk_that_is_full_from_the_start_is_said_before_anything_is_sent(small_disk: Path) -> None:
    """The run file does not fit: the journal does not open."""
    (small_disk / "ballast").write_bytes(bytes(60 << 10))
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "rest").write_bytes(bytes(8 << 10))
    with pytest.raises(DiskError) as caught:
        await keep(small_disk / "out.jsonl")
    assert caught.value.code == "disk_full"


async def test_compaction_on_a_full_disk_leaves_the_old_failures(small_disk: Path) -> None:
    """They are tidied by a later run; none is lost."""
    out = small_disk / "out.jsonl"
    paths = await keep(out, *(failure(n) for n in range(20)))
    async with journal(out) as opened:
        await opened.append(success(1))
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "ballast").write_bytes(bytes(64 << 10))
        with pytest.raises(DiskError) as caught:
            await opened.close("finished", "", {})
        assert caught.value.code == "disk_full"
    assert len(ids(paths.failures)) == 20
    (small_disk / "ballast").unlink()
    await keep(out)
    assert len(ids(paths.failures)) == 19


LIMITED = """
import asyncio, resource, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from journal_results import journal, success
from vqa_async.errors import DiskError

async def main():
    kept = 0
    async with journal(sys.argv[1]) as opened:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            while kept < 100:
                await opened.append(success(kept, text="x" * 300))
                kept += 1
        except DiskError as error:
            print(kept, error.code)
        try:
            await opened.close("stopped", "", {})
        except DiskError:
            pass

asyncio.run(main())
"""


@pytest.mark.slow
async def test_a_write_that_is_cut_short_is_taken_back(tmp_path: Path) -> None:
    """A limit on the size of files: the system takes a part of a line, then no more."""
    out = tmp_path / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(out), str(Path(__file__).parent)],
        capture_output=True,
        text=True,
        check=True,
    )
    kept, code = done.stdout.split()
    assert code == "disk_full"
    assert is_whole(out)
    assert ids(out) == [f"r{n}" for n in range(int(kept))]
    assert 0 < 5000 - out.stat().st_size < 1000
    async with journal(out) as opened:
        assert opened.finished_before == int(kept)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    path.with_suffix(".other").write_bytes(path.read_bytes())
    path.with_suffix(".other").replace(path)


def rotate(path: Path) -> None:
    path.rename(path.with_suffix(".1"))


def truncate(path: Path) -> None:
    path.write_bytes(b"")


def add_to(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"image": "a.png"}\n')


@pytest.mark.parametrize("fsync", ["always", "never"])
@pytest.mark.parametrize("harm", [remove, replace, rotate, truncate, add_to])
async def test_a_file_that_others_change_ends_the_run(tmp_path: Path, harm, fsync: str) -> None:  # type: ignore[no-untyped-def]
    """Answers are not written for ever into a file that nobody will find, in any mode."""
    out = tmp_path / "out.jsonl"

    async def use() -> None:
        async with journal(out, fsync=fsync, fsync_interval=0.01) as opened:
            await opened.append(success(1))
            harm(out)
            for n in range(2, 50):
                await opened.append(success(n))

    with pytest.raises(DiskError, match="while the run was writing"):
        await use()


# --- places where no output can be -----------------------------------------------------------------------


async def refusal(output: Path | str) -> str:
    with pytest.raises(ConfigError) as caught:
        await keep(Path(output))
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message


async def test_an_output_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    """The folder is named, and nothing is made."""
    assert f"The output folder {tmp_path / 'no'} does not exist" in await refusal(tmp_path / "no" / "o.jsonl")
    assert contents(tmp_path) == {}


async def test_an_output_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    """A file name is suggested."""
    assert str(tmp_path / "out.jsonl") in await refusal(tmp_path)


async def test_a_folder_where_the_failures_should_be_is_refused(tmp_path: Path) -> None:
    """All files of an output must be files."""
    (tmp_path / "out.failures.jsonl").mkdir()
    assert "not a plain file" in await refusal(tmp_path / "out.jsonl")


@pytest.mark.parametrize("name", ["out.run.json", "out.jsonl.lock"])
async def test_a_folder_in_the_place_of_a_side_file_is_refused(tmp_path: Path, name: str) -> None:
    """Also where the system says it rather than we."""
    (tmp_path / name).mkdir()
    assert "cannot be used" in await refusal(tmp_path / "out.jsonl")


@pytest.mark.parametrize("device", ["/dev/null", "/dev/full"])
async def test_a_device_is_no_output(tmp_path: Path, device: str) -> None:
    """Nothing could be read back from it."""
    (tmp_path / "out.jsonl").symlink_to(device)
    assert "not a plain file" in await refusal(tmp_path / "out.jsonl")


async def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    """Opening it would hang for ever."""
    os.mkfifo(tmp_path / "out.jsonl")
    assert "not a plain file" in await refusal(tmp_path / "out.jsonl")


async def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    """As a missing folder is."""
    (tmp_path / "file").touch()
    assert "does not exist" in await refusal(tmp_path / "file" / "out.jsonl")


@pytest.mark.parametrize("name", ["a\0b.jsonl", "x" * 300 + ".jsonl", "x" * 250])
async def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, name: str) -> None:
    """With a sentence, not with whatever the system raises."""
    with pytest.raises(ConfigError, match="cannot be"):
        await keep(tmp_path / name)


def test_links_in_a_circle_are_refused(tmp_path: Path) -> None:
    """They lead to no file."""
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "b.jsonl")
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match="cannot be a file"):
        JournalPaths.of(tmp_path / "a.jsonl")


async def test_a_disk_that_cannot_be_written_is_refused(small_disk: Path) -> None:
    """Whoever asks, even root."""
    await keep(small_disk / "out.jsonl", success(1))
    before = contents(small_disk)
    assert mount("-o", "remount,ro", str(small_disk))
    assert "cannot be written" in await refusal(small_disk / "out.jsonl")
    assert "cannot be written" in await refusal(small_disk / "new.jsonl")
    assert contents(small_disk) == before


UNPRIVILEGED = """
import asyncio, os, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from journal_results import keep
from vqa_async.errors import ConfigError

asyncio.run(asyncio.sleep(0))
if os.geteuid() == 0:
    os.setresuid(65534, 65534, 65534)
for name in ("closed/out.jsonl", "readonly.jsonl", "out.jsonl"):
    try:
        asyncio.run(keep(Path(sys.argv[1], name)))
    except ConfigError as error:
        print(error)
"""


@pytest.mark.slow
def test_files_and_folders_without_permission_are_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """For a user who is not root: a folder, an output, a run file."""
    folder = Path("/tmp", f"vqa-async-{os.getpid()}")  # where others may look; pytest's folders are private
    folder.mkdir(mode=0o777)
    try:
        folder.chmod(0o777)
        (folder / "closed").mkdir(mode=0o555)
        (folder / "readonly.jsonl").touch(mode=0o444)
        (folder / "out.run.json").touch(mode=0o000)
        done = subprocess.run(
            [sys.executable, "-c", UNPRIVILEGED, str(folder), str(Path(__file__).parent)],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        subprocess.run(["rm", "-rf", str(folder)], check=True)
    closed, readonly, run = done.stdout.splitlines()
    assert closed == f"The output folder {folder / 'closed'} cannot be written. Choose another -o."
    assert readonly.startswith(f"The output {folder / 'readonly.jsonl'} cannot be written.")
    assert run.startswith(f"The output {folder / 'out.run.json'} cannot be used: Permission denied.")
