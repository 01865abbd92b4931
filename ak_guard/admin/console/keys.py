"""The list of keys: what stands out, search, filters, order, and a page of rows with their gauges."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.looks import looks
from ak_guard.admin.console.rows import row_of
from ak_guard.canary import is_canary
from ak_guard.errors import BudgetError, ConfigurationError, InputError
from ak_guard.fullest import LOOKED_AT, near_limit
from ak_guard.listing import (
    ALL_KEYS,
    NO_ENVIRONMENT,
    UNUSED_DAYS,
    KeyCounts,
    KeyFilter,
    KeyPage,
    Order,
    rank,
    standing,
)
from ak_guard.records import ENVIRONMENTS
from ak_guard.status import Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.listing import State
    from ak_guard.records import Group

#: By key; None where the counters cannot be asked.
Statuses = Mapping[str, Status] | None

PAGE_SIZE: Final = 25
#: The keys that are in use stand first.
DEFAULT_SORT: Final = "-last_used"

_SORTS: Final = {"name": "name", "expires": "expires", "quota": "quota", "last_used": DEFAULT_SORT}
_STATES: Final[tuple[State, ...]] = ("active", "disabled", "expired", "expiring", "endless")
#: Beside the states stands which keys work and are not used.
UNUSED: Final = "unused"
#: And which of those used last are near a limit.
_NEAR: Final = "near"


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
    near = visit.asked("state") == _NEAR
    sort = visit.asked("sort") or ("" if near else DEFAULT_SORT)
    problem: InputError | None = None
    try:
        page, statuses = await (_nearest(visit, where, sort) if near else _paged(visit, where, sort))
    except InputError as error:
        # An address that somebody wrote by hand, or a cursor of another order: the first page says so and goes on.
        problem, sort, where, near = error, DEFAULT_SORT, KeyFilter(), False
        page = await visit.keys.page(where, sort=sort, limit=PAGE_SIZE)
        statuses = await _statuses(visit, page)
    groups = [*await visit.keys.list_groups(), *visit.keys.defined_groups]
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
        filters=_filters(visit, where, groups, near=near),
        narrowed=where != ALL_KEYS,
        near=near,
        looked_at=LOOKED_AT,
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
        looks=await looks(visit, where, page, rows, groups),
    )


def wanted(visit: Visit) -> KeyFilter:
    """The filter that stands in the query; words it does not know ask for nothing."""
    state = next((state for state in _STATES if state == visit.asked("state")), None)
    unused = visit.asked("state") == UNUSED
    works = unused or visit.asked("state") == _NEAR
    environment = visit.asked("env")
    return KeyFilter(
        search=visit.asked("q") or None,
        group=visit.asked("group") or None,
        owner=visit.asked("owner") or None,
        state="active" if works else state,
        environment=environment if environment in (*ENVIRONMENTS, NO_ENVIRONMENT) else None,
        unused_days=UNUSED_DAYS if unused else None,
    )


async def _paged(visit: Visit, where: KeyFilter, sort: str) -> tuple[KeyPage, Statuses]:
    after, before = visit.asked("after") or None, visit.asked("before") or None
    page = await visit.keys.page(where, sort=sort, after=after, before=before, limit=PAGE_SIZE)
    return page, await _statuses(visit, page)


async def _nearest(visit: Visit, where: KeyFilter, sort: str) -> tuple[KeyPage, Statuses]:
    """Keys that are near a limit, the fullest first where no other order is asked for; never more than a page."""
    counts = await visit.keys.counts(where)
    try:
        found = await near_limit(visit.keys, where, limit=PAGE_SIZE)
    except (BudgetError, ConfigurationError):
        return KeyPage((), None, None, 0, counts), None
    if sort:
        order = Order.parse(sort)
        found.sort(key=lambda one: rank(standing(one.listed, order), order), reverse=order.descending)
    page = KeyPage(tuple(one.listed for one in found), None, None, len(found), counts)
    return page, {one.listed.key.id: one.status for one in found}


async def _statuses(visit: Visit, page: KeyPage) -> Statuses:
    """The gauges of all rows in one question; None where the counters cannot be asked."""
    try:
        return await visit.keys.statuses([listed.key for listed in page.items])
    except (BudgetError, ConfigurationError):
        return None


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


def _filters(visit: Visit, where: KeyFilter, stored: Sequence[Group], *, near: bool) -> list[Filter]:
    say = visit.tongue.say
    groups = [group.name for group in stored]
    if "default" not in groups:
        groups.append("default")
    states = {
        "active": say("Active"),
        _NEAR: say("Near a limit"),
        "disabled": say("Disabled"),
        "expired": say("Expired"),
        "expiring": say("Ends within a week"),
        "endless": say("Never expires"),
        UNUSED: say("Not used for %(n)s days", n=UNUSED_DAYS),
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
        _filter("state", say("State"), states, UNUSED if where.unused_days else _NEAR if near else where.state),
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
