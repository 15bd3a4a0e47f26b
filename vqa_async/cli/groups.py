"""The groups of options as commands take them: each once, with the panel of the help that it stands in.

A command names what it takes and gives the defaults: ``limits: LimitFlags = Limits()``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Group, Parameter

from vqa_async.config import (
    Answers,
    BatchOptions,
    Budget,
    Columns,
    Distribution,
    Endpoint,
    ImageOptions,
    InputFormat,
    JournalOptions,
    Limits,
    Observability,
    Prompting,
    Quality,
    RetryPolicy,
    Sampling,
    Selection,
    Timeouts,
    Verification,
)

WHERE = Group("Where", sort_key=1)
ASK = Group("What to ask", sort_key=2)
BATCHES = Group("Batches", sort_key=3)
PACE = Group("Pace and patience", sort_key=4)
BUDGET = Group("Budget", sort_key=5)
IMAGES = Group("Images", sort_key=6)
RESULTS = Group("Results and resuming", sort_key=7)
QUALITY = Group("Checked answers", sort_key=8)
WATCH = Group("Watched from outside", sort_key=9)
MACHINES = Group("More than one machine", sort_key=10)

Input: TypeAlias = Annotated[str, Parameter(env_var=())]
Output: TypeAlias = Annotated[Path, Parameter(env_var=())]
"""An output that is there, and is looked at."""
NewOutput: TypeAlias = Annotated[Path, Parameter(alias="-o", group=RESULTS)]
SettingsFile: TypeAlias = Annotated[Path | None, Parameter(group=WHERE, env_var=())]
LimitFlag: TypeAlias = Annotated[int | None, Parameter(group=ASK)]
FormatFlag: TypeAlias = Annotated[InputFormat, Parameter(group=ASK)]
JsonFlag: TypeAlias = Annotated[bool, Parameter(group=RESULTS)]
QuietFlag: TypeAlias = Annotated[bool, Parameter(alias="-q", group=RESULTS)]
Verbose: TypeAlias = Annotated[int, Parameter(alias="-v", count=True, group=WATCH, env_var=())]

EndpointFlags: TypeAlias = Annotated[Endpoint, Parameter(name="*", group=WHERE)]
SamplingFlags: TypeAlias = Annotated[Sampling, Parameter(name="*", group=ASK)]
PromptingFlags: TypeAlias = Annotated[Prompting, Parameter(name="*", group=ASK)]
AnswerFlags: TypeAlias = Annotated[Answers, Parameter(name="*", group=ASK)]
ColumnFlags: TypeAlias = Annotated[Columns, Parameter(name="*", group=ASK)]
SelectionFlags: TypeAlias = Annotated[Selection, Parameter(name="*", group=ASK)]
BatchFlags: TypeAlias = Annotated[BatchOptions, Parameter(name="*", group=BATCHES)]
LimitFlags: TypeAlias = Annotated[Limits, Parameter(name="*", group=PACE)]
TimeoutFlags: TypeAlias = Annotated[Timeouts, Parameter(name="*", group=PACE)]
RetryFlags: TypeAlias = Annotated[RetryPolicy, Parameter(name="*", group=PACE)]
BudgetFlags: TypeAlias = Annotated[Budget, Parameter(name="*", group=BUDGET)]
ImageFlags: TypeAlias = Annotated[ImageOptions, Parameter(name="*", group=IMAGES)]
JournalFlags: TypeAlias = Annotated[JournalOptions, Parameter(name="*", group=RESULTS)]
QualityFlags: TypeAlias = Annotated[Quality, Parameter(name="*", group=QUALITY)]
VerificationFlags: TypeAlias = Annotated[Verification, Parameter(name="*", group=QUALITY)]
ObservabilityFlags: TypeAlias = Annotated[Observability, Parameter(name="*", group=WATCH)]
DistributionFlags: TypeAlias = Annotated[Distribution, Parameter(name="*", group=MACHINES)]
