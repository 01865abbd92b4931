"""What is worth a look: up to three lines above the list, each with one link that acts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.rows import Row, row_of
from ak_guard.canary import CANARY_GROUP, is_canary, lets_nobody_in
from ak_guard.listing import ALL_KEYS, MOST_UNUSED_DAYS, KeyFilter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from ak_guard.admin.console.visit import Visit
    from ak_guard.listing import KeyPage, ListedKey
    from ak_guard.records import Group

#: So many keys are named.
LOOKED_AT: Final = 3
# A canary that was called, and a network that is new to a key.
_ALARMS: Final = ("bell", "alert")
#: All keys that are unused, the longest first.
UNUSED_PATH: Final = "/?state=unused&sort=last_used"


async def looks(
    visit: Visit, where: KeyFilter, page: KeyPage, rows: Sequence[Row], groups: Sequence[Group]
) -> list[Look]:
    """What is worth a look on this page, and, where nothing narrows the list, of all keys what ends or is unused."""
    ending: list[Row] = []
    unused: Sequence[ListedKey] = ()
    if where == ALL_KEYS and page.previous is None:
        if page.counts.expiring:
            soonest = await visit.keys.first(KeyFilter(state="expiring"), sort="expires", limit=LOOKED_AT)
            ending = [row_of(listed, None, visit.tongue) for listed in soonest]
        # A canary that nobody calls is as it should be.
        unused = [listed for listed in await visit.keys.unused(limit=LOOKED_AT) if not is_canary(listed.key, groups)][
            :1
        ]
        ending += await _called_canaries(visit, groups)
    # The soonest first; of a key that stands on the page too, its row knows more.
    found = {look.key_id: look for row in (*ending, *rows) if (look := worth_a_look(row, visit))}
    # Whoever has a key that they should not have is worse than one that stops.
    gravest_first = sorted(found.values(), key=lambda look: (look.icon not in _ALARMS, look.kind != "bad"))
    idle = [unused_look(listed, visit) for listed in unused if listed.key.id not in found]
    # What will stop by itself presses more than what could go; but one line is left for that.
    return [*gravest_first[: LOOKED_AT - len(idle)], *idle]


async def _called_canaries(visit: Visit, groups: Sequence[Group]) -> list[Row]:
    """Canaries that were called, wherever they stand in the list: the newest alarm comes first."""
    if not lets_nobody_in(groups):
        return []
    called = await visit.keys.first(KeyFilter(group=CANARY_GROUP, used=True), sort="-last_used", limit=LOOKED_AT)
    return [row_of(listed, None, visit.tongue, canary=True) for listed in called]


@dataclass(frozen=True, slots=True)
class Look:
    """One line of what is worth a look, and the one link that acts; `own` says whether that is about this key alone."""

    key_id: str
    name: str
    kind: str
    icon: str
    words: Markup
    action: Markup
    path: str
    own: bool = True


def worth_a_look(row: Row, visit: Visit) -> Look | None:
    """Something about a key that a person should decide on: it strays, it is stopped, or it ends soon."""
    tongue, key = visit.tongue, row.key
    path = f"/keys/{key.id}"
    if row.edge == "off":
        return None
    if row.canary:
        if row.address is None:
            return None
        words = tongue.say(
            "was called %(ago)s from <code>%(ip)s</code>. It is a canary: nobody should have it.",
            ago=row.used,
            ip=row.address,
        )
        return Look(key.id, key.name, "bad", "bell", words, tongue.say("See the calls"), f"{path}#usage")
    if row.new_network is not None:
        words = tongue.say(
            "was called %(ago)s from <code>%(network)s</code>, a network it never used before.",
            ago=row.used,
            network=row.new_network,
        )
        return Look(key.id, key.name, "warn", "alert", words, tongue.say("See the calls"), f"{path}#usage")
    if row.gauges.quota is not None and row.gauges.quota.level == "full":
        words = tongue.say("has used up its quota. Every call is refused until it is raised or reset.")
        return Look(key.id, key.name, "bad", "full", words, tongue.say("Raise the quota"), f"{path}/edit#quota")
    if row.soon and key.expires_at is not None:
        words = tongue.say(
            "ends in %(span)s, on %(moment)s.",
            span=tongue.until(key.expires_at),
            moment=tongue.moment(key.expires_at),
        )
        return Look(key.id, key.name, "warn", "clock", words, tongue.say("Extend"), f"{path}/edit#ends")
    if row.gauges.level == "full":
        words = tongue.say("has a full window. Calls are refused until it resets.")
        return Look(key.id, key.name, "bad", "gauge", words, tongue.say("Look at it"), path)
    return None


def unused_look(listed: ListedKey, visit: Visit) -> Look:
    """A key that works and that nobody seems to need."""
    tongue, key = visit.tongue, listed.key
    created = key.created_at
    if listed.last_used_at is not None:
        words = tongue.say("was last used %(ago)s. Does anybody need it?", ago=tongue.ago(listed.last_used_at))
    elif created is not None and (tongue.now - created).days > MOST_UNUSED_DAYS:
        # That it was used before that may have been forgotten.
        words = tongue.say("was not used for a year. Does anybody need it?")
    else:
        words = tongue.say("was never used. Does anybody need it?")
    return Look(key.id, key.name, "quiet", "clock", words, tongue.say("Show all unused keys"), UNUSED_PATH, own=False)
