"""What is done with one key by one press: enable, disable, rotate, reset, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard import inputs
from ak_guard.admin.console import key as key_page
from ak_guard.admin.console.create import show_secret, shown_before
from ak_guard.admin.console.draft import metadata_with
from ak_guard.admin.console.key import as_grace
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.visit import Action, Made, Note
from ak_guard.admin.console.waiting import confirmation_note, follow_words, followers
from ak_guard.errors import InputError
from ak_guard.keys import holds_minted
from ak_guard.usage.anomalies import whole_network, with_network
from ak_guard.versions import version_of

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.visit import Visit


def _id(visit: Visit) -> str:
    return str(visit.request.path_params["key_id"])


async def disable(visit: Visit) -> Response:
    """Disable at once and say when every worker has confirmed. Pressed again it waits again."""
    key = await visit.keys.disable(_id(visit))
    say, path = visit.tongue.say, f"/keys/{key.id}"
    note = await confirmation_note(
        visit,
        say("%(name)s is disabled.", name=key.name),
        undo=Action(say("Enable again"), f"{path}/enable"),
        again=Action(say("Look again"), f"{path}/disable"),
    )
    return visit.go_back(path, note)


async def enable(visit: Visit) -> Response:
    key = await visit.keys.enable(_id(visit))
    say, path = visit.tongue.say, f"/keys/{key.id}"
    note = await confirmation_note(
        visit,
        say("%(name)s is enabled.", name=key.name),
        undo=Action(say("Disable now"), f"{path}/disable"),
        again=Action(say("Look again"), f"{path}/enable"),
    )
    return visit.go_back(path, note)


async def rotate(visit: Visit) -> Response:
    """Give the key a new secret, shown once."""
    key = await visit.keys.get(_id(visit))
    once = visit.given("once")
    made = visit.console.made.get(once)
    if made is not None:
        return await shown_before(visit, made)
    grace = as_grace(visit.given("grace"))
    visit.console.made[once] = Made(key.id, key.name, visit.tongue.now)
    try:
        issued = await visit.keys.rotate(key.id, grace=grace)
    except BaseException:
        del visit.console.made[once]
        raise
    return await show_secret(visit, issued, lead=await _rotated(visit, grace))


async def _rotated(visit: Visit, grace: str | None) -> Markup:
    say = visit.tongue.say
    if grace is None:
        confirmation = await followers(visit)
        head = say("The new secret works now. The old one may still be let in.")
        if confirmation is not None and confirmation.complete:
            head = say("The new secret works now. The old one has ended.")
        return visit.tongue.sentences([head, follow_words(confirmation, visit.tongue)])
    words = next(option.word for option in key_page.grace_options(visit) if option.value == grace)
    return say("The new secret works now. The old one works for another %(span)s.", span=words)


async def reset(visit: Visit) -> Response:
    """Give back the whole quota or the whole windows."""
    what = visit.given("reset")
    key = await visit.keys.get(_id(visit))
    await visit.keys.reset(key.id, quota=what == "quota", limits=what == "windows")
    say = visit.tongue.say
    head = say("The quota is whole again.") if what == "quota" else say("The windows are empty again.")
    return visit.go(f"/keys/{key.id}", Note("good", head))


async def delete(visit: Visit) -> Response:
    """Delete for good, once the name has been typed."""
    key = await visit.keys.get(_id(visit))
    typed = visit.given("typed")
    if typed != key.name.strip():
        problem = visit.tongue.say("“%(typed)s” is not %(name)s. Nothing was deleted.", typed=typed[:60], name=key.name)
        return await key_page.show(visit, problem=problem, at="delete")
    await visit.keys.delete(key.id)
    return visit.go("/", await confirmation_note(visit, visit.tongue.say("%(name)s is deleted.", name=key.name)))


async def ours(visit: Visit) -> Response:
    """Keep that a network is the caller's own, so that it is not told as new again; or take that back."""
    key = await visit.keys.get(_id(visit))
    say, forgets = visit.tongue.say, bool(visit.given("forget"))
    network = whole_network(inputs.networks("network", [visit.given("forget") or visit.given("network")])[0])
    changed = with_network(key.metadata, network, known=not forgets)
    await visit.keys.update(key.id, metadata=changed, version=version_of(key))
    if forgets:
        return visit.go(f"/keys/{key.id}", Note("good", say("%(network)s is a stranger again.", network=network)))
    text = say("It is not told as new any more; who said so stands in the history.")
    return visit.go(f"/keys/{key.id}", Note("good", say("%(network)s is kept as yours.", network=network), text))


async def stored(visit: Visit) -> Response:
    """Keep the note about where the secret is."""
    key = await visit.keys.get(_id(visit))
    text = visit.given("stored_in")
    say = visit.tongue.say
    if holds_minted(text):
        note = Note("bad", say("This looks like a key. Write where it is kept, never the key itself."))
        return visit.go(f"/keys/{key.id}", note)
    try:
        kept = metadata_with(key.metadata, text[:200] or None)
        await visit.keys.update(key.id, metadata=kept, version=version_of(key))
    except InputError as error:
        return visit.go(
            f"/keys/{key.id}",
            Note("bad", say("Not kept: %(problem)s.", problem=problem_words(error.problem, visit.tongue))),
        )
    return visit.go(f"/keys/{key.id}")
