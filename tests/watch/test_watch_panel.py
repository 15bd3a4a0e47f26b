"""The panel, the plain line and the events: from snapshots alone, at several sizes."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from rich.cells import cell_len

from vqa_async.endpoints import EndpointStatistics
from vqa_async.errors import RateLimited, RecordError
from vqa_async.events import Notice, RecordFinished, RunStarted, RunStatistics, RunStopping
from vqa_async.models import AttemptFailed, Failure, Record
from vqa_async.watch.errors_seen import ErrorsSeen
from vqa_async.watch.events import event_facts, event_line, progress_facts
from vqa_async.watch.notebook import as_html
from vqa_async.watch.panel import panel, short
from vqa_async.watch.plain import plain_line
from vqa_async.watch.published import snapshot_from
from vqa_async.watch.snapshot import (
    EndpointView,
    ErrorView,
    Snapshot,
    endpoint_view,
    pause_of,
    snapshot_of,
)
from vqa_async.watch.speed import Speed, TimeLeft

FULL = Snapshot(
    title="out.jsonl",
    elapsed_s=134.0,
    done=5_412,
    failed=12,
    total=10_000,
    is_exact=True,
    speed=Speed(41.23, 40.3, 12_100, 5_800),
    time_left=TimeLeft(240, 360),
    in_flight=64,
    width=64,
    rpm=3_000,
    retried=210,
    prompt_tokens=1_234_567,
    completion_tokens=45_678,
    cost=1.25,
    waits_for="answers, all 64 places in flight taken",
    endpoints=(
        EndpointView("gpu-1:8000", "up", "up", 32, 32, 3_100, 4, None, 0.84),
        EndpointView("gpu-2:8000", "down", "down, probe in 4.0 s", 0, 32, 2_300, 40, None, 1.2),
    ),
    errors=(ErrorView("timeout", 7, 203, "gpu-2:8000 did not answer in 600 s"), ErrorView("image", 5, 0, "")),
)


def drawn(snapshot: Snapshot, width: int = 80, height: int = 40, *, unicode: bool = True) -> list[str]:
    return [line.plain for line in panel(snapshot, width, height, unicode=unicode)]


def test_the_panel_says_all_of_it() -> None:
    """Every fact has its place, at 80 columns."""
    assert drawn(FULL) == [
        "━" * 74 + "  54 %",
        "Records    5,412 done of 10,000   12 failed   4,576 left   2 min 14 s",
        "Rate       41.2/s now   4 to 6 min left   40.3/s overall",
        "Waits for  answers, all 64 places in flight taken",
        "In flight  64 of 64   3,000/min allowed   210 retried",
        "Tokens     12,100/s in   5,800/s out   1.2 M in, 45.7 k out so far",
        "Cost       $1.25 so far   about $2.31 at the end",
        "Endpoints  gpu-1:8000   up                     32 of 32   3,100 requests",
        "           gpu-2:8000   down, probe in 4.0 s    0 of 32   2,300 requests",
        "Errors     timeout: 7 failed, 203 retried   gpu-2:8000 did not answer in 600 s",
        "           image: 5 failed",
    ]


def test_a_wide_terminal_shows_more_of_each() -> None:
    """Errors and latency of each endpoint, at 120 columns."""
    lines = drawn(FULL, 120)
    assert lines[7].endswith("3,100 requests    4 errors   0.8 s")
    assert lines[8].endswith("2,300 requests   40 errors   1.2 s")


def test_a_narrow_terminal_loses_the_last_facts() -> None:
    """At 40 columns what matters most of each line is still there."""
    lines = drawn(FULL, 40)
    assert lines[1:3] == ["Records    5,412 done of 10,000", "Rate       41.2/s now   4 to 6 min left"]
    assert lines[7] == "Endpoints  gpu-1:8000"


@pytest.mark.parametrize("width", [1, 8, 20, 29, 30, 40, 79, 80, 120, 400])
@pytest.mark.parametrize("height", [1, 3, 6, 40])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_size_is_exceeded(width: int, height: int, unicode: bool) -> None:
    """Nothing wraps, nothing scrolls, and something is always there."""
    lines = drawn(FULL, width, height, unicode=unicode)
    assert 1 <= len(lines) <= height
    assert max(cell_len(line) for line in lines) <= max(8, width)
    assert unicode or "".join(lines).isascii()


def test_a_short_terminal_loses_what_matters_least() -> None:
    """Counts first, then the bar, the rate, what is in flight, the cost."""
    heads = [[line.split()[0] for line in drawn(FULL, 80, height)] for height in (1, 2, 3, 4, 5)]
    bar = "━" * 74
    assert heads == [
        ["Records"],
        [bar, "Records"],
        [bar, "Records", "Rate"],
        [bar, "Records", "Rate", "In"],
        [bar, "Records", "Rate", "In", "Cost"],
    ]


def test_what_holds_the_run_up_is_never_lost_before_the_rate() -> None:
    """It is what a person wants to know."""
    held = replace(FULL, is_held_up=True, waits_for="gpu-1:8000, 7.0 s (rate limit)")
    assert drawn(held, 80, 3)[2] == "Waits for  gpu-1:8000, 7.0 s (rate limit)"


def test_nothing_is_said_about_what_is_not_known() -> None:
    """No total, no tokens, no cost, no requests: no words on them, and no bar."""
    assert drawn(Snapshot()) == [
        "Records    0 done   0 failed   0.0 s",
        "Rate       0.0/s now   0.0/s overall",
    ]


def test_an_estimate_is_called_one() -> None:
    """Before the input is read to its end, its size is only guessed."""
    line = drawn(Snapshot(total=90))[1]
    assert line == "Records    0 done of about 90   0 failed   about 90 left   0.0 s"


def test_the_bar_is_full_only_at_the_end() -> None:
    """99 % until nothing is left; what failed stands in it."""
    assert drawn(Snapshot(done=9_999, total=10_000))[0].endswith(" 99 %")
    assert drawn(Snapshot(done=9_999, failed=1, total=10_000))[0].endswith("100 %")
    assert drawn(Snapshot(done=1, total=2), 26, unicode=False)[0] == "#" * 10 + "-" * 10 + "  50 %"


def test_of_many_endpoints_those_with_trouble_are_shown() -> None:
    """Eight lines, and how many more there are."""
    many = tuple(EndpointView(f"gpu-{n}", "up", "up", 1, 2) for n in range(20))
    down = EndpointView("gpu-19", "down", "down", 0, 2)
    lines = drawn(Snapshot(endpoints=(*many[:19], down)))
    assert sum("gpu-" in line for line in lines) == 8
    assert any("gpu-19" in line for line in lines)
    assert lines[-1].strip() == "and 12 more"


def test_what_comes_from_elsewhere_cannot_steer_the_terminal() -> None:
    """Neither an endpoint's message nor a name, in the panel or a notebook."""
    hostile = "\x1b[2J<b>\r\nx\u202e"
    view = EndpointView(hostile, "closed", hostile, answered=3)
    lines = panel(replace(FULL, endpoints=(view,), errors=(ErrorView("c", 1, 0, hostile),)), 120, 40)
    text = "\n".join(line.plain for line in lines)
    assert not set("\x1b\r\u202e") & set(text)
    assert "<b>" in text
    assert "<b>" not in as_html(lines)


@pytest.mark.parametrize(
    ("number", "said"),
    [(950, "950"), (9_999, "9,999"), (12_345, "12.3 k"), (4_560_000, "4.6 M"), (7_800_000_000, "7.8 G")],
)
def test_large_numbers_are_said_in_few_characters(number: int, said: str) -> None:
    """Three digits are enough to watch it grow."""
    assert short(number) == said


# --- from counters to a snapshot ------------------------------------------------------------------------


def endpoint(
    until: float = 0.0, reason: str = "", host: str = "a:8000", **more: object
) -> EndpointStatistics:
    return EndpointStatistics(f"http://u:secret@{host}/v1", 3, 10, until, reason, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statistics", "health", "state"),
    [
        (endpoint(), "up", "up"),
        (endpoint(107.0, "rate limit"), "limited", "limited for 7.0 s"),
        (endpoint(107.0, "endpoint down", is_down=True), "down", "down, probe in 7.0 s"),
        (endpoint(0.0, "", is_down=True), "down", "down, probing"),
        (endpoint(0.0, "auth"), "closed", "not asked any more: auth"),
    ],
)
def test_an_endpoint_is_up_limited_down_or_closed(
    statistics: EndpointStatistics, health: str, state: str
) -> None:
    """With until when, and without the password of its address."""
    view = endpoint_view(statistics, 100.0)
    assert (view.name, view.health, view.state) == ("a:8000", health, state)


def test_a_pause_is_one_only_where_nobody_else_works() -> None:
    """The first to come back is named; one that is not asked any more does not count."""
    a, b = endpoint(120.0, "rate limit"), endpoint(105.0, "endpoint down", "b", is_down=True)
    assert pause_of([a, b], 100.0) == "b, 5.0 s (endpoint down, then a probe)"
    assert pause_of([a, endpoint()], 100.0) == ""
    assert pause_of([a, endpoint(0.0, "auth")], 100.0) == "a:8000, 20 s (rate limit)"
    assert pause_of([], 100.0) == ""


@pytest.mark.parametrize(
    ("statistics", "stopping", "said"),
    [
        (RunStatistics(in_flight=2, width=9), True, "2 requests in flight, then it ends"),
        (RunStatistics(endpoints=(endpoint(107.0, "rate limit"),)), False, "a:8000, 7.0 s (rate limit)"),
        (
            RunStatistics(width=9),
            False,
            "records: nothing is on the wire, the input or its images are being read",
        ),
        (RunStatistics(in_flight=9, width=9), False, "answers, all 9 places in flight taken"),
        (
            RunStatistics(in_flight=2, width=9, expected=2, expected_is_exact=True),
            False,
            "the last 2 answers",
        ),
        (RunStatistics(in_flight=2, width=9), False, "answers of 2 requests"),
    ],
)
def test_what_a_run_waits_for(statistics: RunStatistics, stopping: bool, said: str) -> None:
    """Always one thing, in words; no time left is told while it is out of order."""
    s = snapshot_of(
        statistics,
        title="o",
        speed=Speed(),
        time_left=TimeLeft(1, 2),
        errors=(),
        now=100.0,
        is_stopping=stopping,
    )
    assert s.waits_for == said
    assert (s.time_left is None) is s.is_held_up


def test_records_of_earlier_runs_are_counted_where_they_belong() -> None:
    """Answered before is done, failed before is failed."""
    counters = RunStatistics(succeeded=1, failed=2, skipped=10, skipped_failed=4, expected=20)
    s = snapshot_of(counters, title="o", speed=Speed(), time_left=None, errors=(), now=0.0, is_stopping=False)
    assert (s.done, s.failed, s.left) == (7, 6, 7)


def test_errors_are_counted_by_kind_the_latest_first() -> None:
    """Those of attempts beside those that cost a record."""
    seen = ErrorsSeen()
    seen.retried(RateLimited("Slow down.", status=429))
    seen.failed(RecordError("No question."))
    seen.retried(RateLimited("Slower.", status=429))
    assert seen.views() == (
        ErrorView("rate_limited", 0, 2, "Slower."),
        ErrorView("bad_record", 1, 0, "No question."),
    )


# --- plain lines and events -----------------------------------------------------------------------------


def test_the_plain_line_has_the_same_names_always() -> None:
    """For grep; what is not known is a hyphen."""
    assert plain_line(FULL) == (
        "progress elapsed=134s done=5412 failed=12 left=4576 rate=41.2/s overall=40.3/s tokens_in=12100/s "
        'tokens_out=5800/s cost=1.2500 in_flight=64/64 retried=210 time_left="4 to 6 min" '
        'errors=timeout:210,image:5 waits_for="answers, all 64 places in flight taken"'
    )
    assert plain_line(Snapshot(total=9)) == (
        "progress elapsed=0s done=0 failed=0 left=~9 rate=0.0/s overall=0.0/s tokens_in=0/s tokens_out=0/s "
        "cost=- in_flight=- retried=- time_left=- errors=- waits_for=-"
    )


def test_the_fields_of_progress_stay() -> None:
    """Programs read them: names may be added, none taken away."""
    facts = progress_facts(FULL)
    assert {name: value for name, value in facts.items() if name not in ("endpoints", "errors")} == {
        "elapsed_s": 134.0,
        "done": 5412,
        "failed": 12,
        "left": 4576,
        "left_is_exact": True,
        "rate": 41.23,
        "overall_rate": 40.3,
        "prompt_tokens": 1234567,
        "completion_tokens": 45678,
        "prompt_token_rate": 12100.0,
        "completion_token_rate": 5800.0,
        "cost": 1.25,
        "in_flight": 64,
        "width": 64,
        "retries": 210,
        "rpm": 3000.0,
        "waits_for": "answers, all 64 places in flight taken",
        "is_held_up": False,
        "time_left_s": [240.0, 360.0],
    }
    assert facts["endpoints"] == [asdict(one) for one in FULL.endpoints]
    assert facts["errors"][0]["code"] == "timeout"


@pytest.mark.parametrize("left", [None, TimeLeft(5, float("inf")), TimeLeft(4.0, 6.0)])
def test_a_snapshot_comes_back_from_its_facts(left: TimeLeft | None) -> None:
    """So `status` shows in another terminal what the run shows in its own."""
    s = replace(FULL, time_left=left)
    assert snapshot_from(json.loads(json.dumps(progress_facts(s))), title="out.jsonl") == s
    assert snapshot_from({"done": 1}, title="out.jsonl") is None
    unknown = progress_facts(Snapshot())
    assert snapshot_from(unknown, title="") == Snapshot()


FAILED = Failure(Record("r1", 0, {}, ()), RecordError("No\nquestion."), attempts=0, finished_at=0.0)


@pytest.mark.parametrize(
    ("event", "name", "fields"),
    [
        (RunStarted("out.jsonl", 3), "run_started", {"output", "answered_before"}),
        (
            AttemptFailed("r1", RateLimited("Slow.", status=429), 1, 0.5),
            "attempt_failed",
            {"record", "attempt", "wait_s", "code", "retryable", "message"},
        ),
        (
            RecordFinished(FAILED),
            "record_failed",
            {"record", "attempts", "code", "retryable", "message"},
        ),
        (RunStopping("Interrupted", 3), "stopping", {"reason", "in_flight"}),
        (Notice("A torn line was cut."), "notice", {"message"}),
    ],
)
def test_each_event_is_one_line_of_json(event: object, name: str, fields: set[str]) -> None:
    """With what it is, when, and of which run."""
    told = event_facts(event)  # type: ignore[arg-type]
    assert told is not None
    line = event_line(*told, run="ab12", time=0.5)
    content = json.loads(line)
    assert "\n" not in line
    assert (content.pop("event"), content.pop("run_id")) == (name, "ab12")
    assert content.pop("time") == "1970-01-01T00:00:00.500Z"
    assert set(content) == fields
