"""Create a key: the form, what it says back, and the secret, shown once."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.draft import (
    Problem,
    draft_from,
    metadata_with,
    read,
    with_address,
    without_key_text,
)
from ak_guard.admin.console.fields import fields_of
from ak_guard.admin.console.kinds import DRAFTS, kinds
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.visit import Made
from ak_guard.errors import InputError, Repeated
from ak_guard.leaks import variable_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.draft import Draft
    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.manager import Issued

DEFAULT_KIND: Final = "blank"


async def show(visit: Visit) -> Response:
    """The form, filled in by a template where the query names one."""
    kind = visit.asked("template")
    kind = kind if kind in DRAFTS else DEFAULT_KIND
    return await _form(visit, DRAFTS[kind], kind=kind)


async def act(visit: Visit) -> Response:
    """Create the key, or say what is wrong; `check` only says, `add-mine` adds the viewer's own address."""
    draft = draft_from(visit.form)
    if visit.given("do") == "add-mine" and visit.client:
        return await _form(visit, with_address(draft, visit.client), kind=visit.given("template"))
    rules = read(draft, visit.tongue, peppered=visit.keys.backend.peppered)
    if rules.problems or visit.given("do") == "check":
        return await _form(visit, draft, kind=visit.given("template"), problems=rules.problems, checked=True)
    try:
        issued = await visit.keys.create(
            **rules.arguments(),
            key=rules.key,
            metadata=metadata_with({}, rules.stored_in),
            request_id=f"console {visit.given('once')}",
        )
    except Repeated as repeated:
        return await _made_before(visit, repeated.key_id)
    except InputError as error:
        problem = Problem(error.field, problem_words(error.problem, visit.tongue), error.field)
        return await _form(visit, draft, kind=visit.given("template"), problems=[problem])
    return await show_secret(visit, issued, lead=visit.tongue.say("The key exists and works now."))


async def _made_before(visit: Visit, key_id: str) -> Response:
    """The form came again, by a reload or a second press: its key is there already."""
    key = await visit.keys.get(key_id)
    return await shown_before(visit, Made(key.id, key.name, key.created_at or visit.tongue.now))


async def check(visit: Visit) -> Response:
    """What the form says while it is being typed: the rules in words, and what cannot be read."""
    draft = draft_from(visit.form)
    current = await visit.keys.get(visit.given("key_id")) if visit.given("key_id") else None
    rules = read(draft, visit.tongue, peppered=visit.keys.backend.peppered, current=current)
    fields = await fields_of(visit, draft, rules, rules.problems)
    return await visit.page("checked.html", fields=fields)


async def show_secret(visit: Visit, issued: Issued, *, lead: Markup) -> Response:
    """The one page that holds a secret. It is the answer to a form and has no address of its own."""
    variable = variable_of(issued.key.name)
    return await visit.page(
        "created.html",
        key=issued.key,
        secret=issued.secret,
        lead=lead,
        env_line=f"{variable}={issued.secret}",
        curl=f'curl -H "Authorization: Bearer ${variable}" \\\n     https://api.example.com/',
        python=(
            f'client = OpenAI(base_url="https://api.example.com/v1",\n                api_key=os.environ["{variable}"])'
        ),
    )


async def shown_before(visit: Visit, made: Made) -> Response:
    """What a reload of that page says."""
    return await visit.page("shown-before.html", made=made, moment=visit.tongue.clock(made.at))


async def _form(
    visit: Visit,
    draft: Draft,
    *,
    kind: str,
    problems: Sequence[Problem] = (),
    checked: bool = False,
) -> Response:
    rules = read(draft, visit.tongue, peppered=visit.keys.backend.peppered)
    return await visit.page(
        "create.html",
        status=422 if problems else 200,
        fields=await fields_of(visit, without_key_text(draft), rules, problems),
        kinds=kinds(kind, visit.tongue),
        kind=kind,
        once=secrets.token_urlsafe(16),
        checked=checked and not problems,
        error_head=error_head(problems, visit.tongue),
    )


def error_head(problems: Sequence[Problem], tongue: Tongue) -> Markup:
    """What stands above a form with mistakes."""
    return tongue.count("There is a problem", "There are %(n)s problems", len(problems))
