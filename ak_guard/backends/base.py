"""Who is it: what a backend must offer.

`KeyLookup` is enough to guard an app; `KeyStore` adds what the manager needs. A backend may also offer counters beside
its keys (`CountsBudgets`), tell at once what an administrator changed (`TellsChanges`), keep who changed what
(`KeepsAudit`) and what requests did (`KeepsUsage`, `ReadsUsage`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from ak_guard.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from ak_guard.audit import AuditEntry, AuditFilter, Note
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.listing import KeyCounts, KeyFilter, ListedKey, Walk
    from ak_guard.records import ApiKey, Group
    from ak_guard.usage.records import KeyUse, LastUsed, UsageRecord
    from ak_guard.usage.summaries import Period, UsageSummary


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
    """What the manager asks of a backend. Each call is one change, whole or not at all.

    `note` says who makes it. Where a backend keeps an audit trail it is written with the change or neither is. A
    record that is no more of the version that the note names is left alone: `Conflict`.
    """

    @property
    def peppered(self) -> bool:
        """Whether secrets are stored under a pepper, so that shorter custom keys are safe."""
        ...

    async def insert(self, key: ApiKey, digest: bytes, *, note: Note) -> None:
        """Add a key and its secret. Raises `InputError` naming `key` when the secret is taken.

        Where it `replaces` another key that one's `replaced_by` is set with it; `InputError` naming `replaces` when
        another one came in its place before and is still there. Raises `Repeated` when the request that the note names
        made a key before.
        """
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

    async def change(self, key_id: str, changes: Mapping[str, Any], *, note: Note) -> ApiKey:
        """Set these fields of a key (by the names of `ApiKey`) and no others; raises `NotFound`."""
        ...

    async def delete(self, key_id: str, *, note: Note) -> None:
        """Remove a key and its secrets; raises `NotFound`."""
        ...

    async def add_secret(self, key: ApiKey, digest: bytes, *, old_until: float, note: Note) -> ApiKey:
        """Give a key a new secret (and its new hint); the old ones are good until `old_until`. Returns the key."""
        ...

    async def get_group(self, name: str) -> Group:
        """The group of this name; raises `NotFound`."""
        ...

    async def list_groups(self) -> Sequence[Group]:
        """All groups by name."""
        ...

    async def put_group(self, group: Group, *, create: bool, note: Note) -> None:
        """Add a group (`InputError` when it exists) or replace one (`NotFound` when it does not)."""
        ...

    async def delete_group(self, name: str, *, note: Note) -> None:
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
class KeepsAudit(Protocol):
    """A backend that keeps who changed what."""

    async def note(self, note: Note, *, key_id: str | None, subject: str) -> None:
        """Enter what was done elsewhere, such as to counters. `subject` is the name of what it was done to."""
        ...

    async def audit(self, where: AuditFilter, *, limit: int, before: int | None) -> list[AuditEntry]:
        """Entries that match, newest first, at most `limit`, those older than the entry with id `before`."""
        ...


@runtime_checkable
class KeepsUsage(Protocol):
    """A backend that keeps what requests did, or hands it on to one that does."""

    #: Whether it is still there after this process.
    keeps_usage_durably: bool

    async def add_usage(self, batch_id: str, records: Sequence[UsageRecord]) -> None:
        """Keep these records. The same `batch_id` again is the same batch after a lost reply: it counts once.

        Raises `BackendError` when they could not be kept; whoever sends them then does so again.
        """
        ...


@runtime_checkable
class TellsClosing(Protocol):
    """A backend for whose end others have something to finish."""

    def before_close(self, finish: Callable[[], Awaitable[None]]) -> None:
        """Await `finish` whenever the last user leaves, before anything is closed: who writes behind writes then.

        It must not raise. Without it a late write would open again what was closed.
        """
        ...


@runtime_checkable
class ReadsUsage(Protocol):
    """A backend that can be asked what requests did."""

    async def usage(self, key_id: str | None, period: Period) -> UsageSummary:
        """What one key did, or all keys and unknown ones, in this span of time."""
        ...

    async def records(
        self, key_id: str | None, *, since: float, code: str | None, limit: int, before: str | None
    ) -> list[UsageRecord]:
        """Single requests, newest first, those older than the record with id `before`; an empty id: unknown keys."""
        ...

    async def busiest(self, period: Period, *, limit: int) -> list[KeyUse]:
        """The keys with the most calls in this time, most first."""
        ...

    async def last_used(self, ids: Sequence[str]) -> dict[str, LastUsed]:
        """When these keys were last presented and from where, without those that never were."""
        ...

    async def calls_before(self, ids: Sequence[str], usual: Period) -> dict[str, dict[str, int]]:
        """How often which address called in the `usual` time, by key.

        Only of those keys that were last used after it, and from an address that never called them until its end.
        """
        ...

    async def recorded(self) -> tuple[float, float] | None:
        """When the first and the last day begin of which something is known, None when nothing is."""
        ...


def replaced_already(key: ApiKey) -> InputError:
    """What is told to whoever comes second with a replacement."""
    return InputError("replaces", f"{key.id} is replaced by {key.replaced_by} already")


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
