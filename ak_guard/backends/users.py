"""Who uses a backend, and what is finished before the last of them closes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Users:
    """How many there are: a middleware, a manager, whoever starts a backend and closes it again."""

    def __init__(self) -> None:
        self._count = 0
        self._finishing: list[Callable[[], Awaitable[None]]] = []

    def enter(self) -> None:
        """One more."""
        self._count += 1

    def turn_back(self) -> None:
        """One that entered and could not stay; nothing is closed for that."""
        self._count -= 1

    def before_close(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Await `finish` whenever the last one leaves."""
        self._finishing.append(finish)

    async def leave(self) -> bool:
        """One fewer. True says that it was the last, for whom all is finished: now everything is to be closed.

        Who leaves without having entered, as an app without lifespan does, is the last one too.
        """
        self._count -= 1
        if self._count > 0:
            return False
        self._count = 0
        for finish in self._finishing:
            await finish()
        return True
