"""Workers that die or sleep in the middle of everything: never more than the limit, and little is lost."""

from __future__ import annotations

import asyncio
import signal
from datetime import timedelta
from typing import TYPE_CHECKING

from tests.processes.demand import LEASES_RETURN_SECONDS, budgets, nothing_is_held, until, until_all_is_used
from tests.processes.load import CONNECTIONS, Load, ask
from tests.processes.workers import WORKERS

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from tests.processes.workers import Crew

LIMIT = 500
LIMITS = [f"{LIMIT}/1h", f"{10 * LIMIT}/1d"]
# What a worker can hold, and so take with it, is less than a tenth of what was left.
LEASE = LIMIT // 10
TRIES = 5
RECORDED_SECONDS = 10
REFUSED = {(200, ""), (429, "rate_limit_exceeded")}
HUNG_UP = (0, "hung up")
GIVEN_UP = (503, "limits_unavailable")


async def only_leases_are_lost(crew: Crew, keys: KeyManager, key_id: str, losers: int = 1) -> None:
    """Of windows and quota alike as much is used as was admitted, and no more beyond it than `losers` could hold."""

    async def all_agree() -> bool:
        found = await budgets(keys, key_id)
        return all(crew.admitted <= budget.used <= crew.admitted + losers * budget.limit // 10 for budget in found)

    await until(all_agree, LEASES_RETURN_SECONDS)


async def test_a_killed_worker_takes_no_more_than_its_lease_with_it(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=LIMITS, quota=10 * LIMIT)
    load = Load(crew.ports, issued.secret)
    sending = asyncio.create_task(load.send(3 * LIMIT))
    await until(lambda: crew.admitted >= LIMIT // 5, 10)
    crew.kill(crew.workers[0])
    assert crew.admitted < LIMIT
    await sending
    assert crew.admitted <= LIMIT
    # Only what was under way in that worker is missing.
    assert load.count(0) <= CONNECTIONS // WORKERS
    assert load.codes <= {*REFUSED, HUNG_UP}

    survivors = Load(crew.ports, issued.secret)
    await until_all_is_used(survivors, keys, issued.key.id)
    assert survivors.codes <= REFUSED
    assert LIMIT - LEASE <= crew.admitted <= LIMIT
    await only_leases_are_lost(crew, keys, issued.key.id)

    # Of what the fallen one had answered its last records are missing; of the others none, and nothing is there twice.
    by_others = survivors.tally.total() + sum(n for one, n in load.tally.items() if one.worker in survivors.ports)

    async def others_are_recorded() -> bool:
        return (await keys.usage(issued.key.id)).calls >= by_others

    await until(others_are_recorded, RECORDED_SECONDS)
    assert (await keys.usage(issued.key.id)).calls <= load.tally.total() + survivors.tally.total()


async def test_when_all_are_killed_and_others_come_the_limit_still_stands(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=LIMITS, quota=10 * LIMIT)
    load = Load(crew.ports, issued.secret)
    sending = asyncio.create_task(load.send(3 * LIMIT))
    await until(lambda: crew.admitted >= LIMIT // 5, 10)
    crew.kill()
    assert crew.admitted < LIMIT
    await sending

    crew.start()
    others = Load(crew.ports, issued.secret)
    await others.send(3 * LIMIT)
    await until_all_is_used(others, keys, issued.key.id)
    assert others.codes == REFUSED
    assert LIMIT - WORKERS * LEASE <= crew.admitted <= LIMIT


async def test_a_worker_that_slept_longer_than_its_lease_spends_nothing_of_it(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=LIMITS, quota=10 * LIMIT)
    load = Load(crew.ports, issued.secret)
    sending = asyncio.create_task(load.send(3 * LIMIT))
    await until(lambda: crew.admitted >= LIMIT // 5, 10)
    sleeper = crew.workers[0]
    sleeper.signal(signal.SIGSTOP)
    assert crew.admitted < LIMIT
    others = Load(crew.ports[1:], issued.secret)
    await others.send(CONNECTIONS)
    # What the sleeper holds has run out.
    await nothing_is_held(keys, issued.key.id)
    assert crew.admitted <= LIMIT

    sleeper.signal(signal.SIGCONT)
    await sending
    await Load([sleeper.port], issued.secret).send(2 * LEASE)
    after = Load(crew.ports, issued.secret)
    await until_all_is_used(after, keys, issued.key.id)
    # While it sleeps in the middle of a transaction, the store may be locked for all. What they then gave up to wait
    # for counts as spent.
    assert load.codes | others.codes <= {*REFUSED, GIVEN_UP}
    losers = WORKERS if others.count(503) or load.count(503) else 1
    assert after.codes <= REFUSED
    assert LIMIT - losers * LEASE <= crew.admitted <= LIMIT
    await only_leases_are_lost(crew, keys, issued.key.id, losers)


async def fall_asleep(crew: Crew, keys: KeyManager, limit: str) -> tuple[str, str]:
    """All workers but the last are frozen while they hold leases of a key; its id and secret."""
    *sleepers, awake = crew.workers
    for _ in range(TRIES):
        issued, other = await keys.create("hot", limits=[limit]), await keys.create("other", limits=["9/1h"])
        await Load(crew.ports, issued.secret).send(100)
        for sleeper in sleepers:
            sleeper.signal(signal.SIGSTOP)
        # Whoever is frozen while it writes into a file locks that for all, until it is woken.
        if (await ask(awake.port, other.secret)).status == 200:
            return issued.key.id, issued.secret
        crew.wake()
    raise TimeoutError("each time somebody was frozen in the middle of a transaction")


async def test_what_slept_through_the_end_of_a_window_is_not_spent_in_the_next(crew: Crew, keys: KeyManager) -> None:
    key_id, secret = await fall_asleep(crew, keys, "200/3s")

    async def the_window_is_over() -> bool:
        return (await keys.status(key_id)).windows[0].used == 0

    await until(the_window_is_over, 5)
    before = crew.admitted
    load = Load(crew.ports[-1:], secret)
    await load.send(300)
    begun = (await keys.status(key_id)).windows[0]
    crew.wake()
    await Load(crew.ports, secret).send(200)
    after = crew.admitted
    ended = (await keys.status(key_id)).windows[0]
    assert begun.resets_at is not None
    assert ended.resets_at is not None
    # A shared store tells times by way of its own clock, so they differ by a hair.
    assert ended.resets_at - begun.resets_at < timedelta(seconds=1), "the machine was too slow"
    assert load.admitted == 200
    assert after - before == 200
