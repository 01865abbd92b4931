"""The groups: what each gives its keys, and how many keys a narrower one would stop."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from ak_guard import documents
from ak_guard.admin.console.gauges import Gauge, window_gauge
from ak_guard.admin.console.in_words import limit_words
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.visit import Note
from ak_guard.canary import CANARY_GROUP
from ak_guard.errors import BudgetError, ConfigurationError, Conflict, InputError, NotFound
from ak_guard.listing import KeyFilter
from ak_guard.paths import Route, Routes
from ak_guard.records import DEFAULT_GROUP, Group
from ak_guard.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.visit import Visit

FIELDS: Final = ("routes", "limits", "shared_limits")


@dataclass(frozen=True, slots=True)
class Card:
    """One group as it stands in the list."""

    group: Group
    stored: bool
    keys: int
    disabled: int
    expired: int
    each: Markup
    times: str
    shared: Sequence[Gauge]


@dataclass(frozen=True, slots=True)
class GroupDraft:
    """A group as somebody types it: lists have one entry a line."""

    name: str = ""
    routes: str = ""
    limits: str = ""
    shared_limits: str = ""
    multiplier: str = "1"
    enabled: bool = True

    @classmethod
    def of(cls, group: Group) -> GroupDraft:
        return cls(
            group.name,
            "\n".join(group.routes),
            "\n".join(map(str, group.limits)),
            "\n".join(map(str, group.shared_limits)),
            documents.multiplier(group.multiplier),
            group.enabled,
        )

    def read(self) -> Group:
        """The group; raises `InputError` naming the field."""
        lists = {field: _lines(getattr(self, field)) for field in FIELDS}
        return Group(self.name, multiplier=self.multiplier, enabled=self.enabled, **lists)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace("\r\n", "\n").split("\n") if line.strip()]


async def show(visit: Visit) -> Response:
    """All groups with their keys counted."""
    stored = {group.name: group for group in await visit.keys.list_groups()}
    groups = {DEFAULT_GROUP: Group(DEFAULT_GROUP), **stored}
    cards = [await _card(visit, group, stored=name in stored) for name, group in sorted(groups.items())]
    return await visit.page("groups.html", nav="groups", cards=cards, canary_group=CANARY_GROUP)


async def _card(visit: Visit, group: Group, *, stored: bool) -> Card:
    counts = await visit.keys.counts(KeyFilter(group=group.name))
    tongue = visit.tongue
    each = tongue.say("no windows of its own")
    if group.limits:
        each = tongue.listed(limit_words(limit, tongue) for limit in group.limits)
    return Card(
        group,
        stored,
        counts.total,
        counts.disabled,
        counts.expired,
        each,
        documents.multiplier(group.multiplier),
        await _shared(visit, group),
    )


async def _shared(visit: Visit, group: Group) -> list[Gauge]:
    """What all keys of a group have used together, as any one of them sees it."""
    if not group.shared_limits:
        return []
    page = await visit.keys.page(KeyFilter(group=group.name), limit=1)
    if not page.items:
        return []
    try:
        status = await visit.keys.status(page.items[0].key.id)
    except (BudgetError, ConfigurationError):
        return []
    return [window_gauge(window, visit.tongue) for window in status.windows if window.name.startswith("shared-")]


async def show_new(visit: Visit) -> Response:
    return await _form(visit, GroupDraft(), new=True)


async def show_one(visit: Visit) -> Response:
    """The form of a group; `default` may be defined even before it is stored."""
    group = await _found(visit)
    return await _form(visit, GroupDraft.of(group), new=False)


async def _found(visit: Visit) -> Group:
    name = visit.asked("name")
    try:
        return await visit.keys.get_group(name)
    except NotFound:
        if name == DEFAULT_GROUP:
            return Group(DEFAULT_GROUP)
        raise


def _draft(visit: Visit) -> GroupDraft:
    texts = {field: visit.given(field) for field in ("name", *FIELDS, "multiplier")}
    return GroupDraft(**texts, enabled=bool(visit.given("enabled")))


async def create(visit: Visit) -> Response:
    draft = _draft(visit)
    try:
        group = await visit.keys.create_group(draft.read())
    except InputError as error:
        return await _form(visit, draft, new=True, problem=error)
    return visit.go("/groups", Note("good", visit.tongue.say("Group %(name)s is created.", name=group.name)))


async def save(visit: Visit) -> Response:
    """Save a group; where keys or recent calls would be stopped by it, only when it is said again."""
    before = await _found(visit)
    draft = replace(_draft(visit), name=before.name)
    try:
        after = draft.read()
    except InputError as error:
        return await _form(visit, draft, new=False, problem=error)
    warnings = await stopped(visit, before, after)
    if warnings and not visit.given("force"):
        return await _form(visit, draft, new=False, warnings=warnings)
    try:
        await visit.keys.update_group(after, version=visit.given("lock"))
    except NotFound:
        await visit.keys.create_group(after)
    except Conflict:
        text = visit.tongue.say("Somebody else changed this group meanwhile. Saving again replaces what is saved now.")
        return await _form(visit, draft, new=False, warnings=[text])
    head = visit.tongue.say("Group %(name)s is saved. Its keys follow within a second.", name=after.name)
    return visit.go("/groups", Note("good", head))


async def delete(visit: Visit) -> Response:
    """Delete a group, once its name has been typed."""
    group = await visit.keys.get_group(visit.asked("name"))
    typed = visit.given("typed")
    if typed != group.name:
        text = visit.tongue.say("“%(typed)s” is not %(name)s. Nothing was deleted.", typed=typed[:60], name=group.name)
        return await _form(visit, GroupDraft.of(group), new=False, delete_problem=text)
    await visit.keys.delete_group(group.name)
    return visit.go("/groups", Note("good", visit.tongue.say("Group %(name)s is deleted.", name=group.name)))


async def stopped(visit: Visit, before: Group, after: Group) -> list[Markup]:
    """What a change would stop: all keys, calls to routes that go, and keys whose windows get tighter."""
    counts = await visit.keys.counts(KeyFilter(group=before.name))
    if not counts.active:
        return []
    tongue, found = visit.tongue, []
    if before.enabled and not after.enabled:
        found.append(
            tongue.count(
                "%(n)s key that can call now is refused.", "%(n)s keys that can call now are refused.", counts.active
            )
        )
    lost = await _lost_routes(visit, before, after)
    if lost:
        words = tongue.listed(f"{route} ({calls:,})" for route, calls in lost)
        found.append(tongue.say("Called in the last 24 hours and no longer allowed: %(routes)s.", routes=words))
    if _tighter(before.limits, after.limits) or _tighter(before.shared_limits, after.shared_limits):
        found.append(
            tongue.count(
                "A window gets tighter: it holds for %(n)s key that can call now.",
                "A window gets tighter: it holds for %(n)s keys that can call now.",
                counts.active,
            )
        )
    return found


async def _lost_routes(visit: Visit, before: Group, after: Group) -> list[tuple[str, int]]:
    """Routes that keys of the group called in the last day and that the changed group does not have, with the calls."""
    if before.routes == after.routes or not after.routes:
        return []
    allowed = Routes(after.routes)
    lost: dict[str, int] = {}
    page = await visit.keys.page(KeyFilter(group=before.name, state="active"), limit=50)
    for listed in page.items:
        try:
            summary = await visit.keys.usage(listed.key.id)
        except ConfigurationError:
            return []
        for place in summary.routes:
            method, _, path = place.name.partition(" ")
            if place.calls > place.refused and not allowed.allow(Route(method, path)):
                lost[place.name] = lost.get(place.name, 0) + place.calls - place.refused
    return sorted(lost.items(), key=lambda entry: -entry[1])[:8]


def _tighter(before: Iterable[Any], after: Iterable[Any]) -> bool:
    was = {limit.name: limit.amount for limit in before}
    return any(limit.amount < was.get(limit.name, limit.amount + 1) for limit in after)


async def _form(
    visit: Visit,
    draft: GroupDraft,
    *,
    new: bool,
    problem: InputError | None = None,
    warnings: Sequence[Markup] = (),
    delete_problem: Markup | None = None,
) -> Response:
    saved = None
    if not new:
        saved = next((group for group in await visit.keys.list_groups() if group.name == draft.name), None)
    return await visit.page(
        "group.html",
        status=422 if problem or delete_problem else 409 if warnings else 200,
        nav="groups",
        draft=draft,
        new=new,
        problem=problem,
        problem_text=None if problem is None else problem_words(problem.problem, visit.tongue),
        warnings=warnings,
        delete_problem=delete_problem,
        stored=saved is not None,
        lock="" if saved is None else version_of(saved),
    )
