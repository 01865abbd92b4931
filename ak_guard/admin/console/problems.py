"""What the rest of the house says of a mistake, in the viewer's language: a sentence is known by its shape."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from ak_guard.admin.console.tongue import Tongue

_LONGEST: Final = 2_000
_HOLE: Final = re.compile(r"%\\\((\w+)\\\)s")


def sayable(message: str) -> str:
    """Marks a sentence for the catalogues."""
    return message


#: Every sentence that can come back from a form of the console, the particular ones before those that hold others.
_SENTENCES: Final = (
    # A name, an owner, a note
    sayable("must be 1 to %(most)s printable characters"),
    sayable("looks like the text of a key, which is kept nowhere; write something else"),
    sayable("must be a mapping that JSON can hold"),
    sayable("must fit into %(most)s bytes of JSON"),
    sayable("a group named %(typed)s exists already"),
    # A custom key
    sayable("has %(n)s characters and needs at least %(least)s"),
    sayable("has %(n)s characters and may have at most %(most)s"),
    sayable("has %(n)s different characters and needs at least %(least)s"),
    sayable("may only hold letters, digits and _ . -"),
    sayable("is a placeholder that everybody knows"),
    sayable("has the shape of a generated key; leave it out to have one generated"),
    sayable("is made of words, keyboard runs or repetitions; add random characters"),
    sayable("is already in use"),
    # Limits
    sayable("%(typed)s is no limit; write AMOUNT/WINDOW such as 1000/5h, 3000/1d or '500 requests/1d calendar'"),
    sayable("%(name)s is named twice; one limit per window"),
    sayable("the amount must be between 1 and %(most)s"),
    sayable("must last at least one second and at most ten years"),
    sayable("%(typed)s is no duration; write 30s, 15m, 5h, 1d or 7d"),
    sayable("months and years differ in length; write days, such as 30d or 365d"),
    sayable("%(typed)s has a part of a second; whole seconds are counted"),
    sayable("%(typed)s is no unit; write units or requests"),
    sayable(
        "%(typed)s is not understood; after the window may stand first-use, sliding or calendar, "
        "and after calendar a time zone such as Europe/Berlin and the weekday on which a week starts"
    ),
    sayable("a calendar window of more than a day must be whole days"),
    # Routes and prices
    sayable("%(typed)s is no route; write '/v1/models', 'POST /v1/chat/*' or '*'"),
    sayable("a * within a path stands for one whole segment, such as /v1/*/status"),
    sayable("%(typed)s must be a number from 0 up, such as 2, 0.5 or 1/3"),
    sayable("%(typed)s divides by nothing"),
    sayable("%(typed)s must be at most %(most)s"),
    # Addresses, times and amounts
    sayable("%(typed)s is no address and no network; write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32"),
    sayable("%(typed)s is no address; write 203.0.113.7 or 2001:db8::1"),
    sayable("%(typed)s is no time; write 2027-01-31T12:00:00Z"),
    sayable("%(typed)s is no time"),
    sayable("%(typed)s must lie between 1970 and 9998"),
    sayable("%(typed)s has passed already"),
    sayable("%(typed)s must be a whole number from %(least)s to %(most)s"),
    # What no form sends
    sayable("%(typed)s is none of those offered"),
    sayable("%(typed)s must be one of %(list)s"),
    sayable("nothing to reset; say quota=True, limits=True or both"),
    # A leak, and counters elsewhere
    sayable("Which workers follow could not be asked: %(reason)s."),
    sayable("The calls could not be read: %(reason)s."),
    sayable("The replacement could not be made: %(reason)s."),
    sayable("it was not asked for"),
    sayable("the key had expired"),
    sayable("it could not be made; ask again"),
    sayable(
        "not every running worker refuses the old key yet; ask again for the replacement when they do"
    ),
    sayable(
        "limits: the running guards count windows in another storage (%(theirs)s) than this manager "
        "(%(ours)s); give both the same `limits`"
    ),
    # Any of them about one of several entries
    sayable("%(typed)s: %(problem)s"),
)  # fmt: skip


@cache
def _shapes() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple(
        (sentence, re.compile(_HOLE.sub(r"(?P<\1>.+?)", re.escape(sentence)), re.DOTALL)) for sentence in _SENTENCES
    )


def problem_words(problem: str, tongue: Tongue) -> Markup:
    """A sentence of ours that may hold what somebody typed: in the viewer's language where it is known, escaped."""
    if tongue.code == "en" or len(problem) > _LONGEST:
        return escape(problem)
    for sentence, shape in _shapes():
        if (match := shape.fullmatch(problem)) is not None:
            values: dict[str, str | Markup] = {name: _unquoted(value) for name, value in match.groupdict().items()}
            if "problem" in values:
                values["problem"] = problem_words(match["problem"], tongue)
            return tongue.say(sentence, **values)
    return escape(problem)


def _unquoted(text: str) -> str:
    """What somebody typed, without the marks that Python puts around it; a sentence brings its own."""
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
