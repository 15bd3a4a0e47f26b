"""What a run has sent and spent, held against its budget. Decisions only.

A request is reserved before it is sent, at its estimate, and settled by the usage of its reply; so what is in
flight counts, and a budget is not overrun by the width of the run.
"""

from __future__ import annotations

import contextlib

from vqa_async.config import Budget
from vqa_async.errors import BudgetReached, ConfigError
from vqa_async.models import Usage
from vqa_async.tokens import Estimate

_HAIR = 1 + 1e-9
"""Three requests of $0.10 fit into $0.30, although their sum in binary is a little more."""


class Spending:
    """Counts requests, tokens and money.

    Args:
        budget: the bounds, and the prices where the user gave them.
        model: whose prices are looked up otherwise.
        prices: US dollars for a million prompt and answer tokens, where they were looked up already.

    Attributes:
        requests: requests sent.
        prompt_tokens, answer_tokens: as counted by the endpoints, else as estimated.

    Raises:
        ConfigError: a cost is bounded, but no price is known.
    """

    __slots__ = (
        "_budget",
        "_in_flight",
        "_prices",
        "_reserved",
        "_reserved_cost",
        "answer_tokens",
        "bounds_tokens",
        "prompt_tokens",
        "requests",
    )

    def __init__(self, budget: Budget, model: str, *, prices: tuple[float, float] | None = None) -> None:
        self._budget = budget
        # Looked up only where money matters: a local server's model may bear the name of one that costs.
        is_told = budget.price_input is not None or budget.price_output is not None
        is_priced = bool(budget.max_cost) or is_told
        self._prices = prices or (prices_of(budget, model) if is_priced else None)
        if budget.max_cost and self._prices is None:
            raise ConfigError(
                f"--max-cost needs prices, and none are known for {model!r}. Give --price-input and "
                "--price-output (US dollars a million tokens), or install the extra: "
                "pip install 'vqa-async[cost]'."
            )
        if is_told and self._prices is None:
            raise ConfigError(
                "Give both --price-input and --price-output, or neither: the price of "
                f"{model!r} that is missing is not known (the extra 'cost' knows many)."
            )
        self.requests = 0
        self.prompt_tokens = 0
        self.answer_tokens = 0
        self._in_flight = 0  # requests that are reserved and not settled
        self._reserved = 0.0
        self._reserved_cost = 0.0
        self.bounds_tokens = bool(budget.max_tokens_total or budget.max_cost)
        """Whether tokens are bounded, so that each request must be estimated."""

    def fresh(self) -> Spending:
        """Another with the same bounds and prices, of which nothing is spent."""
        return Spending(self._budget, "", prices=self._prices)

    def add(self, other: Spending) -> None:
        """Add what another has sent and spent."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.answer_tokens += other.answer_tokens

    @property
    def tokens(self) -> int:
        """Tokens spent, prompts and answers together."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def cost(self) -> float | None:
        """US dollars spent, None where no prices were asked for."""
        return None if self._prices is None else self._price(self.prompt_tokens, self.answer_tokens)

    def price(self, prompt_tokens: float, answer_tokens: float) -> float | None:
        """US dollars that so many tokens cost, None where no prices are known."""
        return None if self._prices is None else self._price(prompt_tokens, answer_tokens)

    def reserve(self, estimate: Estimate | None) -> bool:
        """A request is about to be sent; whether it may.

        False: it would only fit if those in flight take less than they were estimated at; ask again when one
        of them is settled.

        Raises:
            BudgetReached: it does not fit into what is left.
        """
        b = self._budget
        if b.max_requests and self.requests >= b.max_requests:
            said = "1 request was" if b.max_requests == 1 else f"{b.max_requests:,} requests were"
            raise _reached(f"{said} sent", "--max-requests")
        if estimate is not None:
            price = self._price(estimate.prompt, estimate.answer) if b.max_cost else 0.0
            if not self._fits(estimate.total, price):
                return False
            self._reserved += estimate.total
            self._reserved_cost += price
            self._in_flight += 1
        self.requests += 1
        return True

    def reserve_look(self) -> bool:
        """A request is about to be sent that answers no record; whether one is left for a record then."""
        most = self._budget.max_requests
        if most and self.requests + 1 >= most:
            return False
        self.requests += 1
        return True

    def _fits(self, tokens: float, price: float) -> bool:
        b = self._budget
        if b.max_tokens_total and self.tokens + self._reserved + tokens > b.max_tokens_total * _HAIR:
            if not self._in_flight:
                said = f"{self.tokens:,} of {b.max_tokens_total:,} tokens are spent"
                raise _reached(f"{said}, and one more request does not fit", "--max-tokens-total")
            return False
        if b.max_cost:
            spent = self._price(self.prompt_tokens, self.answer_tokens)
            if spent + self._reserved_cost + price > b.max_cost * _HAIR:
                if not self._in_flight:
                    said = f"${spent:,.4g} of ${b.max_cost:,.4g} are spent"
                    raise _reached(f"{said}, and one more request does not fit", "--max-cost")
                return False
        return True

    def settle(self, estimate: Estimate | None, usage: Usage | None) -> None:
        """A request is over: what it took, None where it failed."""
        if estimate is not None:
            self._in_flight -= 1
            self._reserved -= estimate.total
            if self._budget.max_cost:
                self._reserved_cost -= self._price(estimate.prompt, estimate.answer)
        if usage is not None:
            self.prompt_tokens += usage.prompt_tokens
            self.answer_tokens += usage.completion_tokens

    def _price(self, prompt_tokens: float, answer_tokens: float) -> float:
        assert self._prices is not None
        return (prompt_tokens * self._prices[0] + answer_tokens * self._prices[1]) / 1e6


def _reached(said: str, flag: str) -> BudgetReached:
    return BudgetReached(f"The budget of this run is used up: {said} ({flag}).")


def prices_of(budget: Budget, model: str) -> tuple[float, float] | None:
    """US dollars for a million prompt and answer tokens: each the user's, else that of genai-prices.

    None where one of them is not known.
    """
    told = (budget.price_input, budget.price_output)
    if told[0] is not None and told[1] is not None:
        return told[0], told[1]
    known = _listed_prices(model)
    if known is None:
        return None
    return known[0] if told[0] is None else told[0], known[1] if told[1] is None else told[1]


def _listed_prices(model: str) -> tuple[float, float] | None:
    try:
        from genai_prices import Usage as Priced
        from genai_prices import calc_price
    except ImportError:
        return None
    one = None
    for name in (model, model.rpartition("/")[2]):  # routers put the vendor in front
        with contextlib.suppress(LookupError, ValueError):
            one = one or calc_price(Priced(input_tokens=1000, output_tokens=1000), model_ref=name)
    if one is None:
        return None
    return float(one.input_price) * 1000, float(one.output_price) * 1000
