"""Prometheus: count decisions. `ApiKeyMiddleware(app, …, on_decision=Metrics())`."""

from __future__ import annotations

from typing import TYPE_CHECKING

try:
    from prometheus_client import REGISTRY, Counter, Histogram
except ImportError as _missing:  # pragma: no cover  # the tests install it
    raise ImportError("prometheus-client is not installed; run: pip install 'ak_guard[metrics]'") from _missing

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from ak_guard.records import Decision


class Metrics:
    """An `on_decision` that feeds three metrics, labelled by group (empty for strangers) and code.

    `ak_guard_decisions_total{code,group,enforced}`, `ak_guard_units_total{group}` (cost charged) and the histogram
    `ak_guard_request_seconds{code}`. `by_key` adds the key's id to the first two: only for services with few keys,
    since each key is then a time series of its own.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, by_key: bool = False) -> None:
        key_label = ["key"] if by_key else []
        self._by_key = by_key
        self._decisions = Counter(
            "ak_guard_decisions", "Requests judged", ["code", "group", "enforced", *key_label], registry=registry
        )
        self._units = Counter("ak_guard_units", "Units charged", ["group", *key_label], registry=registry)
        self._seconds = Histogram(
            "ak_guard_request_seconds", "From judgement to the end of the response", ["code"], registry=registry
        )

    def __call__(self, decision: Decision) -> None:
        key = decision.key
        group = key.group if key else ""
        key_label = [key.id if key else ""] if self._by_key else []
        enforced = "no" if not decision.admitted and not decision.enforced else "yes"
        self._decisions.labels(decision.code, group, enforced, *key_label).inc()
        if decision.cost:
            self._units.labels(group, *key_label).inc(decision.cost)
        self._seconds.labels(decision.code).observe(max(0.0, decision.duration))
