"""Canaries: keys planted where nobody should use one, so that any call with them is an alarm.

They are the keys of the group `canary`, as long as that group lets nobody in: nobody has defined it, or it is disabled.
Each of their calls is refused, stands in their records, and is a WARNING in the log.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ak_guard.records import ApiKey, Group

log: Final = logging.getLogger("ak_guard")

# Whoever found one may call with it a thousand times; the records count that.
_SILENT_SECONDS: Final = 60.0
_REMEMBERED: Final = 1_000

CANARY_GROUP: Final = "canary"


def lets_nobody_in(groups: Iterable[Group | None]) -> bool:
    """Whether keys of the group are canaries, by the groups that there are."""
    return not any(group is not None and group.name == CANARY_GROUP and group.enabled for group in groups)


def is_canary(key: ApiKey, groups: Iterable[Group | None]) -> bool:
    return key.group == CANARY_GROUP and lets_nobody_in(groups)


class CanaryAlarm:
    """Says in the log where a canary was called from; of each at most once a minute. `clock` is in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: dict[str, float] = {}

    def called(self, key: ApiKey, client: str | None) -> None:
        """A key of the canary group was refused because the group lets nobody in."""
        now = self._clock()
        if 0 <= now - self._told.get(key.id, -math.inf) < _SILENT_SECONDS:
            return
        if len(self._told) >= _REMEMBERED:
            self._told.clear()
        self._told[key.id] = now
        log.warning("the canary %s (%s) was called from %s: nobody should have it", key.name, key.hint, client)
