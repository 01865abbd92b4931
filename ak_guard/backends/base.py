"""Who is it: what a backend must offer.

`KeyLookup` is enough to guard an app; `KeyStore` adds what the manager needs. A backend may also offer counters beside
its keys (`CountsBudgets`) and tell at once what an administrator changed (`TellsChanges`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.listing import KeyCounts, KeyFilter, ListedKey, Walk
    from ak_guard.records import ApiKey, Group


class Found(NamedTuple):
    """The key that a secret belongs to, its group if the backend knows it, and until when this secret is good.

    `valid_until` is in seconds since the epoch; None unless the secret was rotated out.
    """

    key: ApiKey
    group: Group | None = None
    valid_until: float | None = None


@runtime_checkable
class KeyLookup(Protocol):
    """The one thing a guard asks of a backend."""

    async def find(self, digest: bytes) -> Found | None:
        """Who holds the secret with this SHA-256 digest? None when nobody does.

        Raises `BackendError` when the store cannot be reached.
        """
        ...


@runtime_checkable
class KeyStore(KeyLookup, Protocol):
    """What the manager asks of a backend. Each call is one change, whole or not at all."""

    @property
    def peppered(self) -> bool:
        """Whether secrets are stored under a pepper, so that shorter custom keys are safe."""
        ...

    async def insert(self, key: ApiKey, digest: bytes) -> None:
        """Add a key and its secret. Raises `InputError` naming `key` when the secret is taken."""
        ...

    async def get(self, key_id: str) -> ApiKey:
        """The key with this id; raises `NotFound`."""
        ...

    async def walk(self, where: KeyFilter, walk: Walk, *, now: float) -> list[ListedKey]:
        """Keys that match, in the order in which the walk meets them. `now` decides what has expired."""
        ...

    async def count(self, where: KeyFilter, *, now: float) -> KeyCounts:
        """How many match in each state; the state that `where` names does not narrow them."""
        ...

    async def change(self, key_id: str, changes: Mapping[str, Any]) -> ApiKey:
        """Set these fields of a key (by the names of `ApiKey`) and no others; raises `NotFound`."""
        ...

    async def delete(self, key_id: str) -> None:
        """Remove a key and its secrets; raises `NotFound`."""
        ...

    async def add_secret(self, key: ApiKey, digest: bytes, *, old_until: float) -> None:
        """Give a key a new secret (and its new hint); the old ones are good until `old_until`."""
        ...

    async def get_group(self, name: str) -> Group:
        """The group of this name; raises `NotFound`."""
        ...

    async def list_groups(self) -> Sequence[Group]:
        """All groups by name."""
        ...

    async def put_group(self, group: Group, *, create: bool) -> None:
        """Add a group (`InputError` when it exists) or replace one (`NotFound` when it does not)."""
        ...

    async def delete_group(self, name: str) -> None:
        """Remove a group; raises `NotFound`. Its keys are refused until they get another."""
        ...


@runtime_checkable
class CountsBudgets(Protocol):
    """A backend with counters beside its keys."""

    @property
    def counters(self) -> MultiWindowSupport:
        """Where quotas are kept, and windows when no other storage is named."""
        ...


@runtime_checkable
class TellsChanges(Protocol):
    """A backend that tells this process what changed, so that a cache need not wait."""

    def watch(self, listener: Callable[[str | None], None]) -> Callable[[], None]:
        """Call `listener` with the id of each changed key, None for "anything". Returns what ends it."""
        ...


@runtime_checkable
class Closable(Protocol):
    """A backend that holds connections. Each `start` is one user; the last one to call `aclose` closes."""

    async def start(self) -> None:
        """Enter, and open. Raises `BackendError` when the store is away: entered all the same, it is tried again."""
        ...

    async def aclose(self) -> None:
        """Leave. Once everybody has left, every connection is closed; it may be started again."""
        ...
