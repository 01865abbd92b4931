"""The line at the foot of each page: how many workers run, and whether all of them follow every change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.admin.console.visit import Visit
    from ak_guard.backends.workers import Worker


@dataclass(frozen=True, slots=True)
class Footer:
    total: int
    all_well: bool
    words: Markup


async def footer_of(visit: Visit) -> Footer | None:
    """What to say of the workers; nothing while the store is away."""
    try:
        workers = await visit.keys.workers()
    except BackendError:
        return None
    visit.console.memory.workers_seen(workers)
    return footer(workers, visit.tongue)


def footer(workers: Sequence[Worker], tongue: Tongue) -> Footer:
    total = len(workers)
    silent = sum(worker.silent for worker in workers)
    behind = sum(worker.behind > 0 for worker in workers if not worker.silent)
    live = tongue.count("%(n)s worker live", "%(n)s workers live", total - silent)
    if silent:
        state = tongue.say("%(n)s silent", n=silent)
    elif behind:
        state = tongue.say("%(n)s behind", n=behind)
    elif workers:
        # Who is behind by nothing is at the newest.
        state = tongue.say("all at revision %(n)s", n=max(worker.revision for worker in workers))
    else:
        return Footer(0, all_well=True, words=live)
    return Footer(total, not silent and not behind, tongue.listed([live, state]))
