"""A change that every running worker must follow: waited for, measured, and never called done before it is."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.visit import Note
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Action, Visit
    from ak_guard.backends.workers import Confirmation

log: Final = logging.getLogger(__name__)

#: So long a page waits for the workers before it says who is silent, in seconds.
WAIT_SECONDS: Final = 5.0


async def confirmation_note(
    visit: Visit, head: Markup, *, undo: Action | None = None, again: Action | None = None
) -> Note:
    """Wait for every running worker and say what came of it: green only when all have confirmed."""
    return note_of(await followers(visit), head, visit.tongue, undo=undo, again=again)


async def followers(visit: Visit) -> Confirmation | None:
    """Wait for every running worker; None where nobody could be asked, which leaves the change as it is stored."""
    try:
        return await visit.keys.confirm(timeout=WAIT_SECONDS)
    except BackendError as error:
        log.error("the console could not ask who follows a change: %s", error)
        return None


def note_of(
    confirmation: Confirmation | None,
    head: Markup,
    tongue: Tongue,
    *,
    undo: Action | None = None,
    again: Action | None = None,
) -> Note:
    """`undo` is offered once it is done, `again` while it is not known of everybody."""
    words = follow_words(confirmation, tongue)
    if confirmation is not None and confirmation.complete:
        return Note("good", head, words, undo)
    return Note("warn", head, words, again)


def follow_words(confirmation: Confirmation | None, tongue: Tongue) -> Markup:
    """Who follows the change by now, as far as that is known."""
    if confirmation is None:
        return tongue.say("Which workers follow could not be asked.")
    return confirmed_words(confirmation, tongue) if confirmation.complete else silent_words(confirmation, tongue)


def confirmed_words(confirmation: Confirmation, tongue: Tongue) -> Markup:
    """`All 3 workers confirmed in 0.4 s.`"""
    workers = len(confirmation.workers)
    seconds = f"{confirmation.seconds:.1f}"
    if not workers:
        return tongue.say("No app is running on this backend, so it holds at once.")
    if workers == 1:
        return tongue.say("The one running worker confirmed in %(seconds)s s.", seconds=seconds)
    return tongue.say("All %(n)s workers confirmed in %(seconds)s s.", n=workers, seconds=seconds)


def silent_words(confirmation: Confirmation, tongue: Tongue) -> Markup:
    """Who has not confirmed, when it was last heard of, and from when on it refuses by itself."""
    done, total = len(confirmation.workers), len(confirmation.workers) + len(confirmation.silent)
    sentences = [
        tongue.say(
            "Stored, but only %(done)s of %(total)s workers confirmed after %(seconds)s s.",
            done=done,
            total=total,
            seconds=f"{confirmation.seconds:.0f}",
        )
    ]
    for worker in confirmation.silent:
        words = tongue.say(
            "%(name)s was last heard of at %(seen)s; without word it lets nobody in from %(until)s on.",
            name=worker.name,
            seen=tongue.seconds_clock(worker.seen_at),
            until=tongue.seconds_clock(worker.good_until),
        )
        sentences.append(words)
    return tongue.sentences(sentences)
