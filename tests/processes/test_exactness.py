"""Far more requests at once than a limit allows, over four processes: as many pass as the limit says, to the unit."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from ak_guard import Group
from tests.processes.demand import LEASES_RETURN_SECONDS, budgets, until, until_all_is_spent, used_becomes
from tests.processes.load import Load

if TYPE_CHECKING:
    from ak_guard import KeyManager
    from tests.processes.workers import Crew

RECORDED_SECONDS = 10
REFUSED = {(200, ""), (429, "rate_limit_exceeded")}


@pytest.mark.parametrize(("limit", "requests"), [(10, 60), (500, 1_500), (5_000, 8_000)])
async def test_a_limit_is_spent_to_the_last_unit_and_never_passed(
    crew: Crew, keys: KeyManager, limit: int, requests: int
) -> None:
    issued = await keys.create("hot", limits=[f"{limit}/1h", f"{10 * limit}/1d"], quota=10 * limit)
    load = Load(crew.ports, issued.secret)
    await load.send(requests)
    assert crew.admitted <= limit
    await until_all_is_spent(load, limit)
    assert load.codes == REFUSED
    assert (load.admitted, crew.admitted) == (limit, limit)
    await used_becomes(keys, issued.key.id, [limit] * 3)


@pytest.mark.parametrize(("limit", "requests"), [(10, 60), (500, 1_500)])
async def test_a_limit_that_a_group_shares_is_spent_to_the_last_unit_by_all_its_keys(
    crew: Crew, keys: KeyManager, limit: int, requests: int
) -> None:
    group = await keys.create_group(Group(f"team-{secrets.token_hex(6)}", shared_limits=[f"{limit}/1h"]))
    team = [await keys.create(f"member {n}", group=group.name, limits=[f"{limit}/1h"]) for n in range(5)]
    load = Load(crew.ports, *(issued.secret for issued in team))
    await load.send(requests)
    assert crew.admitted <= limit
    await until_all_is_spent(load, limit)
    assert load.codes == REFUSED
    assert (load.admitted, crew.admitted) == (limit, limit)
    # What the team was refused cost none of its members anything.
    ids = [issued.key.id for issued in team]

    async def own_and_shared_agree() -> bool:
        own, shared = zip(*[await budgets(keys, key_id) for key_id in ids], strict=True)
        return sum(budget.used for budget in own) == limit and {budget.used for budget in shared} == {limit}

    await until(own_and_shared_agree, LEASES_RETURN_SECONDS)


async def test_a_quota_is_spent_to_the_last_unit_under_wider_windows(crew: Crew, keys: KeyManager) -> None:
    issued = await keys.create("paid ahead", limits=["5000/1h"], quota=300)
    load = Load(crew.ports, issued.secret)
    await load.send(1_200)
    await until_all_is_spent(load, 300)
    assert load.codes == {(200, ""), (429, "insufficient_quota")}
    assert (load.admitted, crew.admitted) == (300, 300)
    # The window was never charged for what the quota refused.
    await used_becomes(keys, issued.key.id, [300, 300])

    # Each request is on record once, whichever worker it went to.
    async def all_recorded() -> bool:
        return (await keys.usage(issued.key.id)).calls == load.tally.total()

    await until(all_recorded, RECORDED_SECONDS)
    recorded = await keys.usage(issued.key.id)
    assert recorded.by_code == {"admitted": 300, "insufficient_quota": load.tally.total() - 300}
    assert recorded.cost == 300
    assert [place.name for place in recorded.routes] == ["GET /v1/chat"]
    assert (await keys.last_used([issued.key.id]))[issued.key.id].ip == "127.0.0.1"
