"""What went wrong, as a page of its own: each with its status, what is so and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ak_guard.admin.console.history import field_words
from ak_guard.admin.console.problems import problem_words

if TYPE_CHECKING:
    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.visit import Visit
    from ak_guard.errors import AkGuardError, InputError


async def message(visit: Visit, status: int, head: Markup, text: Markup) -> Response:
    return await visit.page("message.html", status=status, head=head, text=text, again=False, fields=None, nav="")


async def missing(visit: Visit) -> Response:
    say = visit.tongue.say
    return await message(visit, 404, say("There is no such page"), say("What stood here may have been deleted."))


async def refused(visit: Visit, error: InputError) -> Response:
    """What no form of the console sends, so that it has no field to stand at."""
    tongue = visit.tongue
    problem = problem_words(error.problem, tongue)
    text = tongue.say("%(field)s: %(problem)s", field=field_words(error.field, tongue), problem=problem)
    return await message(visit, 422, visit.tongue.say("Nothing was changed."), text)


async def overtaken(visit: Visit) -> Response:
    say = visit.tongue.say
    text = say("Nothing was changed. Open the page again to see how it is now.")
    return await message(visit, 409, say("Somebody else changed this meanwhile"), text)


async def misplaced(visit: Visit, error: AkGuardError) -> Response:
    """A thing that cannot work as this console is set up; the text names the setting."""
    return await message(visit, 409, visit.tongue.say("Nothing was changed."), problem_words(str(error), visit.tongue))


async def forbidden(visit: Visit) -> Response:
    say = visit.tongue.say
    may = say("It may look, and nothing else.")
    if visit.may("edit"):
        may = say("It may look, and change keys and groups, and nothing else.")
    text = visit.tongue.sentences([may, say("Somebody with a token of a higher role can.")])
    return await message(visit, 403, say("Your token may not do this"), text)


async def foreign(visit: Visit) -> Response:
    say = visit.tongue.say
    text = say("Nothing was changed. Open the page again and send it from there.")
    return await message(visit, 403, say("This form is too old"), text)


async def too_large(visit: Visit) -> Response:
    say = visit.tongue.say
    return await message(visit, 413, say("This form is too large"), say("Nothing was changed."))
