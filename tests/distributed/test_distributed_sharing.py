"""Limits and budgets over several workers: together they are the whole, and none has nothing."""

from __future__ import annotations

from typing import Any

import pytest

from vqa_async.config import Config, NamedEndpoint
from vqa_async.distributed.sharing import has_budget, share_of, sharers
from vqa_async.distributed.totals import Totals
from vqa_async.distributed.work import ChunkDone
from vqa_async.errors import ConfigError
from vqa_async.models import Failure, Record


@pytest.mark.parametrize(("name", "group"), [("max_workers", "limits"), ("most_workers", "limits")])
@pytest.mark.parametrize(("whole", "workers"), [(64, 2), (10, 3), (7, 7), (100, 8)])
def test_requests_in_flight_are_divided_without_rest(name: str, group: str, whole: int, workers: int) -> None:
    """Shares differ by one at most, and their sum is what was given."""
    config = Config.of(**{name: whole})
    shares = [getattr(getattr(share_of(config, n, workers), group), name) for n in range(workers)]
    assert sum(shares) == whole
    assert max(shares) - min(shares) <= 1


def test_rates_and_budgets_are_divided_and_the_deadline_is_not() -> None:
    """A deadline is everybody's; who can stop all of them keeps it."""
    config = Config.of(
        rpm=600, tpm=9000, max_requests=101, max_tokens_total=1000, max_cost=3.0, price_input=1.0,
        price_output=2.0, deadline=60.0,
    )  # fmt: skip
    shares = [share_of(config, n, 2) for n in range(2)]
    assert [(s.limits.rpm, s.limits.tpm) for s in shares] == [(300, 4500)] * 2
    assert [s.budget.max_requests for s in shares] == [51, 50]
    assert sum(s.budget.max_tokens_total for s in shares) == 1000
    assert [s.budget.max_cost for s in shares] == [1.5, 1.5]
    assert [s.budget.deadline for s in shares] == [0, 0]
    assert has_budget(config)


def test_endpoints_of_their_own_limits_are_shared_too() -> None:
    """What is not bounded stays so."""
    endpoints = (
        NamedEndpoint("http://a/v1", max_workers=5, rpm=60, tpm=600),
        NamedEndpoint("http://b/v1"),
    )
    shares = [share_of(Config(endpoints=endpoints), n, 2).endpoints for n in range(2)]
    assert [one[0].max_workers for one in shares] == [3, 2]
    assert [one[0].rpm for one in shares] == [30, 30]
    assert [(one[1].max_workers, one[1].rpm) for one in shares] == [(0, 0), (0, 0)]


def test_adaptive_width_stays_adaptive() -> None:
    """Each finds its own, from a share of the start up to a share of the most."""
    share = share_of(Config.of(max_workers="auto", start_workers=8, most_workers=200), 1, 4).limits
    assert (share.max_workers, share.start_workers, share.most_workers) == ("auto", 2, 50)
    assert not has_budget(Config())


@pytest.mark.parametrize(
    ("options", "wanted", "most"),
    [
        ({"max_workers": 3}, 8, 3),
        ({"max_workers": 100}, 8, 8),
        ({"max_workers": 100, "max_requests": 120}, 8, 2),
        ({"max_workers": 100, "max_requests": 5}, 8, 1),
        ({"max_workers": 100, "endpoints": (NamedEndpoint("http://a/v1", max_workers=2),)}, 8, 2),
    ],
)
def test_no_worker_is_left_with_nothing(options: dict[str, Any], wanted: int, most: int) -> None:
    """There are no more than there is something to divide."""
    assert sharers(Config.of(**options), wanted) == most


def chunk_done(number: int, **fields: Any) -> ChunkDone:
    done = ChunkDone(number, 2, 1, 0.5, is_last=False, error=None, worker="w")
    for name, value in fields.items():
        setattr(done, name, value)
    return done


def test_totals_are_those_of_all_chunks_each_once() -> None:
    """A chunk that comes twice counts once; a notice is passed on once."""
    totals, done = Totals(), chunk_done(0)
    done.count("a", b"s")
    done.count("b", b"f")
    done.count("c", Failure(Record("c", 0, {}, ()), ConfigError("no"), 1, 0.0))
    done.count("d", None)
    done.counters.notices += ["Mind this.", "Mind this."]
    done.counters.requests, done.counters.retries, done.counters.cost = 5, 2, 0.25
    done.counters.in_flight, done.counters.width = 3, 8
    assert totals.add(done) == ["Mind this."]
    assert totals.add(done) == []
    s = totals.statistics(1.0)
    assert (s.succeeded, s.failed, s.skipped, s.skipped_failed) == (1, 2, 2, 1)
    assert (s.requests, s.retries, s.cost, s.in_flight, s.width) == (5, 2, 0.25, 3, 8)
    assert (s.expected, s.expected_is_exact) == (10, False)
    assert (done.found, done.left, done.failures["config"][0]) == (2, 1, "c")


def test_what_ray_has_lost_is_no_success() -> None:
    """Every chunk up to the last must have come, with no record left open."""
    totals = Totals()
    totals.add(chunk_done(1, is_last=True))
    assert totals.gap() is not None
    totals.add(chunk_done(0))
    assert totals.gap() is None
    assert totals.statistics(1.0).expected_is_exact
    open_ones = Totals()
    open_ones.add(chunk_done(0, is_last=True, left=1))
    assert open_ones.gap() is not None
