"""What people change counts in every worker within a second, also where a worker holds or remembers something else."""

from __future__ import annotations

import asyncio
import secrets
from functools import partial
from typing import TYPE_CHECKING

from ak_guard import Group
from tests.processes.demand import until, until_all_is_spent
from tests.processes.load import Load, ask

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from tests.processes.workers import Crew

# A second is promised, and measured by the benchmarks; what is known without any word is asked for anew after five.
PROMISED_SECONDS = 4.0


async def all_answer(crew: Crew, secret: str, status: int) -> None:
    """Every worker answers so within the time that is promised."""

    async def answers(port: int) -> bool:
        return (await ask(port, secret)).status == status

    await asyncio.gather(*[until(partial(answers, port), PROMISED_SECONDS) for port in crew.ports])


async def spend(crew: Crew, secret: str, limit: int) -> None:
    """Use all there is up, so that every worker knows it."""
    load = Load(crew.ports, secret)
    await load.send(2 * limit)
    await until_all_is_spent(load, limit)
    assert load.admitted == limit
    assert {(await ask(port, secret)).status for port in crew.ports} == {429}


async def test_a_reset_of_limits_lets_every_worker_admit_again(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=["60/1h", "600/1d"], quota=1_000)
    await spend(crew, issued.secret, 60)
    await keys.reset(issued.key.id, limits=True)
    await all_answer(crew, issued.secret, 200)
    await until_all_is_spent(Load(crew.ports, issued.secret), 120 - crew.admitted)
    assert crew.admitted == 120


async def test_a_reset_of_the_quota_lets_every_worker_admit_again(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=["1000/1h"], quota=60)
    await spend(crew, issued.secret, 60)
    await keys.reset(issued.key.id, quota=True)
    await all_answer(crew, issued.secret, 200)
    await until_all_is_spent(Load(crew.ports, issued.secret), 120 - crew.admitted)
    assert crew.admitted == 120


async def test_a_raised_limit_lets_every_worker_admit_the_difference(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=["60/1h", "600/1d"], quota=1_000)
    await spend(crew, issued.secret, 60)
    await keys.update(issued.key.id, limits=["100/1h", "600/1d"])
    await all_answer(crew, issued.secret, 200)
    await until_all_is_spent(Load(crew.ports, issued.secret), 100 - crew.admitted)
    assert crew.admitted == 100


async def test_a_raised_limit_of_a_group_lets_every_worker_admit_the_difference(crew: Crew, keys: KeyManager) -> None:
    name = f"team-{secrets.token_hex(6)}"
    await keys.create_group(Group(name, shared_limits=["60/1h"]))
    issued = await keys.create("member", group=name)
    await spend(crew, issued.secret, 60)
    await keys.update_group(Group(name, shared_limits=["100/1h"]))
    await all_answer(crew, issued.secret, 200)
    await until_all_is_spent(Load(crew.ports, issued.secret), 100 - crew.admitted)
    assert crew.admitted == 100


async def test_a_lowered_limit_ends_what_workers_hold(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("hot", limits=["5000/1h", "6000/1d"], quota=10_000)
    load = Load(crew.ports, issued.secret)
    await load.send(600)
    assert load.admitted == 600
    await keys.update(issued.key.id, limits=["500/1h", "6000/1d"])
    await all_answer(crew, issued.secret, 429)
    before = crew.admitted
    late = Load(crew.ports, issued.secret)
    await late.send(200)
    assert late.codes == {(429, "rate_limit_exceeded")}
    assert crew.admitted == before
