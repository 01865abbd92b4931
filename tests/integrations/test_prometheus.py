"""Prometheus is fed by decisions."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from ak_guard import ApiKeyMiddleware
from ak_guard.backends import MemoryBackend
from ak_guard.integrations.prometheus import Metrics
from ak_guard.testing import ManualClock, ready_key
from tests.support import bearer, client_for, echo_app


async def test_decisions_and_units_are_counted() -> None:
    backend, clock, registry = MemoryBackend(), ManualClock(), CollectorRegistry()
    issued = await ready_key(backend, clock=clock, limits=["4/1m"])
    app = ApiKeyMiddleware(echo_app(), backend=backend, clock=clock, cost=2, on_decision=Metrics(registry, by_key=True))
    async with client_for(app) as client:
        for _ in range(3):
            await client.get("/", headers=bearer(issued.secret))
        await client.get("/")
    key, group = issued.key.id, "default"
    labels = {"code": "admitted", "group": group, "enforced": "yes", "key": key}
    assert registry.get_sample_value("ak_guard_decisions_total", labels) == 2
    assert registry.get_sample_value("ak_guard_decisions_total", {**labels, "code": "rate_limit_exceeded"}) == 1
    nobody = {"code": "missing_api_key", "group": "", "enforced": "yes", "key": ""}
    assert registry.get_sample_value("ak_guard_decisions_total", nobody) == 1
    assert registry.get_sample_value("ak_guard_units_total", {"group": group, "key": key}) == 4
    assert registry.get_sample_value("ak_guard_request_seconds_count", {"code": "admitted"}) == 2


async def test_report_mode_counts_what_it_would_have_refused() -> None:
    backend, registry = MemoryBackend(), CollectorRegistry()
    app = ApiKeyMiddleware(echo_app(), backend=backend, mode="report", on_decision=Metrics(registry))
    async with client_for(app) as client:
        assert (await client.get("/")).status_code == 200
    labels = {"code": "missing_api_key", "group": "", "enforced": "no"}
    assert registry.get_sample_value("ak_guard_decisions_total", labels) == 1
    assert app.would_refuse == {"missing_api_key": 1}
