"""Whatever happens in whichever order, no more run at once than may, and in the end everything is free again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ak_guard.budgets.slots import Slot
from ak_guard.errors import BudgetError
from tests.leases.world import play
from tests.slots.world import House, until_deadline

if TYPE_CHECKING:
    from tests.leases.world import World
    from tests.slots.world import Worker

WORKERS = 3

worker = st.integers(0, WORKERS - 1)
steps = st.one_of(
    st.tuples(st.just("enter"), worker, st.integers(1, 4)),
    st.tuples(st.just("leave"), worker, st.integers(1, 4)),
    st.tuples(st.just("go away"), worker, st.just(0)),
    st.tuples(st.just("fault"), worker, st.sampled_from(["request lost", "reply lost", "late"])),
    # Shorter than what is held without being renewed.
    st.tuples(st.just("away"), worker, st.sampled_from([0.1, 0.5, 2.0])),
    st.tuples(st.just("kill"), worker, st.just(0)),
    st.tuples(st.just("wait"), worker, st.sampled_from([0.0, 0.001, 0.003, 0.05, 0.2, 1.0, 7.0])),
)


class Story:
    def __init__(self, world: World, limit: int) -> None:
        self.house = House(world, WORKERS, limit)
        self.limit = limit
        self.tasks: dict[asyncio.Task[None], Worker] = {}

    async def tell(self, step: tuple[str, int, Any]) -> None:
        kind, at, detail = step
        worker = self.house.workers[at]
        if kind == "enter":
            for _ in range(detail):
                self.tasks[asyncio.create_task(self._enter(worker))] = worker
        elif kind == "leave":
            for _ in range(min(detail, len(worker.running))):
                worker.leave()
        elif kind == "go away":
            waiting = next((task for task, of in self.tasks.items() if of is worker and not task.done()), None)
            if waiting is not None:
                waiting.cancel()
        elif kind == "fault":
            worker.line.faults.append(detail)
        elif kind == "away":
            worker.line.away = True
            await asyncio.sleep(detail)
            worker.line.away = False
        elif kind == "kill":
            await self._kill(at)
        else:
            await asyncio.sleep(detail)
        await asyncio.sleep(0)
        assert self.house.running <= self.limit

    async def _enter(self, worker: Worker) -> None:
        try:
            await worker.enter()
        except BudgetError:
            return
        assert self.house.running <= self.limit

    async def _kill(self, at: int) -> None:
        killed = self.house.workers[at]
        killed.line.away = True
        killed.running.clear()
        ended = [task for task, worker in self.tasks.items() if worker is killed]
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)
        killed.running.clear()
        self.house.workers[at] = self.house.another()
        self.house.workers.pop()

    async def end(self) -> None:
        for worker in self.house.workers:
            worker.line.away = False
            worker.line.faults.clear()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for task in self.tasks:
            assert task.cancelled() or task.exception() is None
        assert self.house.running <= self.limit
        for worker in self.house.workers:
            while worker.running:
                worker.leave()
        # A call that is still on its way comes within a second.
        await asyncio.sleep(1)
        await until_deadline()
        newcomer = self.house.another()
        entered = await asyncio.gather(*(newcomer.enter() for _ in range(self.limit + 2)))
        assert sum(entered) == self.limit
        assert all(isinstance(slot, Slot) for slot in newcomer.running)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.lists(steps, max_size=25))
def test_no_more_run_than_may(limit: int, told: list[tuple[str, int, Any]]) -> None:
    async def story(world: World) -> None:
        the = Story(world, limit)
        for step in told:
            await the.tell(step)
        await the.end()

    play(story)
