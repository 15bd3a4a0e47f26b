"""Where the files of an output are, and whether a run can keep its results there."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vqa_async.errors import ConfigError, InputError
from vqa_async.journal.writer import disk_error

_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@dataclass(frozen=True, slots=True)
class JournalPaths:
    """Where the files of an output are."""

    successes: Path
    failures: Path
    run: Path
    lock: Path
    damaged: Path
    batches: Path
    parts: Path

    @classmethod
    def of(cls, output: str | os.PathLike[str]) -> JournalPaths:
        """The paths for ``OUT.jsonl``; links are followed, so that one output has one lock.

        Raises:
            ConfigError: no file can have this name.
        """
        try:
            out = Path(output).resolve()
            circle = out.is_symlink()  # since Python 3.13 that is what a circle of links is resolved to
        except FileNotFoundError:  # the working directory itself is gone: not a matter of the name
            raise
        except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
            raise ConfigError(f"The output {os.fspath(output)!r} cannot be a file: {error}.") from None
        if circle:
            raise ConfigError(f"The output {os.fspath(output)!r} cannot be a file: its links go in a circle.")
        stem = out.name.removesuffix(".jsonl")
        return cls(
            successes=out,
            failures=out.with_name(f"{stem}.failures.jsonl"),
            run=out.with_name(f"{stem}.run.json"),
            lock=out.with_name(f"{out.name}.lock"),
            damaged=out.with_name(f"{stem}.damaged.jsonl"),
            batches=out.with_name(f"{stem}.batches.jsonl"),
            parts=out.with_name(f"{stem}.parts"),
        )

    @contextmanager
    def usable(self) -> Iterator[None]:
        """Look whether a run can write here, and explain what the system says if not, until the block ends.

        Raises:
            ConfigError: another output must be chosen, or permissions changed.
            DiskError: the disk is full or failing.
        """
        try:
            self._require_folder()
            for path in (
                self.failures,
                self.damaged,
                self.batches,
            ):  # the output's own links are resolved already
                if path.is_symlink():
                    raise ConfigError(
                        f"The output {path} is a link, and nothing is written through one. "
                        "Remove it, or choose another -o."
                    )
            for path in (self.successes, self.failures):
                if path.exists():
                    _require_writable_file(path)
            yield
        except OSError as error:
            path = Path(error.filename or self.successes)
            if error.errno in _DISK_ERRORS:
                raise disk_error(path, error) from None
            raise ConfigError(
                f"The output {path} cannot be used: {error.strerror or error}. Choose another -o."
            ) from None

    def _require_folder(self) -> None:
        out = self.successes
        if not out.parent.is_dir():
            raise ConfigError(
                f"The output folder {out.parent} does not exist. Make it, or choose another -o."
            )
        if out.is_dir():
            raise ConfigError(f"The output {out} is a folder. Give a file name, such as {out / 'out.jsonl'}.")
        if not os.access(out.parent, os.W_OK):
            raise ConfigError(f"The output folder {out.parent} cannot be written. Choose another -o.")


_ADVICE: dict[type[OSError], str] = {
    FileNotFoundError: "Check the name, or start with: vqa-async run.",
    IsADirectoryError: "Give the file of a run, such as out.jsonl.",
}


def unreadable(output: Path, error: OSError) -> InputError:
    """Why an output that is to be looked at cannot be, and what to do."""
    advice = _ADVICE.get(type(error), "Check its permissions and the disk.")
    return InputError(f"The output {output} cannot be read: {error.strerror}. {advice}")


def require_output(paths: JournalPaths) -> None:
    """See that there is an output.

    Raises:
        InputError: there is none.
    """
    if not paths.successes.exists() and not paths.run.exists():
        raise InputError(f"There is no output {paths.successes}. {_ADVICE[FileNotFoundError]}")


def _require_writable_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"The output {path} is not a plain file. Choose another -o.")
    if not os.access(path, os.W_OK):
        raise ConfigError(
            f"The output {path} cannot be written. Change its permissions or choose another -o."
        )
