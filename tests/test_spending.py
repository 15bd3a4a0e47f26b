"""What a run may spend: each budget stops it exactly, with what is in flight counted in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqa_async.config import Budget
from vqa_async.errors import BudgetReached, ConfigError
from vqa_async.models import Usage
from vqa_async.spending import Spending, prices_of
from vqa_async.tokens import Estimate

REQUEST = Estimate(prompt=900, answer=100)
TOOK = Usage(prompt_tokens=900, completion_tokens=100)
PRICES = {"price_input": 50.0, "price_output": 550.0}
"""US dollars a million tokens; a request costs 10 cents by these: $0.045 and $0.055."""


def spending(**budget: float) -> Spending:
    return Spending(Budget(**budget), "m")  # type: ignore[arg-type]


# --- what stops a run --------------------------------------------------------------------------------------

BUDGETS = {
    "--max-requests": {"max_requests": 3},
    "--max-tokens-total": {"max_tokens_total": 3000},
    "--max-cost": {"max_cost": 0.3, **PRICES},
}


@pytest.mark.parametrize(("flag", "budget"), BUDGETS.items())
def test_each_budget_lets_through_just_what_it_is_worth(flag: str, budget: dict[str, float]) -> None:
    """Three requests one after the other, not two and not four; the error names the flag and ends the run."""
    one = spending(**budget)
    for _ in range(3):
        assert one.reserve(REQUEST)
        one.settle(REQUEST, TOOK)
    with pytest.raises(BudgetReached, match=rf"budget of this run is used up.*\({flag}\)") as caught:
        one.reserve(REQUEST)
    assert caught.value.stops_run
    assert (one.requests, one.tokens) == (3, 3000)


@pytest.mark.parametrize("flag", ["--max-tokens-total", "--max-cost"])
def test_what_is_in_flight_counts(flag: str) -> None:
    """Three at once are the whole budget: a fourth must wait for what they really take."""
    one = spending(**BUDGETS[flag])
    assert [one.reserve(REQUEST) for _ in range(4)] == [True, True, True, False]
    assert one.requests == 3
    one.settle(REQUEST, Usage(400, 50))
    assert not one.reserve(REQUEST)
    one.settle(REQUEST, Usage(400, 50))
    assert one.reserve(REQUEST)


@pytest.mark.parametrize("flag", ["--max-tokens-total", "--max-cost"])
def test_failed_request_gives_back_what_was_reserved(flag: str) -> None:
    """All of it: nobody was paid for it."""
    one = spending(**BUDGETS[flag])
    for _ in range(100):
        assert one.reserve(REQUEST)
        one.settle(REQUEST, None)
    assert one.tokens == 0
    assert [one.reserve(REQUEST) for _ in range(4)] == [True, True, True, False]


def test_requests_that_failed_count_as_requests() -> None:
    """They were sent: an endpoint that counts requests has counted them."""
    one = spending(max_requests=2)
    for _ in range(2):
        one.reserve(None)
        one.settle(None, None)
    with pytest.raises(BudgetReached):
        one.reserve(None)


def test_request_that_can_never_fit_ends_the_run_at_once() -> None:
    """With nothing in flight there is nothing to wait for."""
    with pytest.raises(BudgetReached, match="0 of 999 tokens are spent, and one more request does not fit"):
        spending(max_tokens_total=999).reserve(REQUEST)
    with pytest.raises(BudgetReached, match=r"\$0 of \$0.09 are spent, and one more request does not fit"):
        spending(max_cost=0.09, **PRICES).reserve(REQUEST)


def test_requests_that_take_more_than_was_thought_are_paid_for() -> None:
    """What they really took counts; the estimate is forgotten."""
    one = spending(max_tokens_total=3000)
    one.reserve(REQUEST)
    one.settle(REQUEST, Usage(2500, 100))
    assert one.tokens == 2600
    with pytest.raises(BudgetReached, match="2,600 of 3,000"):
        one.reserve(REQUEST)


def test_no_budget_bounds_nothing() -> None:
    """But all is counted."""
    one = spending()
    assert not one.bounds_tokens
    for _ in range(1000):
        assert one.reserve(None)
        one.settle(None, TOOK)
    assert (one.requests, one.prompt_tokens, one.answer_tokens) == (1000, 900_000, 100_000)
    assert one.cost is None
    assert one.price(1, 1) is None


@pytest.mark.parametrize(
    ("budget", "bounds"),
    [
        ({"max_requests": 5}, False),
        (PRICES, False),
        ({"max_tokens_total": 5}, True),
        ({"max_cost": 5.0, **PRICES}, True),
    ],
)
def test_requests_are_estimated_only_where_tokens_are_bounded(budget: dict[str, float], bounds: bool) -> None:
    """To look at every image's size costs something."""
    assert spending(**budget).bounds_tokens is bounds


@given(
    st.integers(1, 50_000),
    st.lists(
        st.tuples(st.booleans(), st.floats(0.1, 3000), st.floats(0.1, 500), st.floats(0, 1)), max_size=60
    ),
)
def test_estimates_that_hold_never_exceed_the_budget(
    most: int, steps: list[tuple[bool, float, float, float]]
) -> None:
    """Whatever starts and ends in whatever order; once all is over, what is left can be spent to the last."""
    one = spending(max_tokens_total=most)
    in_flight: list[tuple[Estimate, float]] = []
    for starts, prompt, answer, share in steps:
        if starts:
            estimate = Estimate(prompt, answer)
            try:
                sent = one.reserve(estimate)
            except BudgetReached:
                assert not in_flight
                continue
            if sent:
                in_flight.append((estimate, share))
        elif in_flight:
            estimate, share = in_flight.pop(0)
            one.settle(estimate, Usage(int(estimate.prompt * share), int(estimate.answer * share)))
        assert one.tokens <= most
    for estimate, _ in in_flight:
        one.settle(estimate, None)
    if one.tokens < most:
        assert one.reserve(Estimate(most - one.tokens, 0))


# --- money -------------------------------------------------------------------------------------------------


def test_cost_is_what_the_tokens_cost() -> None:
    """By the prices that were given, prompts and answers apart."""
    one = spending(price_input=2.5, price_output=10.0)
    one.reserve(None)
    one.settle(None, Usage(1_000_000, 100_000))
    assert one.cost == pytest.approx(3.5)
    assert one.price(2_000_000, 0) == pytest.approx(5.0)


def test_free_endpoint_costs_nothing() -> None:
    """Prices of 0 are prices."""
    one = spending(max_cost=1.0, price_input=0.0, price_output=0.0)
    for _ in range(100):
        assert one.reserve(REQUEST)
        one.settle(REQUEST, TOOK)
    assert one.cost == 0


def test_cost_without_prices_is_an_error_that_says_what_to_give() -> None:
    """Both flags, and the extra that knows prices."""
    with pytest.raises(ConfigError) as caught:
        Spending(Budget(max_cost=1.0), "no-such-model-7b")
    for word in ("--max-cost", "no-such-model-7b", "--price-input", "--price-output", "vqa-async[cost]"):
        assert word in str(caught.value)


def test_prices_that_are_given_win() -> None:
    """Nothing is looked up, not even for a model whose price is known."""
    assert prices_of(Budget(price_input=1.0, price_output=2.0), "gpt-4o") == (1.0, 2.0)


def test_prices_are_looked_up_where_money_matters() -> None:
    """A model that everybody knows, a cent for what costs cents; nobody asks of a run without a bound."""
    pytest.importorskip("genai_prices")
    prices = prices_of(Budget(), "gpt-4o")
    assert prices is not None
    assert all(0.1 < price < 100 for price in prices)
    assert prices[0] < prices[1]
    one = Spending(Budget(max_cost=1.0), "gpt-4o")
    assert one.price(1_000_000, 0) == pytest.approx(prices[0])
    assert Spending(Budget(), "gpt-4o").cost is None


def test_model_without_a_known_price_has_none() -> None:
    """A name that nobody has heard of; whether the prices are installed or not."""
    assert prices_of(Budget(), "no-such-model-7b") is None


def test_one_price_may_be_told_where_the_other_is_known() -> None:
    """What the user says wins, and the list has the rest; where nobody knows it, both are asked for."""
    pytest.importorskip("genai_prices")
    listed = prices_of(Budget(), "gpt-4o")
    assert listed is not None
    assert prices_of(Budget(price_input=1.0), "gpt-4o") == (1.0, listed[1])
    assert prices_of(Budget(price_output=1.0), "gpt-4o") == (listed[0], 1.0)
    with pytest.raises(ConfigError, match="Give both --price-input and --price-output"):
        Spending(Budget(price_output=1.0), "no-such-model-7b")
