"""What keys may spend: how their budgets stand, and what would become of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard import inputs, keys
from ak_guard.address import parse_address
from ak_guard.assembly import open_counters
from ak_guard.backends.counted import SameCounters
from ak_guard.budgets.ledger import Budget, peek, peek_all, running
from ak_guard.budgets.place import place_of
from ak_guard.errors import InputError, NotFound
from ak_guard.explain import Explanation, explain
from ak_guard.listing import KeyFilter, Order, Walk
from ak_guard.records import ApiKey
from ak_guard.roster import Roster
from ak_guard.status import Status
from ak_guard.subject import group_of, key_budget

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from limits.aio.storage import Storage

    from ak_guard.backends.base import KeyStore
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.records import Group

    Moment = datetime | str


class Balances(Roster):
    """The part of a manager that reads budgets and takes nothing. `ConfigurationError` where guards count elsewhere."""

    def __init__(
        self,
        backend: KeyStore,
        limits: Storage | MultiWindowSupport | str | None,
        groups: Iterable[Group],
        clock: Callable[[], float],
    ) -> None:
        super().__init__(backend, clock)
        self._quotas, self._windows, self._owned = open_counters(backend, limits)
        self._counters = SameCounters(backend, place_of(limits))
        self._groups = {group.name: group for group in groups}
        #: Where quotas are counted, and windows where no other storage is named.
        self.counters: MultiWindowSupport = self._quotas
        #: Seconds since the epoch.
        self.clock: Callable[[], float] = clock

    @property
    def defined_groups(self) -> tuple[Group, ...]:
        """Groups that services define in their code, as this manager was told."""
        return tuple(self._groups.values())

    async def status(self, key_id: str) -> Status:
        """What is used, held and left of quota and windows, when they reset, and how many requests run at once."""
        budget = await self._budget(await self.get(key_id))
        await self._counters.check()
        return Status.of(budget, await peek(budget, self._clock()), (await running([budget]))[0])

    async def statuses(self, ids: Iterable[str | ApiKey]) -> dict[str, Status]:
        """`status` of many keys by id, without those that are not there: each store is asked once for all of them.

        A key that is given whole is not looked up again.
        """
        wanted = list(ids)
        known = {key.id: key for key in wanted if isinstance(key, ApiKey)}
        asked = dict.fromkeys(inputs.key_id(key_id) for key_id in wanted if not isinstance(key_id, ApiKey))
        missing = tuple(key_id for key_id in asked if key_id not in known)
        if not wanted:
            return {}
        await self._counters.check()
        groups = {group.name: group for group in await self.backend.list_groups()}
        if missing:
            there = await self.backend.walk(KeyFilter(ids=missing), Walk(Order(), len(missing)), now=self._clock())
            known |= {listed.key.id: listed.key for listed in there}
        budgets = {
            key.id: self._budget_in(key, group_of(key.group, self._groups, groups.get(key.group)))
            for key in known.values()
        }
        levels = await peek_all(list(budgets.values()), self._clock())
        crowds = await running(list(budgets.values()))
        rows = zip(budgets.items(), levels, crowds, strict=True)
        return {key_id: Status.of(budget, level, crowd) for (key_id, budget), level, crowd in rows}

    async def explain(
        self,
        secret_or_id: str,
        *,
        ip: str | None = None,
        path: str = "/",
        method: str = "GET",
        cost: int = 1,
        at: Moment | float | None = None,
    ) -> Explanation:
        """Say what would become of a request, rule by rule, without changing anything."""
        now = self._clock() if at is None else inputs.moment("at", at)
        if ip is not None and parse_address(ip) is None:
            raise InputError("ip", f"{ip!r} is no address; write 203.0.113.7 or 2001:db8::1")
        inputs.units("cost", cost)
        # By digest first: only what looks like an id may reach a query or an error as text.
        found = await self.backend.find(keys.digest(secret_or_id.encode("utf-8", "surrogatepass")))
        if found is not None:
            key, secret_until = found.key, found.valid_until
        else:
            key, secret_until = await self.get(secret_or_id), None
        group = await self.group_of(key.group)
        budget = self._budget_in(key, group)
        levels = await peek(budget, now, need=budget.charged(cost))
        return explain(
            key,
            group,
            budget,
            levels,
            (await running([budget]))[0],
            secret_until=secret_until,
            ip=ip,
            path=path,
            method=method.upper(),
            cost=cost,
            now=now,
        )

    async def group_of(self, name: str) -> Group | None:
        """The group as a guard with the same settings takes it; None where nobody defines it."""
        try:
            stored: Group | None = await self.backend.get_group(name)
        except NotFound:
            stored = None
        return group_of(name, self._groups, stored)

    async def _budget(self, key: ApiKey) -> Budget:
        return self._budget_in(key, await self.group_of(key.group))

    def _budget_in(self, key: ApiKey, group: Group | None) -> Budget:
        return key_budget(key, group, windows=self._windows, quotas=self._quotas, clock=self._clock)
