"""Canaries: keys planted where nobody should use one, so that any call with them is an alarm.

They are the keys of the group `canary`, as long as that group lets nobody in: nobody has defined it, or it is disabled.
Each of their calls is refused and stands in their records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ak_guard.records import ApiKey, Group

CANARY_GROUP: Final = "canary"


def lets_nobody_in(groups: Iterable[Group | None]) -> bool:
    """Whether keys of the group are canaries, by the groups that are stored."""
    return not any(group is not None and group.name == CANARY_GROUP and group.enabled for group in groups)


def is_canary(key: ApiKey, groups: Iterable[Group | None]) -> bool:
    return key.group == CANARY_GROUP and lets_nobody_in(groups)
