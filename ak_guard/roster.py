"""The keys as they stand: one, a list, a page of it, how many; their groups; and who guards with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard import inputs
from ak_guard.backends.base import ReadsUsage
from ak_guard.backends.workers import Confirmation, KnowsWorkers
from ak_guard.errors import InputError
from ak_guard.history import History
from ak_guard.listing import (
    ALL_KEYS,
    UNUSED_DAYS,
    KeyFilter,
    ListedKey,
    Order,
    Walk,
    page_of,
    read_cursor,
    standing,
)
from ak_guard.notation import DAY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.backends.workers import Worker
    from ak_guard.listing import KeyCounts, KeyPage
    from ak_guard.records import ApiKey, Group

#: How long `confirm` waits unless it is told otherwise, in seconds.
CONFIRM_SECONDS: Final = 10.0

# Usage was recorded until now where some was in so many seconds; so many keys are looked at for some that are unused.
_RECORDED_LATELY: Final = 7 * DAY
_LOOKED_THROUGH: Final = 2_000


class Roster(History):
    """The part of a manager that looks and changes nothing."""

    async def get(self, key_id: str) -> ApiKey:
        """The key with this id."""
        return await self.backend.get(inputs.key_id(key_id))

    async def list(
        self,
        *,
        search: str | None = None,
        group: str | None = None,
        enabled: bool | None = None,
        owner: str | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> list[ApiKey]:
        """Keys that match, newest first; `after` is the id of the last key of the page before."""
        inputs.page_size(limit)
        newest_first = Order("created", descending=True)
        place = None if after is None else standing(ListedKey(await self.get(after)), newest_first)
        where = KeyFilter(search, group, enabled, owner).checked()
        found = await self.backend.walk(where, Walk(newest_first, limit, place), now=self._clock())
        return [listed.key for listed in found]

    async def page(
        self,
        where: KeyFilter = ALL_KEYS,
        *,
        sort: str = "-created",
        after: str | None = None,
        before: str | None = None,
        limit: int = 25,
    ) -> KeyPage:
        """One page of the keys that match, with how many there are in each state.

        `sort` is one of `SORT_FIELDS`, with a minus the greatest first. `after` and `before` are `next` and `previous`
        of the page beside it, which stay good whatever is changed or deleted meanwhile.
        """
        inputs.page_size(limit)
        if after is not None and before is not None:
            raise InputError("before", "cannot be given together with after")
        order, where = Order.parse(sort), where.checked()
        place = None if after is None else read_cursor(after, order, "after")
        place = place if before is None else read_cursor(before, order, "before")
        now = self._clock()
        counts = await self.backend.count(where, now=now)
        walk = Walk(order, limit, place, back=before is not None, matching=counts.of(where.state))
        found = await self.backend.walk(where, walk.one_more(), now=now) if walk.matching else []
        return page_of(walk, found, where, counts)

    async def first(
        self, where: KeyFilter = ALL_KEYS, *, sort: str = "-created", limit: int = 25, reach: int | None = None
    ) -> Sequence[ListedKey]:
        """The first keys of a list, uncounted, which costs little however many there are.

        With `reach` some may be missed: in the order of last uses only so many keys are looked at.
        """
        inputs.page_size(limit)
        walk = Walk(Order.parse(sort), limit, reach=reach)
        return await self.backend.walk(where.checked(), walk, now=self._clock())

    async def unused(self, *, days: int = UNUSED_DAYS, limit: int = 3) -> Sequence[ListedKey]:
        """A few of the keys that work and were not used for so many days, those that never were first.

        None unless usage was recorded all that time. Where there are very many keys only some are looked at; a page
        with `unused_days` finds all.
        """
        recorded = await self.backend.recorded() if isinstance(self.backend, ReadsUsage) else None
        now = self._clock()
        if recorded is None or recorded[0] > now - days * DAY or recorded[1] < now - _RECORDED_LATELY:
            return []
        where = KeyFilter(state="active", unused_days=days)
        return await self.first(where, sort="last_used", limit=limit, reach=_LOOKED_THROUGH)

    async def counts(self, where: KeyFilter = ALL_KEYS) -> KeyCounts:
        """How many keys match in each state, whatever state `where` names."""
        return await self.backend.count(where.checked(), now=self._clock())

    async def get_group(self, name: str) -> Group:
        """The group of this name."""
        return await self.backend.get_group(name)

    async def list_groups(self) -> Sequence[Group]:
        """All groups by name."""
        return await self.backend.list_groups()

    async def workers(self) -> Sequence[Worker]:
        """The guards that run on this backend, in whatever process, the longest running first.

        Empty for a backend that does not know them.
        """
        return await self.backend.workers() if isinstance(self.backend, KnowsWorkers) else ()

    async def confirm(self, *, timeout: float = CONFIRM_SECONDS) -> Confirmation:  # noqa: ASYNC109  # late is an answer
        """Wait until every running guard follows all changes made so far, `timeout` seconds at most.

        Whoever did not answer in time is named with the moment until which it may act on what it knew before. A backend
        that does not know its guards is in this process, where changes are at once.
        """
        inputs.wait("timeout", timeout)
        if not isinstance(self.backend, KnowsWorkers):
            return Confirmation(0.0)
        return await self.backend.confirm(timeout=timeout)
