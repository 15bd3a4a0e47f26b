"""Metrics for Prometheus: an observer that keeps them in a registry, and a page that shows one.

    observer   what is counted, and under which names
    collector  what is asked of the engine whenever the metrics are read
    page       the registry over HTTP, from the engine's own event loop

In a program that has a registry and a page of its own:

    observer = PrometheusObserver(registry=prometheus_client.REGISTRY)
    async with open_engine(..., observer=observer) as engine:
        ...
"""

from vqa_async.metrics.observer import PrometheusObserver
from vqa_async.metrics.page import metrics_page

__all__ = ["PrometheusObserver", "metrics_page"]
