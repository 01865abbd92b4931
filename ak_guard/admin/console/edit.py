"""Change a key: the form of one that exists, and what somebody else saved meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.create import error_head
from ak_guard.admin.console.draft import Problem, draft_from, draft_of, metadata_with, read, with_address
from ak_guard.admin.console.fields import fields_of
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.visit import Note
from ak_guard.errors import ConfigurationError, Conflict, InputError, LocksOut
from ak_guard.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.draft import Draft
    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.records import ApiKey


_LEARNED: Final = "learned"


@dataclass(frozen=True, slots=True)
class Difference:
    """One field that is saved otherwise than it stands in the form."""

    field: Markup
    theirs: str
    yours: str


async def show(visit: Visit) -> Response:
    """The form with what is saved, and with `?allow=learned` the addresses filled in that called lately."""
    key = await visit.keys.get(visit.request.path_params["key_id"])
    draft = draft_of(key, visit.tongue)
    if visit.asked("allow") == _LEARNED:
        draft = await _with_learned(visit, key, draft)
    return await _form(visit, key, draft, lock=version_of(key))


async def act(visit: Visit) -> Response:
    """Save, unless something cannot be read, somebody else saved, or recent callers would be locked out unforced."""
    key = await visit.keys.get(visit.request.path_params["key_id"])
    draft, lock = draft_from(visit.form), visit.given("lock")
    if visit.given("do") == "add-mine" and visit.client:
        return await _form(visit, key, with_address(draft, visit.client), lock=lock)
    if visit.given("do") == _LEARNED:
        return await _form(visit, key, await _with_learned(visit, key, draft), lock=lock)
    rules = read(draft, visit.tongue, peppered=visit.keys.backend.peppered, current=key)
    if rules.problems:
        return await _form(visit, key, draft, lock=lock, problems=rules.problems)
    if visit.given("do") == "check":
        return await _form(visit, key, draft, lock=lock, checked=True)
    if lock != version_of(key):
        return await _overtaken(visit, key, draft)
    metadata, spare = metadata_with(key.metadata, rules.stored_in), not visit.given("force")
    try:
        await visit.keys.update(key.id, **rules.arguments(), metadata=metadata, spare_callers=spare, version=lock)
    except Conflict:
        return await _overtaken(visit, await visit.keys.get(key.id), draft)
    except LocksOut as error:
        return await _form(visit, key, draft, lock=lock, shut_out=error.addresses, status=409)
    except InputError as error:
        problem = Problem(error.field, problem_words(error.problem, visit.tongue), error.field)
        return await _form(visit, key, draft, lock=lock, problems=[problem])
    head = visit.tongue.say("Saved. Running apps follow within a second.")
    return visit.go(f"/keys/{key.id}", Note("good", head))


async def _with_learned(visit: Visit, key: ApiKey, draft: Draft) -> Draft:
    """The draft with the addresses allowed from which the key is called; as it is where that is not known."""
    try:
        addresses = await visit.keys.learned_addresses(key.id)
    except ConfigurationError:
        return draft
    return replace(draft, allow_ips="\n".join(addresses)) if addresses else draft


async def _overtaken(visit: Visit, key: ApiKey, draft: Draft) -> Response:
    """Somebody else saved: both are shown, and the next save is made in the knowledge of what is saved now."""
    differences = differ(draft_of(key, visit.tongue), draft, visit.tongue)
    return await _form(visit, key, draft, lock=version_of(key), differences=differences, status=412)


def differ(theirs: Draft, yours: Draft, tongue: Tongue) -> list[Difference]:
    """What is saved and what stands in the form, field by field, where they are not the same."""
    say = tongue.say
    words = {
        "name": say("Name"),
        "group": say("Group"),
        "date": say("Ends"),
        "allow_ips": say("Allowed addresses"),
        "deny_ips": say("Denied addresses"),
        "quota": say("Quota"),
        "windows": say("Windows"),
        "at_once": say("Requests at once"),
        "owner": say("Owner"),
        "stored_in": say("Stored in"),
    }
    return [
        Difference(word, _shown(theirs, field), _shown(yours, field))
        for field, word in words.items()
        if _shown(theirs, field) != _shown(yours, field)
    ]


def _shown(draft: Draft, field: str) -> str:
    if field == "windows":
        rows = (f"{row.amount} {row.unit}/{row.length} {row.anchor}" for row in draft.windows)
        return ", ".join(rows).replace(" first-use", "") or "-"
    if field == "date":
        return draft.date if draft.expires in {"keep", "date"} else draft.expires
    text: str = getattr(draft, field)
    return text.replace(",", "") if field == "quota" else text.replace("\n", ", ") or "-"


async def _form(
    visit: Visit,
    key: ApiKey,
    draft: Draft,
    *,
    lock: str,
    problems: Sequence[Problem] = (),
    differences: Sequence[Difference] = (),
    shut_out: Sequence[str] = (),
    checked: bool = False,
    status: int | None = None,
) -> Response:
    rules = read(draft, visit.tongue, peppered=visit.keys.backend.peppered, current=key)
    return await visit.page(
        "edit.html",
        status=status or (422 if problems else 200),
        key=key,
        fields=await fields_of(visit, draft, rules, problems),
        lock=lock,
        checked=checked,
        differences=differences,
        shut_out=shut_out,
        error_head=error_head(problems, visit.tongue),
    )
