"""Writes an export: under temporary names beside the target, which is replaced when all of it is whole."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import astuple, replace
from pathlib import Path

from vqa_async.errors import ConfigError, ImageError
from vqa_async.export.card import CARD, Makers, card_text, require_no_other_card
from vqa_async.export.example import Example, examples
from vqa_async.export.files import Add
from vqa_async.export.folders import replaced_folder, require_ours
from vqa_async.export.forms import FORMATS, Layout, format_name
from vqa_async.export.llamafactory import read_info, register
from vqa_async.export.options import ExportOptions, shares
from vqa_async.export.ordered import OrderedLines, Place
from vqa_async.export.origin import Origin
from vqa_async.export.pictures import Picture, Pictures, name_of
from vqa_async.export.selection import FlagsOf, Selection
from vqa_async.export.splits import Splits
from vqa_async.export.summary import ExportSummary
from vqa_async.journal import JournalPaths
from vqa_async.journal.replacing import replaced

_LEFT_BEHIND_S = 3600.0
"""An export that nothing was written to for this long was killed."""


def export(
    output: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    format: str = "",
    place: Place | None = None,
) -> int:
    """Write the answers of ``output`` to ``target``, in input order; returns how many.

    Args:
        output: OUT.jsonl of a run; the run may be unfinished.
        target: file to write; replaced if it exists.
        place: see ``OrderedLines``; needed where the input was reordered or cut since it was answered.
        format: a name of ``FORMATS``, such as ``json`` (the guide's form); by the target's suffix if "".

    Raises:
        ConfigError: unknown format, or the target cannot be written.
        InputError: there is no such output.
        JournalDamaged: the output is not as it was written.
    """
    options = ExportOptions(format=format_name(Path(target), format))
    return export_dataset(output, target, options, place=place).records


def export_dataset(
    output: str | os.PathLike[str],
    target: str | os.PathLike[str],
    options: ExportOptions | None = None,
    *,
    place: Place | None = None,
    later_flags: FlagsOf | None = None,
) -> ExportSummary:
    """Write an export in any form; ``export`` with all its options.

    Args:
        output, target, place: see ``export``.
        options: what is written and how.
        later_flags: with ``drop_flagged``, the flags of pairs that the output does not have, such as those
            of verification; see ``review.open_checks``.

    Example:
        >>> options = ExportOptions(format="sharegpt", split="train=0.9,val=0.1", with_images="copy")
        >>> export_dataset("out.jsonl", "data/vqa.json", options).splits
    """
    options = options or ExportOptions()
    name = format_name(Path(target), options.format)
    options = replace(FORMATS[name].settled(options, name), format=name)
    paths = JournalPaths.of(output)
    target = _followed(Path(target))
    targets = _targets(target, options)
    if overwritten := {target, *targets.values()} & set(astuple(paths)):
        raise ConfigError(
            f"The export would overwrite the output {min(overwritten)} itself. Choose another -o."
        )
    job = _Job(paths, target, targets, options, place, later_flags)
    try:
        _refuse_what_is_not_ours(job)
        for path in {*targets.values()}:
            sweep(path)
        return job.run()
    except OSError as error:
        raise ConfigError(f"The export {target} cannot be written: {error.strerror}.") from None


class _Job:
    """One export.

    Args:
        paths: the output.
        target: what the user named.
        targets: file of each split; where a folder is made, that folder.
        options: settled ones.
        place: see ``OrderedLines``.
        later_flags: see ``export_dataset``.
    """

    def __init__(
        self,
        paths: JournalPaths,
        target: Path,
        targets: Mapping[str, Path],
        options: ExportOptions,
        place: Place | None,
        later_flags: FlagsOf | None,
    ) -> None:
        self.options = options
        self.target = target
        self.targets = targets
        form = FORMATS[options.format]
        self.form = form.for_failures() if options.failures is True else form
        self.is_folder = form.shards is not None
        self._origin = Origin.of(paths)
        self._failures = 0
        self._lines = OrderedLines(
            paths,
            known=bool(self._origin.run),
            place=place,
            answers=options.failures is not True,
            failures=bool(options.failures),
        )
        self._pictures = Pictures(
            self._origin.folder,
            target.parent,
            options.with_images,
            absolute=options.image_paths == "absolute",
        )
        self._paths = paths
        self._selection = Selection(options, later_flags)
        self._makers = Makers()
        self.summary = ExportSummary(splits=Counter(dict.fromkeys(shares(options.split), 0)))

    @property
    def has_card(self) -> bool:
        """Whether a README.md belongs to it."""
        return self.options.card or self.options.format == "hf"

    def run(self) -> ExportSummary:
        """Write all of it."""
        with closing(self._pictures):
            return self._run()

    def _run(self) -> ExportSummary:
        split_of = self._splits()
        layout = Layout(self.options, self.target.suffix.lower(), self._columns())
        if self.is_folder:
            with replaced_folder(self.target) as folder:
                self._write(split_of, lambda split, stack: self._shards(folder, split, layout, stack))
                self._finish()
                if self.has_card:
                    (folder / CARD).write_text(self._card(), encoding="utf-8")
        else:
            self._write(split_of, lambda split, stack: self._file(split, layout, stack))
            self._finish()
            self._beside()
        self.summary.files = [*dict.fromkeys(self.targets.values())]
        return self.summary

    def _examples(self) -> Iterator[Example]:
        return examples(self._lines, self._origin, ungrouped=self.options.ungrouped)

    def _splits(self) -> Callable[[int], str]:
        """A first pass, where there are splits: over all examples, so that what is left out moves nothing."""
        if not self.options.split:
            return lambda _: ""
        splits = Splits(shares(self.options.split))
        for example in self._examples():
            same = [key for ref in example.images for key in self._pictures.same(ref)]
            splits.add(same, [name_of(ref) for ref in example.images] or [example.id])
        return splits.of

    def _columns(self) -> tuple[str, ...]:
        """The names of all fields, where they must be known before the first row."""
        if not self.form.needs_columns:
            return ()
        selection = Selection(self.options)
        names: dict[str, None] = {}
        for example in self._examples():
            kept = selection.keep(example)
            for row in self.form.rows(kept, None, self.options, self._origin) if kept else ():
                names |= dict.fromkeys(row)
        return tuple(names)

    def _write(self, split_of: Callable[[int], str], opened: Callable[[str, ExitStack], Add]) -> None:
        with ExitStack() as stack:
            adds = {split: opened(split, stack) for split in self.targets}
            for number, example in enumerate(self._examples()):
                split = split_of(number)
                kept = self._selection.keep(example)
                if kept is not None and self._add(kept, adds[split]) and split:
                    self.summary.splits[split] += 1

    def _add(self, example: Example, add: Add) -> bool:
        """Write the rows of an example; False where an image of it cannot be taken in."""
        try:
            pictures = self._shown(example)
            rows = list(self.form.rows(example, pictures, self.options, self._origin))
        except ImageError as error:
            self.summary.without_image += 1
            self.summary.first_missing = self.summary.first_missing or error.message
            return False
        for row in rows:
            add(row)
        self._count(example, len(rows))
        return True

    def _shown(self, example: Example) -> list[Picture] | None:
        """The images of an example; None where they stay as they are in its row."""
        moved = self.options.failures is True and self._is_elsewhere()
        if not (
            self.form.refers or self.options.with_images or self.options.image_paths == "absolute" or moved
        ):
            return None
        try:
            return [self._pictures.picture(ref) for ref in example.images]
        except ImageError:
            if example.error is None:
                raise
            return None  # which may be the very reason for its failure

    def _is_elsewhere(self) -> bool:
        """Whether relative references would be looked for in another folder than the input's."""
        return Path(self._origin.folder or ".").resolve() != self.target.parent

    def _count(self, example: Example, rows: int) -> None:
        summary = self.summary
        summary.records += 1
        summary.rows += rows
        summary.failed += example.error is not None
        summary.pairs += len(example.pairs)
        summary.images += len(example.images)
        summary.unanswered += example.unanswered
        if example.error is None:
            self._makers.note(example)

    def _finish(self) -> None:
        self.summary.dropped = self._selection.dropped
        self.summary.emptied = self._selection.emptied
        self.summary.unfound = self._pictures.unfound

    def _file(self, split: str, layout: Layout, stack: ExitStack) -> Add:
        assert self.form.write is not None
        file = stack.enter_context(replaced(self.targets[split], mark=f"{secrets.token_hex(4)}."))
        return stack.enter_context(self.form.write(file, layout))

    def _shards(self, folder: Path, split: str, layout: Layout, stack: ExitStack) -> Add:
        assert self.form.shards is not None
        return stack.enter_context(self.form.shards(folder, split, layout))

    def _beside(self) -> None:
        """What stands beside the files of an export."""
        if self.options.format == "sharegpt":
            register([*self.targets.values()])
        if self.has_card:
            with replaced(self.target.with_name(CARD)) as file:
                file.write(self._card().encode())

    def _card(self) -> str:
        failures = OrderedLines(self._paths, known=bool(self._origin.run), answers=False, failures=True)
        return card_text(
            self.target.stem,
            self.summary,
            self._makers,
            self._origin,
            self.options,
            failures=len(failures),
            is_folder=self.is_folder,
        )


def _targets(target: Path, options: ExportOptions) -> dict[str, Path]:
    """Where each split goes: ``OUT.train.jsonl``; of a folder, all of them there."""
    names = list(shares(options.split)) or [""]
    if FORMATS[options.format].shards is not None:
        return dict.fromkeys(names, target)
    return {
        name: target.with_name(f"{target.stem}.{name}{target.suffix}") if name else target for name in names
    }


def _refuse_what_is_not_ours(job: _Job) -> None:
    if not job.target.parent.is_dir():
        raise ConfigError(
            f"The export {job.target} cannot be written: there is no folder {job.target.parent}. Make it, or "
            "choose another -o."
        )
    if job.is_folder:
        require_ours(job.target)
    elif job.has_card:
        require_no_other_card(job.target.with_name(CARD))
    if job.options.format == "sharegpt":
        read_info([*job.targets.values()])


def _followed(target: Path) -> Path:
    """``target`` with links followed: the file is replaced, not the link to it."""
    try:
        return target.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle; a NUL in the name
        raise ConfigError(f"The export {str(target)!r} cannot be a file: {error}.") from None


def sweep(target: Path) -> None:
    """Remove what exports and reports to ``target`` left that were killed."""
    start, long_ago = f".{target.name}.", time.time() - _LEFT_BEHIND_S
    with os.scandir(target.parent) as entries:
        left = [e for e in entries if e.name.startswith(start) and e.name.endswith(".new")]
    for entry in left:
        if entry.stat(follow_symlinks=False).st_mtime < long_ago:
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)
