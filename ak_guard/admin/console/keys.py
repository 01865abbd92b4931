"""The list of keys: what stands out, search, filters, order, and a page of rows with their gauges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.rows import Row, row_of
from ak_guard.canary import CANARY_GROUP, is_canary, lets_nobody_in
from ak_guard.errors import BudgetError, ConfigurationError, InputError
from ak_guard.listing import ALL_KEYS, MOST_UNUSED_DAYS, NO_ENVIRONMENT, UNUSED_DAYS, KeyCounts, KeyFilter
from ak_guard.records import ENVIRONMENTS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.listing import KeyPage, ListedKey, State
    from ak_guard.records import Group
    from ak_guard.status import Status

PAGE_SIZE: Final = 25
#: The keys that are in use stand first.
DEFAULT_SORT: Final = "-last_used"
#: So many keys are named under "Worth a look".
LOOKED_AT: Final = 3

_SORTS: Final = {"name": "name", "expires": "expires", "quota": "quota", "last_used": DEFAULT_SORT}
_STATES: Final[tuple[State, ...]] = ("active", "disabled", "expired", "expiring", "endless")
#: Beside the states stands which keys work and are not used; the longest unused come first.
_UNUSED: Final = "unused"
_UNUSED_PATH: Final = f"/?state={_UNUSED}&sort=last_used"


@dataclass(frozen=True, slots=True)
class Choice:
    """One entry of a filter."""

    value: str
    word: Markup
    chosen: bool


@dataclass(frozen=True, slots=True)
class Filter:
    name: str
    word: Markup
    choices: tuple[Choice, ...]


@dataclass(frozen=True, slots=True)
class Heading:
    """What a column is sorted by when it is pressed, and how it is sorted now (`aria-sort`)."""

    href: str
    sorted: str


async def show(visit: Visit) -> Response:
    """The page of keys that the query asks for."""
    where = wanted(visit)
    sort = visit.asked("sort") or DEFAULT_SORT
    problem: InputError | None = None
    try:
        page = await visit.keys.page(
            where, sort=sort, after=visit.asked("after") or None, before=visit.asked("before") or None, limit=PAGE_SIZE
        )
    except InputError as error:
        # An address that somebody wrote by hand, or a cursor of another order: the first page says so and goes on.
        problem, sort, where = error, DEFAULT_SORT, KeyFilter()
        page = await visit.keys.page(where, sort=sort, limit=PAGE_SIZE)
    statuses = await _statuses(visit, page)
    groups = await visit.keys.list_groups()
    strayed = await visit.keys.new_networks(page.items)
    rows = [
        row_of(
            listed,
            None if statuses is None else statuses.get(listed.key.id),
            visit.tongue,
            canary=is_canary(listed.key, groups),
            strayed=listed.key.id in strayed,
        )
        for listed in page.items
    ]
    # Only where nothing matches it matters how many there are without the filters.
    unfiltered = page.total or (await visit.keys.counts()).total
    return await visit.page(
        "keys.html",
        rows=rows,
        counted=_counted(page.counts, visit.tongue),
        unfiltered=unfiltered,
        filters=_filters(visit, where, groups),
        narrowed=where != ALL_KEYS,
        search=where.search or "",
        looked_for=_looked_for(where, visit.tongue),
        headings={name: _heading(visit, name, sort) for name in _SORTS},
        sort=sort,
        total=page.total,
        next=_beside(visit, "after", page.next),
        previous=_beside(visit, "before", page.previous),
        problem=problem,
        counters_away=statuses is None,
        owner=where.owner or "",
        looks=await _looks(visit, where, page, rows, groups),
    )


def wanted(visit: Visit) -> KeyFilter:
    """The filter that stands in the query; words it does not know ask for nothing."""
    state = next((state for state in _STATES if state == visit.asked("state")), None)
    unused = visit.asked("state") == _UNUSED
    environment = visit.asked("env")
    return KeyFilter(
        search=visit.asked("q") or None,
        group=visit.asked("group") or None,
        owner=visit.asked("owner") or None,
        state="active" if unused else state,
        environment=environment if environment in (*ENVIRONMENTS, NO_ENVIRONMENT) else None,
        unused_days=UNUSED_DAYS if unused else None,
    )


async def _statuses(visit: Visit, page: KeyPage) -> Mapping[str, Status] | None:
    """The gauges of all rows in one question; None where the counters cannot be asked."""
    try:
        return await visit.keys.statuses([listed.key for listed in page.items])
    except (BudgetError, ConfigurationError):
        return None


async def _looks(
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
    gravest_first = sorted(found.values(), key=lambda look: (look.icon != "bell", look.kind != "bad"))
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
    return Look(key.id, key.name, "quiet", "clock", words, tongue.say("Show all unused keys"), _UNUSED_PATH, own=False)


def _counted(counts: KeyCounts, tongue: Tongue) -> Markup:
    """The sentence under the title: how many there are, and in which states."""
    parts = [tongue.count("%(n)s can call now", "%(n)s can call now", counts.active)]
    if counts.disabled:
        parts.append(tongue.count("%(n)s is disabled", "%(n)s are disabled", counts.disabled))
    if counts.expired:
        parts.append(tongue.count("%(n)s has expired", "%(n)s have expired", counts.expired))
    if counts.expiring:
        parts.append(tongue.count("%(n)s ends within a week", "%(n)s end within a week", counts.expiring))
    head = tongue.count("%(n)s key:", "%(n)s keys:", counts.total)
    return tongue.say("%(head)s %(parts)s.", head=head, parts=tongue.listed(parts))


def _filters(visit: Visit, where: KeyFilter, stored: Sequence[Group]) -> list[Filter]:
    say = visit.tongue.say
    groups = [group.name for group in stored]
    if "default" not in groups:
        groups.append("default")
    states = {
        "active": say("Active"),
        "disabled": say("Disabled"),
        "expired": say("Expired"),
        "expiring": say("Ends within a week"),
        "endless": say("Never expires"),
        _UNUSED: say("Not used for %(n)s days", n=UNUSED_DAYS),
    }
    environments = {
        "production": "prod",
        "staging": "staging",
        "development": "dev",
        "test": "test",
        "none": say("none in the name"),
    }
    return [
        _filter("group", say("Group"), {name: name for name in groups}, where.group),
        _filter("state", say("State"), states, _UNUSED if where.unused_days else where.state),
        _filter("env", say("Environment"), environments, where.environment),
    ]


def _filter(name: str, word: Markup, choices: Mapping[str, object], chosen: str | None) -> Filter:
    from markupsafe import escape  # noqa: PLC0415

    # A group that is gone may still be asked for, so that its keys can be found.
    extra: Sequence[str] = [chosen] if chosen and chosen not in choices else []
    entries = [*choices.items(), *((value, value) for value in extra)]
    return Filter(name, word, tuple(Choice(value, escape(text), value == chosen) for value, text in entries))


def _looked_for(where: KeyFilter, tongue: Tongue) -> Markup:
    parts = []
    if where.search:
        parts.append(tongue.say("“%(search)s”", search=where.search))
    if where.group:
        parts.append(tongue.say("group %(group)s", group=where.group))
    if where.owner:
        parts.append(tongue.say("owner %(owner)s", owner=where.owner))
    if where.state:
        parts.append(tongue.say("one state"))
    if where.environment:
        name = tongue.say("none in the name") if where.environment == NO_ENVIRONMENT else where.environment
        parts.append(tongue.say("environment %(name)s", name=name))
    return tongue.listed(parts)


def _heading(visit: Visit, name: str, sort: str) -> Heading:
    field = _SORTS[name].removeprefix("-")
    now = "descending" if sort == f"-{field}" else "ascending" if sort == field else ""
    # Pressed again, a column turns round.
    then = field if now == "descending" else f"-{field}" if now else _SORTS[name]
    return Heading(_again(visit, sort=then), now)


def _beside(visit: Visit, side: str, cursor: str | None) -> str | None:
    return None if cursor is None else _again(visit, **{side: cursor})


def _again(visit: Visit, **changed: str) -> str:
    """The same list, with the same filters and order but for what is named."""
    kept = {name: visit.asked(name) for name in ("q", "group", "state", "env", "owner", "sort")}
    return visit.href("/", **{**kept, **changed})
