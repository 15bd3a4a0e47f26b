"""What a whole run will take, from what one record took: tokens, time, money. All of it estimates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from vqa_async.cli.findings import Findings
from vqa_async.config import Budget, Config, Limits, NamedEndpoint
from vqa_async.models import Success
from vqa_async.spending import prices_of
from vqa_async.tokens import estimate_text
from vqa_async.watch.words import count, duration, money


@dataclass(frozen=True, slots=True)
class Projection:
    """What all good records will take.

    Attributes:
        requests: one for each, retries not counted.
        prompt_tokens: their estimates, times ``factor``.
        completion_tokens: as many for each as the sample's answer has.
        factor: by how much the endpoint counted the sample's prompt higher than it was estimated.
        time_s: seconds, at ``width`` requests in flight that each take as long as the sample; no faster than
            the rates allow.
        width: requests in flight.
        is_first_width: whether that is what ``auto`` starts with.
        held_by: the rate that makes it longer, "" where none does.
        cost: in US dollars, None where no prices are known.
        prices: whose they are: ``given`` or ``genai-prices``; None where none are known.
    """

    requests: int
    prompt_tokens: int
    completion_tokens: int
    factor: float
    time_s: float
    width: int
    is_first_width: bool
    held_by: Literal["", "rpm", "tpm"]
    cost: float | None
    prices: Literal["given", "genai-prices"] | None


def project(
    findings: Findings, sample: Success, config: Config, endpoints: Sequence[NamedEndpoint]
) -> Projection:
    """The projection for the good records of ``findings``.

    Args:
        findings: the input; ``sample`` is the answer to its first good record.
        sample: what that one took.
        config: widths and prices.
        endpoints: those that can be used.
    """
    assert findings.first is not None
    usage = sample.completion.usage
    estimated = max(1, findings.first.prompt_tokens)
    factor = usage.prompt_tokens / estimated if usage.prompt_tokens else 1.0
    prompt_tokens = round(findings.prompt_tokens * factor)
    answer_tokens = findings.good * (usage.completion_tokens or estimate_text(sample.text))
    width = _width(config.limits, endpoints, findings.good)
    time_s, held_by = _time(
        findings.good * sample.latency_s / width, endpoints, findings.good, prompt_tokens + answer_tokens
    )
    cost, prices = _cost(config.budget, endpoints[0].model, prompt_tokens, answer_tokens)
    return Projection(
        requests=findings.good,
        prompt_tokens=prompt_tokens,
        completion_tokens=answer_tokens,
        factor=factor,
        time_s=time_s,
        width=width,
        is_first_width=config.limits.is_adaptive,
        held_by=held_by,
        cost=cost,
        prices=prices,
    )


def _width(limits: Limits, endpoints: Sequence[NamedEndpoint], requests: int) -> int:
    """Requests in flight: no more than the bounds allow, and no more than there are."""
    each = limits.start_workers if limits.is_adaptive else limits.width_bound
    places = sum(min(each, one.max_workers or each) for one in endpoints)
    return min(places, limits.width_bound, requests)


def _time(
    unheld: float, endpoints: Sequence[NamedEndpoint], requests: int, tokens: int
) -> tuple[float, Literal["", "rpm", "tpm"]]:
    """Seconds, and the rate that holds it back where one does."""
    rpm, tpm = _rate([one.rpm for one in endpoints]), _rate([one.tpm for one in endpoints])
    by_rpm = 60 * requests / rpm if rpm else 0.0
    by_tpm = 60 * tokens / tpm if tpm else 0.0
    if max(by_rpm, by_tpm) <= unheld:
        return unheld, ""
    return (by_rpm, "rpm") if by_rpm >= by_tpm else (by_tpm, "tpm")


def _rate(rates: list[float]) -> float:
    """Of all endpoints together; 0 where one of them has no bound."""
    return sum(rates) if all(rates) else 0.0


def _cost(
    budget: Budget, model: str, prompt_tokens: int, answer_tokens: int
) -> tuple[float | None, Literal["given", "genai-prices"] | None]:
    prices = prices_of(budget, model)
    if prices is None:
        return None, None
    cost = (prompt_tokens * prices[0] + answer_tokens * prices[1]) / 1e6
    return cost, "genai-prices" if budget.price_input is None else "given"


def projection_lines(p: Projection) -> list[str]:
    """The projection, for people."""
    lines = [
        f"Whole run  {count(p.requests, 'request')}, about {p.prompt_tokens:,} tokens in, "
        f"{p.completion_tokens:,} out",
        f"Time       {_shown_time(p)}",
    ]
    if p.cost is not None:
        lines.append(f"Cost       about {money(p.cost)}, {_shown_prices(p)}")
    lines.append("           Estimates, from this one sample; what a run reports is what it took.")
    return lines


def _shown_time(p: Projection) -> str:
    time = "under 0.1 s" if p.time_s < 0.05 else f"about {duration(p.time_s)}"
    if p.held_by:
        noun = "requests" if p.held_by == "rpm" else "tokens"
        return f"{time}, held back by the {noun} a minute that are allowed ({p.held_by})"
    first = ", with which 'auto' begins" if p.is_first_width else ""
    return f"{time}, with {count(p.width, 'request')} in flight{first}"


def _shown_prices(p: Projection) -> str:
    return "at the prices given" if p.prices == "given" else "at the list prices of genai-prices"


def projection_json(p: Projection | None) -> dict[str, Any] | None:
    """The same for programs."""
    if p is None:
        return None
    return {
        "requests": p.requests,
        "prompt_tokens": p.prompt_tokens,
        "completion_tokens": p.completion_tokens,
        "prompt_factor": round(p.factor, 4),
        "time_s": round(p.time_s, 3),
        "in_flight": p.width,
        "held_back_by": p.held_by or None,
        "cost": None if p.cost is None else round(p.cost, 6),
        "prices": p.prices,
    }
