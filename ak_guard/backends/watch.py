"""Tell those in the same process what an administrator changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Listeners:
    """Who wants to hear of changes. A listener gets the id of a key, or None when anything may have changed.

    True while anybody has asked to hear, for whom it is worth asking elsewhere. `own` are parts of the backend itself:
    they hear first, but are no reason to ask.
    """

    def __init__(self, *own: Callable[[str | None], None]) -> None:
        self._own = own
        self._listeners: list[Callable[[str | None], None]] = []

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def add(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener) if listener in self._listeners else None

    def tell(self, key_id: str | None) -> None:
        for listener in (*self._own, *self._listeners):
            listener(key_id)
