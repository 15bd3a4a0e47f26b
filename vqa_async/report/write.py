"""Writes a report: the page under a temporary name beside its own, which it takes when all of it is whole.

Two passes over the output, so that memory does not depend on it: the first counts, and draws the sample; the
second writes a record after the other behind the head of the page.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

from vqa_async.errors import ConfigError, JournalDamaged
from vqa_async.export.example import Example, examples
from vqa_async.export.folders import replaced_folder, require_ours
from vqa_async.export.ordered import OrderedLines
from vqa_async.export.origin import Origin
from vqa_async.export.write import sweep
from vqa_async.journal import JournalPaths
from vqa_async.journal.lock import is_locked
from vqa_async.journal.replacing import replaced
from vqa_async.models import ImageRef
from vqa_async.report.blocks import (
    FILES_PER_FOLDER,
    IMAGES_PER_BLOCK,
    Beside,
    Inside,
    record_blocks,
    write_text,
)
from vqa_async.report.entries import Entry, Judge, count, entry
from vqa_async.report.facts import lines, state_of, tiles
from vqa_async.report.figures import Figures
from vqa_async.report.options import ReportOptions
from vqa_async.report.page import report_page
from vqa_async.report.plots import plots
from vqa_async.report.safe import script_json
from vqa_async.report.sample import Sample
from vqa_async.report.thumbnails import BESIDE, Size, Thumbnails
from vqa_async.report.wording import moment
from vqa_async.review.scores import checks_output, read_scores

_TRIES = 3

_SHARE_OF_TEXT = 0.75
"""How much of an output's bytes is in its page. An output has its pairs twice, as text and as pairs."""


@dataclass(slots=True)
class ReportSummary:
    """What a report holds, in numbers.

    Attributes:
        records: records that can be looked at in it; answers to several questions about a row are one.
        of: those that the output has.
        answered, failed, pairs: of the whole output.
        images: small copies of images.
        missing: images that could not be shown.
        bytes: of the page and what stands beside it.
        files: what was written: the page, and the folder beside it where there is one.
    """

    records: int = 0
    of: int = 0
    answered: int = 0
    failed: int = 0
    pairs: int = 0
    images: int = 0
    missing: int = 0
    bytes: int = 0
    files: list[Path] = field(default_factory=list)


class _Changed(Exception):
    """The run tidied its files while they were read."""


def write_report(
    output: str | os.PathLike[str],
    page: str | os.PathLike[str],
    options: ReportOptions | None = None,
    **changes: Any,
) -> ReportSummary:
    """Write a page to look through an output: figures, plots, and every record with its images.

    Args:
        output: OUT.jsonl of a run, finished, stopped or going on.
        page: file to write; replaced if it exists.
        options: what it shows.
        **changes: single options by name, instead.

    Raises:
        ConfigError: an option is unknown or cannot work, or the page cannot be written.
        InputError: there is no such output.
        JournalDamaged: it is not as it was written.

    Example:
        >>> write_report("out.jsonl", "report.html", sample=500).records
        500
    """
    paths = JournalPaths.of(output)
    target = _target(Path(page), paths)
    chosen = _chosen(options, changes)
    try:
        for _ in range(_TRIES - 1):
            try:
                return _Report(paths, target, chosen).write()
            except _Changed:
                continue
        return _Report(paths, target, chosen).write()
    except _Changed:
        raise ConfigError(
            f"The output {paths.successes} changes faster than it can be read. Try again."
        ) from None
    except OSError as error:
        raise ConfigError(
            f"The report {target} cannot be written: {error.strerror}. Choose another -o, or mend that."
        ) from None


def _chosen(options: ReportOptions | None, changes: dict[str, Any]) -> ReportOptions:
    if options is not None and changes:
        raise ConfigError("Give options as one value or by name, not both.")
    try:
        return options or ReportOptions(**changes)
    except TypeError as error:
        raise ConfigError(f"A report option is unknown or of the wrong type: {error}.") from None


def _target(page: Path, paths: JournalPaths) -> Path:
    try:
        target = page.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise ConfigError(f"The report {str(page)!r} cannot be a file: {error}.") from None
    if target in (paths.successes, paths.failures, paths.run, paths.lock, paths.damaged, paths.batches):
        raise ConfigError(
            f"The report would overwrite {target}, a file of the output itself. Choose another -o."
        )
    if target.is_dir():
        raise ConfigError(
            f"The report {target} is a folder. Give a file name, such as {target / 'report.html'}."
        )
    if not target.parent.is_dir():
        raise ConfigError(
            f"The report {target} cannot be written: there is no folder {target.parent}. Make it, or choose "
            "another -o."
        )
    return target


class _Report:
    """One report.

    Args:
        paths: the output.
        target: the page.
        options: what it shows.
    """

    def __init__(self, paths: JournalPaths, target: Path, options: ReportOptions) -> None:
        self._paths = paths
        self._target = target
        self._options = options
        self._origin = Origin.of(paths)
        self._is_running = is_locked(paths.lock)
        self._identity = self._inodes()
        self._lines = OrderedLines(paths, known=bool(self._origin.run), failures=True)
        self._judge = Judge(read_scores(checks_output(paths.successes)), options.verify_threshold)
        self._figures = Figures()
        self._sample = Sample(options.sample)
        self._total = 0
        self._summary = ReportSummary()

    def write(self) -> ReportSummary:
        """Write all of it."""
        self._count()
        shown = min(self._total, self._options.sample or self._total)
        images = max(shown, round(self._figures.images * shown / max(self._total, 1)))
        place = self._options.place_for(images)
        if place == "beside":
            require_ours(self._folder)
        for path in (self._target, self._folder):
            sweep(path)
        with ExitStack() as stack:
            file = stack.enter_context(replaced(self._target, mark=f"{secrets.token_hex(4)}."))
            self._fill(file, stack, self._size(place, images, shown), shown)
            self._summary.bytes += file.tell()
        self._summary.files = [self._target] + ([self._folder] if place == "beside" else [])
        return self._summary

    @property
    def _folder(self) -> Path:
        """Where images stand that are not in the page."""
        return self._target.with_name(f"{self._target.stem}.files")

    def _inodes(self) -> list[int]:
        files = (self._paths.successes, self._paths.failures)
        return [path.stat().st_ino if path.exists() else 0 for path in files]

    def _examples(self) -> Iterator[Example]:
        """The records of the output, as it was when it was first looked at."""
        try:
            yield from examples(self._lines, self._origin)
        except (ValueError, LookupError, AssertionError):  # in the middle of another line
            if self._inodes() != self._identity:
                raise _Changed from None
            said = f"{self._paths.successes} or its failures were changed while they were read. Try again."
            raise JournalDamaged(said) from None
        if self._inodes() != self._identity:
            raise _Changed

    def _count(self) -> None:
        """The first pass."""
        for example in self._examples():
            count(example, [self._judge(pair) for pair in example.pairs], self._figures)
            self._sample.offer(example.id)
            self._total += 1

    def _size(self, place: str, images: int, shown: int) -> Size | None:
        """How large copies may be; None where there are to be none."""
        if place == "none":
            return None
        files = (path for path in (self._paths.successes, self._paths.failures) if path.exists())
        text = sum(path.stat().st_size for path in files) * shown / max(self._total, 1)
        return BESIDE if place == "beside" else Size.fitting(images, round(text * _SHARE_OF_TEXT))

    def _fill(self, file: BinaryIO, stack: ExitStack, size: Size | None, shown: int) -> None:
        beside = size is BESIDE
        write_text(file, report_page("head", beside=beside, **self._head(shown)))
        images = Beside(stack.enter_context(replaced_folder(self._folder))) if beside else Inside(file)
        with record_blocks(file) as add:
            thumbnails = Thumbnails(self._origin.folder, size, images.keep)
            with thumbnails:
                for made in self._entries(thumbnails):
                    add(made)
                    self._summary.records += 1
        images.close()
        self._note(thumbnails, images)
        about = {
            "run": self._run_name(),
            "images": self._folder.name if beside else "",
            "perFolder": FILES_PER_FOLDER,
            "perBlock": IMAGES_PER_BLOCK,
            "output": self._paths.successes.name,
        }
        write_text(file, report_page("tail", beside=beside, about=script_json(about)))

    def _entries(self, thumbnails: Thumbnails) -> Iterator[Entry]:
        """The second pass."""
        chosen = ((one, _images(one)) for one in self._examples() if self._sample.has(one.id))
        for example, images in thumbnails.shown(chosen):
            yield entry(example, [self._judge(pair) for pair in example.pairs], images, self._origin)

    def _note(self, thumbnails: Thumbnails, images: Inside | Beside) -> None:
        summary, figures = self._summary, self._figures
        summary.answered, summary.failed, summary.pairs = figures.answered, figures.failed, figures.pairs
        summary.of = self._total
        summary.missing, summary.images = thumbnails.missing, images.count
        summary.bytes += images.bytes_beside

    def _head(self, shown: int) -> dict[str, Any]:
        run, figures = self._origin.run, self._figures
        return {
            "title": self._options.title or self._paths.successes.name,
            "state": state_of(run, figures, is_running=self._is_running),
            "tiles": tiles(figures, run),
            "facts": lines(figures, run),
            "plots": plots(figures),
            "made_at": moment(time.time()),
            "shown": shown,
            "total": self._total,
        }

    def _run_name(self) -> str:
        """What decisions are kept under in the browser: the same for the same output, made again."""
        run = self._origin.run
        told = f"{self._paths.successes}\0{run.get('fingerprint', '')}"
        return blake2b(told.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()


def _images(example: Example) -> Sequence[ImageRef]:
    """The images to show; none where the run refused to look at them."""
    refused = example.error is not None and example.error.get("code") == "path_outside_root"
    return () if refused else example.images
