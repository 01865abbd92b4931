"""A backend that fails where a test tells it to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ak_guard import BackendError
from ak_guard.backends import MemoryBackend
from ak_guard.backends.workers import Confirmation

if TYPE_CHECKING:
    from ak_guard import ApiKey
    from ak_guard.backends.workers import Worker


class Ailing(MemoryBackend):
    """A backend of several processes, one of which does not answer, and whose store fails where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.silent: tuple[Worker, ...] = ()
        self.failing: set[str] = set()

    def guarded(self, *, stale: float, counters: str) -> None:
        pass

    async def touch(self, key_id: str) -> None:
        pass

    async def workers(self) -> list[Worker]:
        return list(self.silent)

    async def confirm(self, *, timeout: float) -> Confirmation:  # noqa: ASYNC109
        self._fail("confirm")
        return Confirmation(0.3, ("web-2:88",), self.silent)

    async def usage(self, *arguments: Any) -> Any:
        self._fail("usage")
        return await super().usage(*arguments)

    async def insert(self, *arguments: Any, **more: Any) -> None:
        self._fail("insert")
        await super().insert(*arguments, **more)

    async def get(self, key_id: str) -> ApiKey:
        self._fail(f"get {key_id}")
        return await super().get(key_id)

    def _fail(self, what: str) -> None:
        if what in self.failing:
            raise BackendError(f"{what} failed")
