"""What the progress line says, from counters alone."""

from __future__ import annotations

import pytest
from vqa_async.cli.progress import Rates, progress_line

from vqa_async.cli.texts import count, duration
from vqa_async.endpoints import EndpointStatistics
from vqa_async.events import RunStatistics


def endpoint_waiting(until: float, reason: str = "rate limit", host: str = "a:8000") -> EndpointStatistics:
    return EndpointStatistics(f"http://{host}/v1", 0, 10, until, reason)


def test_the_line_has_the_facts_in_the_order_of_their_weight() -> None:
    """A narrow terminal cuts the end, so what a person waits for stands first."""
    s = RunStatistics(
        succeeded=1_000,
        failed=2,
        skipped=500,
        retries=7,
        in_flight=20,
        expected=4_000,
        expected_is_exact=True,
    )
    assert progress_line(s, (100.0, 5_000.0), 0.0) == [
        "1,500 done of 4,000",
        "2 failed",
        "100.0/s",
        "20 in flight",
        "25 s left",
        "7 retried",
        "5,000 tokens/s",
    ]


def test_an_estimate_is_called_one() -> None:
    """Before the input is read to its end, its size is only guessed."""
    assert progress_line(RunStatistics(expected=90), (0.0, 0.0), 0.0)[0] == "0 done of about 90"


def test_nothing_is_said_about_what_is_not_known() -> None:
    """No total, no time left, no tokens, no retries: no words on them."""
    assert progress_line(RunStatistics(), (0.0, 0.0), 0.0) == [
        "0 done",
        "0 failed",
        "0.0/s",
        "0 in flight",
    ]


def test_a_pause_is_shown_instead_of_the_time_left() -> None:
    """While everything waits, a time computed from the rate would be wrong."""
    s = RunStatistics(succeeded=1, expected=10, endpoints=(endpoint_waiting(107.0),))
    line = progress_line(s, (1.0, 0.0), 100.0)
    assert line[-1] == "waiting 7.0 s for a:8000 (rate limit)"
    assert not [fact for fact in line if fact.endswith(" left")]


def test_with_several_endpoints_the_first_to_come_back_is_named() -> None:
    """That is when the run goes on."""
    waits = (endpoint_waiting(120.0), endpoint_waiting(105.0, "endpoint down", "b"))
    assert progress_line(RunStatistics(endpoints=waits), (0.0, 0.0), 100.0)[-1] == (
        "waiting 5.0 s for b (endpoint down, then a probe)"
    )


def test_no_pause_is_shown_while_another_endpoint_works() -> None:
    """One of two waits: the run does not."""
    both = (endpoint_waiting(120.0), endpoint_waiting(0.0, ""))
    assert "waiting" not in " ".join(progress_line(RunStatistics(endpoints=both), (0.0, 0.0), 100.0))


def test_rates_are_those_of_the_last_seconds() -> None:
    """A slow start is forgotten after a while."""
    rates = Rates()
    looks = [(0.0, 0), (10.0, 0), (15.0, 50), (20.0, 100), (25.0, 150)]
    for elapsed, done in looks:
        rate, tokens = rates.look(
            RunStatistics(succeeded=done, completion_tokens=done * 3, elapsed_s=elapsed)
        )
    assert (rate, tokens) == pytest.approx((10.0, 30.0))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (12.4, "12 s"), (200, "3 min 20 s"), (7_500, "2 h 5 min")],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    """The unit follows the size."""
    assert duration(seconds) == said


def test_one_thing_is_not_several() -> None:
    """1 request, 2 requests, 1,000 requests."""
    assert [count(n, "request") for n in (1, 2, 1_000)] == ["1 request", "2 requests", "1,000 requests"]
