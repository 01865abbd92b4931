"""The store does not answer: pages are shown as they were last, marked as such, and nothing can be changed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache, TTLCache

from ak_guard.admin.console.sessions import SESSION_SECONDS
from ak_guard.backends.workers import BEAT_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from markupsafe import Markup
    from starlette.responses import Response

    from ak_guard.admin.console.footer import Footer
    from ak_guard.admin.console.visit import Visit
    from ak_guard.admin.tokens import AdminIdentity
    from ak_guard.backends.workers import Worker

_PAGES: Final = 200
_SESSIONS: Final = 1_000
# A form of the console has fewer fields than this; one that has more is not sent again from here.
_FIELDS: Final = 200


@dataclass(frozen=True, slots=True)
class Shown:
    """A page as it was made: its template with everything that it said, the foot, and when that was."""

    template: str
    values: dict[str, Any]
    footer: Footer | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Stale:
    """What the banner over an old page says."""

    text: Markup


@dataclass(slots=True)
class Memory:
    """What each session has seen and who it is, so that it can be shown again to that session and to nobody else."""

    clock: Callable[[], float]
    pages: LRUCache[tuple[str, ...], Shown] = field(default_factory=lambda: LRUCache(_PAGES))
    people: TTLCache[str, AdminIdentity] = field(init=False)
    #: Until when the running workers go on with the keys they know, as far as was known last.
    known_until: float = 0.0

    def __post_init__(self) -> None:
        self.people = TTLCache(_SESSIONS, SESSION_SECONDS, self.clock)

    def workers_seen(self, workers: Sequence[Worker]) -> None:
        """The least that each of them may still do without the store."""
        ends = [worker.good_until.timestamp() - BEAT_SECONDS for worker in workers if not worker.silent]
        self.known_until = min(ends, default=0.0)

    def keep(self, visit: Visit, shown: Shown) -> None:
        if visit.session is not None:
            self.pages[_place(visit)] = shown

    def shown_last(self, visit: Visit) -> Shown | None:
        """The same page as this session saw it last, in the same words."""
        return None if visit.session is None else self.pages.get(_place(visit))

    def forget(self, session_id: str) -> None:
        """Nothing stays of a session that has ended."""
        self.people.pop(session_id, None)
        for place in [place for place in self.pages if place[0] == session_id]:
            del self.pages[place]


def _place(visit: Visit) -> tuple[str, ...]:
    assert visit.session is not None  # noqa: S101  # asked for only where there is one
    asked = [f"{name}={value}" for name, value in visit.request.query_params.multi_items() if name != "told"]
    return (visit.session.id, visit.tongue.code, visit.tongue.zone_name, visit.path, *sorted(asked))


async def away(visit: Visit) -> Response:
    """The page as it was, else a page that says what is so; a form can be sent again as it is."""
    writes = visit.request.method == "POST"
    shown = None if writes else visit.console.memory.shown_last(visit)
    if shown is not None:
        return visit.shown_again(shown, Stale(visit.tongue.sentences(_words(visit, shown.at))))
    say = visit.tongue.say
    # A page that was only asked for may come after a change that was stored, and tells of it.
    text = visit.tongue.sentences([_known_keys(visit), *([say("Nothing was changed.")] if writes else [])])
    return await visit.page(
        "message.html",
        status=503,
        head=say("The database does not answer."),
        text=text,
        again=True,
        fields=_fields(visit) if writes else None,
        nav="",
    )


def _words(visit: Visit, at: datetime) -> list[Markup]:
    say = visit.tongue.say
    words = [_known_keys(visit), say("What you see is from %(time)s.", time=visit.tongue.seconds_clock(at))]
    if visit.may("edit"):
        words.append(say("Nothing you change now would be kept, so changing is off."))
    return words


def _known_keys(visit: Visit) -> Markup:
    left = visit.console.memory.known_until - visit.tongue.now.timestamp()
    if left > 0:
        until = visit.tongue.seconds_clock(visit.tongue.after(left))
        return visit.tongue.say("Running apps let the keys they know in until %(time)s at least.", time=until)
    return visit.tongue.say("Running apps go on with the keys they know, for a minute unless they are set otherwise.")


def _fields(visit: Visit) -> list[tuple[str, str]]:
    """What the form held, to be sent again. Without a session or with the text of a key in it: nothing."""
    typed = [(name, value) for name, value in visit.form.multi_items() if isinstance(value, str)]
    if visit.who is None or visit.given("key") or len(typed) > _FIELDS:
        return []
    return [(name, value) for name, value in typed if name != "proof"]
