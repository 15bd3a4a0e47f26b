"""`vqa-async check`: the records and images of an input; and where a model is named, its endpoint as well.

The endpoints are looked at first, because they can be told in a second; then the input, whatever became of
them; then one record is asked about, and what it took is projected onto all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from rich.console import Console

from vqa_async.api import open_engine, run_sync
from vqa_async.cli.asking import endpoint_lines, endpoints_json, impatient, sample_json, sample_lines
from vqa_async.cli.console import emit, open_console, say
from vqa_async.cli.example import example_json, example_lines
from vqa_async.cli.exits import EXIT_OK, EXIT_SOME_FAILED, EXIT_STOPPED
from vqa_async.cli.findings import Findings, findings_json, findings_lines, look_at
from vqa_async.cli.projection import Projection, project, projection_json, projection_lines
from vqa_async.cli.startup import raise_descriptor_limit
from vqa_async.config import Config
from vqa_async.engine import Engine
from vqa_async.errors import ConfigError, VQAError
from vqa_async.models import Failure, Result, Success
from vqa_async.preflight import EndpointCheck
from vqa_async.prompts import Asking, asking_for
from vqa_async.sources import InputFormat, Source, open_source

_Tell = Callable[[Sequence[str]], None]
"""Shows lines as soon as they are known."""


@dataclass(frozen=True, slots=True)
class _Report:
    """All that a check has found out; what was not asked is empty or None."""

    findings: Findings
    endpoints: Sequence[EndpointCheck] = ()
    sample: Result | None = None
    projection: Projection | None = None

    def errors(self) -> list[VQAError]:
        """Why endpoints cannot be used, and why the sample failed."""
        found: list[VQAError] = [check.error for check in self.endpoints if check.error is not None]
        return [*found, self.sample.error] if isinstance(self.sample, Failure) else found

    def exit_code(self) -> int:
        """3 where a run would stop, 1 where something is to be mended."""
        is_hopeless = self.endpoints and not _usable(self.endpoints)
        if is_hopeless or (isinstance(self.sample, Failure) and self.sample.error.stops_run):
            return EXIT_STOPPED
        return EXIT_SOME_FAILED if self.findings.bad or self.errors() else EXIT_OK


def check_input(
    config: Config, input: str, *, limit: int | None, format: InputFormat, offline: bool, json: bool
) -> int:
    """Check everything, print what is found; returns the exit code."""
    if limit is not None and limit < 1:
        raise ConfigError("limit must be at least 1.")
    console = open_console()
    asking = asking_for(config)
    source = open_source(
        input, config.columns, asking=asking, format=format, limit=limit, selection=config.selection
    )
    is_asking = not offline and any(one.model for one in config.all_endpoints())
    check = _asking if is_asking else _looking
    report = run_sync(lambda: check(source, config, asking, console, _silent if json else _print))
    if json:
        for error in report.errors():
            say(console, error.message, "red")
        emit(orjson.dumps(_as_json(report, asking), option=orjson.OPT_INDENT_2).decode())
    return report.exit_code()


async def _looking(source: Source, config: Config, asking: Asking, console: Console, tell: _Tell) -> _Report:
    """The input alone."""
    findings = await look_at(source, config, asking, console)
    tell(findings_lines(findings))
    if not asking.is_usual or config.prompting.shapes_system:
        tell(example_lines(findings, asking))
    return _Report(findings)


async def _asking(source: Source, config: Config, asking: Asking, console: Console, tell: _Tell) -> _Report:
    """The endpoints, the input, and one record of it."""
    raise_descriptor_limit()
    async with open_engine(impatient(config)) as engine:
        endpoints = await engine.check_endpoints(thorough=True)
        tell(endpoint_lines(endpoints))
        findings = (await _looking(source, config, asking, console, tell)).findings
        if findings.first is None or not _usable(endpoints):
            return _Report(findings, endpoints)
        sample = await engine.generate(findings.first.record)
        tell(sample_lines(sample))
        if isinstance(sample, Failure):
            return _Report(findings, endpoints, sample)
        projection = _project(findings, sample, engine, endpoints)
        tell(projection_lines(projection))
        return _Report(findings, endpoints, sample, projection)


def _usable(endpoints: Sequence[EndpointCheck]) -> bool:
    return any(check.error is None for check in endpoints)


def _project(
    findings: Findings, sample: Success, engine: Engine, endpoints: Sequence[EndpointCheck]
) -> Projection:
    checked = zip(engine.config.all_endpoints(), endpoints, strict=True)
    usable = [endpoint for endpoint, check in checked if check.error is None]
    return project(findings, sample, engine.config, usable)


def _print(lines: Sequence[str]) -> None:
    emit("\n".join(lines))


def _silent(lines: Sequence[str]) -> None:
    """For JSON, which is printed as a whole."""


def _as_json(report: _Report, asking: Asking) -> dict[str, object]:
    return {
        **findings_json(report.findings),
        "example": example_json(report.findings, asking),
        "endpoints": endpoints_json(report.endpoints),
        "sample": sample_json(report.sample),
        "projection": projection_json(report.projection),
    }
