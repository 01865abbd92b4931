"""Tell those in the same process what an administrator changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Listeners:
    """Who wants to hear of changes. A listener gets the id of a key, or None when anything may have changed."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[str | None], None]] = []

    def add(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def tell(self, key_id: str | None) -> None:
        for listener in tuple(self._listeners):
            listener(key_id)
