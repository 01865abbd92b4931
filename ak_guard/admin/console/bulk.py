"""What is done with several keys at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.visit import Note
from ak_guard.admin.console.waiting import confirmation_note
from ak_guard.errors import InputError, NotFound
from ak_guard.records import DEFAULT_GROUP

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.visit import Visit
    from ak_guard.records import ApiKey

#: As many as a page of the list shows, and some room.
MOST: Final = 100


async def ask(visit: Visit) -> Response:
    """There is nothing to ask for without a selection."""
    return visit.go("/")


async def act(visit: Visit) -> Response:
    """Enable or disable at once; move and delete after a page that names what is chosen."""
    chosen = await _chosen(visit)
    what = visit.given("do")
    if not chosen and what:
        return visit.go_back(note=Note("warn", visit.tongue.say("No key was selected.")))
    match what:
        case "enable":
            return await _enable(visit, chosen)
        case "disable":
            return await _disable(visit, chosen)
        case "group":
            return await _move(visit, chosen)
        case "delete":
            return await _delete(visit, chosen)
    return visit.go_back()


async def _chosen(visit: Visit) -> list[ApiKey]:
    """The keys that are selected and still there."""
    found = []
    for key_id in dict.fromkeys(visit.all_given("id")[:MOST]):
        try:
            found.append(await visit.keys.get(key_id))
        except NotFound:
            continue
    return found


async def _each(chosen: list[ApiKey], work: Callable[[str], Awaitable[object]]) -> int:
    """Do it with each; one that somebody deleted meanwhile is left out. Returns with how many it was done."""
    done = 0
    for key in chosen:
        try:
            await work(key.id)
        except NotFound:
            continue
        done += 1
    return done


async def _enable(visit: Visit, chosen: list[ApiKey]) -> Response:
    done = await _each(chosen, visit.keys.enable)
    head = visit.tongue.count("%(n)s key is enabled.", "%(n)s keys are enabled.", done)
    return visit.go_back(note=await confirmation_note(visit, head))


async def _disable(visit: Visit, chosen: list[ApiKey]) -> Response:
    done = await _each(chosen, visit.keys.disable)
    head = visit.tongue.count("%(n)s key is disabled.", "%(n)s keys are disabled.", done)
    return visit.go_back(note=await confirmation_note(visit, head))


async def _move(visit: Visit, chosen: list[ApiKey]) -> Response:
    group = visit.given("to")
    if not group:
        return await _page(visit, chosen, "group")
    try:
        done = await _each(chosen, lambda key_id: visit.keys.update(key_id, group=group))
    except InputError:
        return await _page(visit, chosen, "group")
    head = visit.tongue.count("%(n)s key is in %(group)s now.", "%(n)s keys are in %(group)s now.", done, group=group)
    return visit.go_back(note=Note("good", head))


async def _delete(visit: Visit, chosen: list[ApiKey]) -> Response:
    typed = visit.given("typed")
    if typed != str(len(chosen)):
        problem = None
        if "typed" in visit.form:
            problem = visit.tongue.say(
                "“%(typed)s” is not %(n)s. Nothing was deleted.", typed=typed[:40], n=len(chosen)
            )
        return await _page(visit, chosen, "delete", problem)
    done = await _each(chosen, visit.keys.delete)
    head = visit.tongue.count("%(n)s key is deleted.", "%(n)s keys are deleted.", done)
    return visit.go_back(note=await confirmation_note(visit, head))


async def _page(visit: Visit, chosen: list[ApiKey], what: str, problem: Markup | None = None) -> Response:
    groups = {DEFAULT_GROUP, *(group.name for group in await visit.keys.list_groups())}
    return await visit.page(
        "bulk.html",
        status=422 if problem else 200,
        chosen=chosen,
        what=what,
        problem=problem,
        groups=sorted(groups),
        back=visit.given("back"),
    )
