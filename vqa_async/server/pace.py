"""How long an answer takes: a drawn latency, the time to write its tokens, more when crowded. No clock."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from vqa_async.server.options import ServerOptions


class Pace:
    """Draws the seconds that each answer takes."""

    def __init__(self, options: ServerOptions) -> None:
        self._draw = _distribution(options, Random(f"latency {options.seed}"))
        self._tokens_per_second = options.tokens_per_second or math.inf
        self._knee = options.knee or math.inf

    def duration(self, tokens: int, at_work: int) -> float:
        """Seconds for an answer of ``tokens`` tokens, with ``at_work`` requests in the seats."""
        return (self._draw() + tokens / self._tokens_per_second) * max(1.0, at_work / self._knee)


def _distribution(options: ServerOptions, random: Random) -> Callable[[], float]:
    mean, spread = options.latency, options.latency_spread
    if mean == 0 or options.latency_distribution == "fixed":
        return lambda: mean
    if options.latency_distribution == "uniform":
        return lambda: random.uniform(mean * (1 - spread), mean * (1 + spread))
    if options.latency_distribution == "exponential":
        return lambda: random.expovariate(1 / mean)
    # The mean of a lognormal is exp(mu + sigma^2 / 2): mu is chosen so that it is the one asked for.
    mu = math.log(mean) - spread**2 / 2
    return lambda: random.lognormvariate(mu, spread)
