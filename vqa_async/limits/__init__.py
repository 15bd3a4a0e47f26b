"""What may be on the wire at one endpoint, now. Decisions only: the caller brings the clock and awaits.

gate          width, pause and rates of one endpoint
width         finds how many requests in flight an endpoint makes the best of
rates         requests and tokens a minute: told, read from headers, learned from 429s
bucket        one rate, kept
headers       what the headers of a reply say about rates
breaker       whether an endpoint is worth asking at all
hedge         when a request has taken so long that it is worth sending again
retry_budget  how much of the load may be retries
"""

from vqa_async.limits.breaker import Breaker
from vqa_async.limits.bucket import Bucket
from vqa_async.limits.gate import Gate
from vqa_async.limits.headers import Standing, Unit, standings
from vqa_async.limits.hedge import Hedging
from vqa_async.limits.rates import Rates
from vqa_async.limits.retry_budget import RetryBudget
from vqa_async.limits.width import DECREASE, AdaptiveWidth

__all__ = [
    "DECREASE",
    "AdaptiveWidth",
    "Breaker",
    "Bucket",
    "Gate",
    "Hedging",
    "Rates",
    "RetryBudget",
    "Standing",
    "Unit",
    "standings",
]
