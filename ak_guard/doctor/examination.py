"""Everything that is looked at, in the order in which one thing hides the next."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from ak_guard.assembly import assemble, open_backend, open_counters
from ak_guard.backends.base import Closable, ReadsUsage
from ak_guard.backends.workers import KnowsWorkers
from ak_guard.budgets import Window
from ak_guard.canary import is_canary
from ak_guard.doctor import keys, service, setup, store
from ak_guard.doctor.finding import Finding, Severity
from ak_guard.errors import BackendError, BudgetError, ConfigurationError, InputError
from ak_guard.settings import configured
from ak_guard.settings.written import outside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from ak_guard.backends.base import KeyLookup
    from ak_guard.backends.http.condition import Condition as ServiceCondition
    from ak_guard.database.condition import Condition
    from ak_guard.settings import Options

#: Workers follow a change within a second; whoever has not by then does not, in seconds.
_PATIENCE: Final = 2.0

_NOBODY: Final = bytes(32)

#: Of so many keys it is asked from where they were last used.
_KEYS_ASKED: Final = 1_000


@runtime_checkable
class KnowsCondition(Protocol):
    """A backend that can say what state its database is in."""

    async def condition(self) -> Condition:
        """Look, and change nothing. Raises `BackendError` when it cannot be reached."""
        ...


@runtime_checkable
class AsksService(Protocol):
    """A backend that asks a key service which speaks our protocol, and can say how that is."""

    counts_itself: bool

    async def service_condition(self) -> ServiceCondition | None:
        """Ask, and change nothing; None where the service has a protocol of its own. Raises `BackendError`."""
        ...


async def examine(defaults: Options, environment: Mapping[str, str], *, db: str | None = None) -> list[Finding]:
    """Look at the settings that hold here and at the store that they name, or at `db` instead of that.

    `defaults` are the settings of a guard that is given nothing. Nothing is changed anywhere. The worst comes first.
    """
    found = [finding async for finding in _examined(defaults, environment, db)]
    return sorted(found, key=lambda finding: list(Severity).index(finding.severity))


async def _examined(defaults: Options, environment: Mapping[str, str], db: str | None) -> AsyncIterator[Finding]:
    try:
        written = outside()
        for stranger in setup.strangers(written):
            yield stranger
        options = defaults._replace(**configured(strangers=False))
        if db is not None:
            options = options._replace(backend=db)
        assemble(options)
    except (ConfigurationError, InputError) as error:
        # Without settings there is nothing to look at.
        yield _wrong(error)
        return
    for finding in (*setup.proxies(options, environment), *setup.rules(options)):
        yield finding
    backend = open_backend(options.backend)
    try:
        async for finding in _of_backend(backend, options):
            yield finding
    except ConfigurationError as error:
        yield _wrong(error)
    except BackendError as error:
        yield (service if isinstance(backend, AsksService) else store).unreachable(str(error))
    if options.limits is not None:
        async for finding in _of_limits(backend, options):
            yield finding


def _wrong(error: Exception) -> Finding:
    return Finding(
        Severity.ERROR,
        "wrong_setting",
        str(error),
        "with it the guard refuses to start, or answers every request 503",
        "`ak-guard settings` shows each setting with an example, and where it is set",
    )


async def _of_backend(backend: KeyLookup, options: Options) -> AsyncIterator[Finding]:
    condition: Condition | None = None
    knows_workers = isinstance(backend, KnowsWorkers)
    if isinstance(backend, KnowsCondition):
        condition = await backend.condition()
        for finding in _of_database(condition, options):
            yield finding
        if not condition.current:
            return
    elif isinstance(backend, AsksService):
        told = await backend.service_condition()
        for finding in service.service(told, counts_elsewhere=backend.counts_itself):
            yield finding
        if told is not None and not told.lets_in:
            return
        knows_workers = told is not None and told.follows
    if isinstance(backend, Closable):
        await backend.start()
    try:
        async for finding in _of_running(backend, condition, options, knows_workers=knows_workers):
            yield finding
    finally:
        if isinstance(backend, Closable):
            await backend.aclose()


def _of_database(condition: Condition, options: Options) -> Iterator[Finding]:
    yield from (*store.schema(condition), *store.clock(condition), *store.rows(condition))
    if condition.current:
        # The guard's own groups win over those that are stored, as they do in the guard.
        groups = {group.name: group for group in (*condition.groups, *options.groups)}
        yield from keys.advice(condition.keys, groups, condition.unpeppered, datetime.now(UTC))


async def _of_running(
    backend: KeyLookup, condition: Condition | None, options: Options, *, knows_workers: bool
) -> AsyncIterator[Finding]:
    await backend.find(_NOBODY)
    if condition is not None and isinstance(backend, ReadsUsage):
        async for finding in _of_uses(backend, condition, options):
            yield finding
    if knows_workers and isinstance(backend, KnowsWorkers):
        for finding in store.counters(await backend.workers()):
            yield finding
        for finding in store.lag(await backend.confirm(timeout=_PATIENCE), datetime.now(UTC)):
            yield finding


async def _of_uses(backend: ReadsUsage, condition: Condition, options: Options) -> AsyncIterator[Finding]:
    groups = (*condition.groups, *options.groups)
    planted = {key.id: key for key in condition.keys if is_canary(key, groups)}
    called = await backend.last_used(list(planted))
    for finding in store.canaries([(planted[key_id], last) for key_id, last in called.items()], datetime.now(UTC)):
        yield finding
    if not list(options.trusted_proxies):
        used = await backend.last_used([key.id for key in condition.keys[:_KEYS_ASKED]])
        for finding in store.callers([last.ip for last in used.values()]):
            yield finding


async def _of_limits(backend: KeyLookup, options: Options) -> AsyncIterator[Finding]:
    _, windows, owned = open_counters(backend, options.limits)
    try:
        await windows.peek("ak_guard doctor", [Window(1, 60)], now=time.time())
    except BudgetError as error:
        yield store.limits_away(str(error))
    finally:
        for counters in owned:
            await counters.aclose()
