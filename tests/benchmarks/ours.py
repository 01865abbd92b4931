"""The guard, set up in every way that is measured."""

from __future__ import annotations

import itertools
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ak_guard import ApiKey, ApiKeyMiddleware, Group, KeyManager, Limit
from ak_guard.backends import MemoryBackend, SQLBackend
from ak_guard.budgets import Ask, MemoryStorage, Window
from ak_guard.keys import digest, mint
from tests.benchmarks.harness import Case
from tests.benchmarks.traffic import networks, request, requests, starlette_app

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: Never reached, but counted.
AMPLE: Final = 1_000_000_000
WINDOWS: Final = ("5h", "1d", "7d")
EVERYTHING: Final = "key, state, expiry, IP rules, group and route, quota, 3 windows, headers, failure limit"

PAID: Final = Group("paid", routes=["GET /v1/models", "GET /v1/models/*", "POST /v1/chat/*", "POST /v1/embeddings"])
#: Every setting that costs something, on.
SERVICE: Final[dict[str, Any]] = {"public_paths": ["/health"], "deny_ips": ["198.51.100.0/24"]}


def limits(amount: int = AMPLE, anchor: str = "first-use") -> list[Limit]:
    return [Limit.parse(f"{amount}/{window} {anchor}") for window in WINDOWS]


async def issue(keys: KeyManager, **changes: Any) -> str:
    """A key with every rule a key can have; `changes` replace some."""
    rules: dict[str, Any] = {
        "group": "paid",
        # Loopback is where the load generator calls from.
        "allow_ips": ["203.0.113.0/24", "127.0.0.0/8", *networks(8)],
        "deny_ips": ["192.0.2.0/24"],
        "quota": AMPLE,
        "expires_in": "30d",
        "limits": limits(),
    }
    return (await keys.create("prod-api", **(rules | changes))).secret


async def guarded(
    name: str,
    *,
    live: int = 1,
    group: Group = PAID,
    backend: MemoryBackend | SQLBackend | None = None,
    service: dict[str, Any] | None = None,
    scopes: list[dict[str, Any]] | None = None,
    addresses: Sequence[str] | None = None,
    at_once: int = 1,
    status: int = 200,
    spend: int = 0,
    checks: str = EVERYTHING,
    **changes: Any,
) -> Case:
    """The bare app behind a guard with everything on, called with `live` keys in turn.

    `scopes` are other requests, `addresses` the clients that call in turn with one key. `changes` are to the key.
    """
    store = MemoryBackend() if backend is None else backend
    keys = KeyManager(store)
    await keys.__aenter__()
    await keys.create_group(group)
    secrets = [await issue(keys, group=group.name, **changes) for _ in range(live)]
    if addresses is not None:
        scopes = [request(secrets[0], client) for client in addresses]
    app = starlette_app()
    app.add_middleware(ApiKeyMiddleware, backend=store, **(SERVICE | (service or {})))
    return Case(
        name,
        app,
        requests(secrets) if scopes is None else scopes,
        status=status,
        base="bare Starlette",
        checks=checks,
        at_once=at_once,
        spend=spend,
        close=lambda: keys.__aexit__(None, None, None),
    )


@dataclass(slots=True)
class Crowd:
    """Very many keys of one service, each with three windows under way."""

    backend: MemoryBackend
    secrets: list[str]


async def crowd(live: int, callers: int) -> Crowd:
    """`live` keys with counters under way, put in place directly; the secrets of `callers` of them, spread over all."""
    backend = MemoryBackend()
    manager = KeyManager(backend)
    await manager.create_group(PAID)
    own = tuple(limits())
    chosen = frozenset(random.Random(7).sample(range(live), callers))  # the same ones in each run
    secrets: list[str] = []
    template = (await manager.create("prod-api", group="paid", quota=AMPLE, expires_in="30d")).key
    for at in range(live):
        key = ApiKey(
            f"key_{at:020x}",
            template.name,
            "paid",
            expires_at=template.expires_at,
            allow_ips=("203.0.113.0/24",),
            deny_ips=("192.0.2.0/24",),
            quota=AMPLE,
            limits=own,
        )
        secret = mint() if at in chosen else ""
        if secret:
            secrets.append(secret)
        # Not through insert(), which looks for the digest among all keys each time.
        backend._keys[key.id] = key
        backend._secrets[digest(secret.encode() or key.id.encode())] = (key.id, None)
    counters = backend.counters
    assert isinstance(counters, MemoryStorage)
    await start_counters(counters, [f"key/key_{at:020x}" for at in range(live)])
    return Crowd(backend, secrets)


async def start_counters(counters: MemoryStorage, subjects: Iterable[str]) -> None:
    """Begin three windows for each subject, as its first request would."""
    asks = [Ask(Window.of(limit), 1) for limit in limits()]
    for subject in subjects:
        await counters.acquire(subject, asks, lease=None, now=time.time())


def of_crowd(name: str, people: Crowd) -> Case:
    app = starlette_app()
    # Remembered for the whole run: what a look-up costs is measured by itself.
    app.add_middleware(ApiKeyMiddleware, backend=people.backend, cache_ttl=3_600, **SERVICE)
    return Case(name, app, requests(people.secrets), base="bare Starlette")


async def on_sqlite(name: str, folder: Path, *, live: int, at_once: int) -> Case:
    backend = SQLBackend(f"sqlite:///{folder}/{live}-{at_once}.db")
    return await guarded(name, backend=backend, live=live, at_once=at_once, checks="")


def strangers(count: int, clients: Sequence[str]) -> list[dict[str, Any]]:
    """Requests with well-formed keys that nobody holds, from these addresses in turn; no private one is throttled."""
    return [request(mint(), client) for client in itertools.islice(itertools.cycle(clients), count)]
