"""Which pairs stay: flags of quality checks, decisions of people. The one place where pairs are left out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from vqa_async.errors import ConfigError
from vqa_async.export.example import Example, Pair
from vqa_async.export.options import ExportOptions
from vqa_async.journal.json_text import from_json
from vqa_async.keytable import KeyTable

_VERDICTS = {"accept": b"a", "reject": b"r"}

FlagsOf: TypeAlias = Callable[[str, int, str, str], tuple[str, ...]]
"""Record id, number of the pair from 1, question, answer -> flags found after the answer was kept."""


class Selection:
    """Looks at each example; counts what it leaves out.

    Args:
        options: what is to be left out.
        later: flags that pairs have beside those that they bear; asked in the order of the examples.

    Attributes:
        dropped: pairs left out, by reason.
        emptied: records left out, by the reason of the last of their pairs.

    Raises:
        ConfigError: the decisions cannot be read.
    """

    def __init__(self, options: ExportOptions, later: FlagsOf | None = None) -> None:
        self._later = later
        self._flags = options.drop_flagged
        self._only_accepted = options.only_accepted
        self._decisions = read_decisions(Path(options.decisions)) if options.decisions else None
        self.dropped: Counter[str] = Counter()
        self.emptied: Counter[str] = Counter()

    def keep(self, example: Example) -> Example | None:
        """The example with the pairs that stay; None where nothing does."""
        if example.error is not None:
            return example
        if not example.pairs:
            reason = self._decided(example, None)
            self.emptied.update([reason] if reason else [])
            return None if reason else example
        kept, reason = [], ""
        for number, pair in enumerate(example.pairs):
            why = self._flagged(pair) or self._decided(example, pair, number)
            if why:
                reason = why
                self.dropped[why] += 1
            else:
                kept.append(pair)
        if not kept:
            self.emptied[reason] += 1
            return None
        return example.keeping(tuple(kept)) if len(kept) < len(example.pairs) else example

    def _flagged(self, pair: Pair) -> str:
        if not self._flags:
            return ""
        flags = pair.flags
        if not flags and self._later is not None:
            flags = self._later(pair.line_id, pair.number + 1, pair.question, pair.answer)
        wanted = self._flags if isinstance(self._flags, tuple) else flags
        return next((f"flag {flag}" for flag in flags if flag in wanted), "")

    def _decided(self, example: Example, pair: Pair | None, number: int = 0) -> str:
        if self._decisions is None:
            return ""
        verdict = None
        for key in _keys(example, pair, number):
            if (verdict := self._decisions.get(key)) is not None:
                break
        if verdict == _VERDICTS["reject"]:
            return "rejected"
        return "not accepted" if self._only_accepted and verdict is None else ""


def _keys(example: Example, pair: Pair | None, number: int) -> list[str]:
    """What a decision about a pair may be about, the closest first."""
    if pair is None:
        return [example.id]
    return [
        _key(pair.line_id, pair.number),
        _key(example.id, number),
        pair.line_id,
        example.id,
    ]


def _key(id: str, pair: int | None) -> str:
    return id if pair is None else f"{id}\0{pair}"


def read_decisions(path: Path) -> KeyTable:
    """What was decided, by record or by record and pair; of several decisions about one, the last.

    Raises:
        ConfigError: the file cannot be read, or a line is no decision.
    """
    table = KeyTable(key_bytes=12, value_bytes=1)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    _note(table, line, f"{path}, line {number}")
    except OSError as error:
        raise ConfigError(f"The decisions {path} cannot be read: {error.strerror}.") from None
    return table


def _note(table: KeyTable, line: bytes, where: str) -> None:
    try:
        content = from_json(line)
    except ValueError:
        content = None
    fields = content if isinstance(content, dict) else {}
    id, verdict, pair = fields.get("id"), fields.get("decision"), fields.get("pair")
    right_pair = pair is None or (isinstance(pair, int) and not isinstance(pair, bool) and pair >= 0)
    if not isinstance(id, str) or verdict not in ("accept", "reject") or not right_pair:
        raise ConfigError(
            f'{where}, is no decision: it must be {{"id": text, "decision": "accept" or "reject"}}, '
            'and may have "pair": a number from 0.'
        )
    table.set(_key(id, pair), _VERDICTS[verdict])
