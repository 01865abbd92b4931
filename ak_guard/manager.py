"""The people's side: create, change and look at keys and groups."""

from __future__ import annotations

import json
import logging
import secrets
import time
from copy import copy
from dataclasses import replace as replace_fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

from ak_guard import custom_keys, inputs, keys, tokens
from ak_guard.assembly import open_backend
from ak_guard.audit import Note, Once
from ak_guard.backends.base import Closable, KeepsAudit, KeyStore, ReadsUsage
from ak_guard.backends.workers import Confirmation, KnowsWorkers
from ak_guard.balances import Balances
from ak_guard.errors import BackendError, BudgetError, ConfigurationError, InputError, LocksOut, NotFound, Unconfirmed
from ak_guard.issued import Issued as Issued  # noqa: PLC0414  # it is what this room hands out
from ak_guard.leaks import LeakReport, next_name
from ak_guard.listing import KeyFilter, Order, Walk
from ak_guard.notation import DAY
from ak_guard.records import ApiKey, Group, checked_flag, checked_text
from ak_guard.roster import CONFIRM_SECONDS as CONFIRM_SECONDS  # noqa: PLC0414  # it belongs to `confirm`
from ak_guard.settings import configured, group_list
from ak_guard.usage.summaries import Period
from ak_guard.versions import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from limits.aio.storage import Storage

    from ak_guard.backends.base import KeyLookup
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.records import Limit
    from ak_guard.usage.summaries import UsageSummary


class _Omitted:
    def __repr__(self) -> str:
        return "OMITTED"


log: Final = logging.getLogger("ak_guard")

#: An argument of `update` that was not given: the field stays as it is.
OMITTED: Final = _Omitted()

# A leak that is older is told by days.
_BY_HOUR_SECONDS: Final = 30 * DAY

Moment = datetime | str
Span = str | timedelta


class KeyManager(Balances):
    """Create keys and groups and change them: `async with KeyManager("sqlite:///keys.db") as keys:`.

    `backend` is a URL or an object; give a middleware the same object and both see the same keys and counters. `limits`
    names the storage of the windows where the middleware has one. `prefix` begins every minted key. `groups` are those
    that services define in their code, so that `status` and `explain` know them. `actor` is the name under which
    changes stand in the audit trail. `clock` is in seconds since the epoch.
    What is not given of the first three comes from the file or the environment, as it does for the middleware.

    Unknown ids raise `NotFound`, wrong values `InputError` naming the field, a store that is away `BackendError`.
    """

    def __init__(
        self,
        backend: KeyLookup | str | None = None,
        *,
        limits: Storage | MultiWindowSupport | str | None = None,
        prefix: str = "ak",
        groups: Iterable[Group] = (),
        actor: str = "python",
        clock: Callable[[], float] = time.time,
    ) -> None:
        # A name that nobody knows matters where it may be a misspelling of the backend; otherwise keys are managed.
        outside = configured(("backend", "limits", "groups"), strangers=backend is None)
        store = open_backend(outside.get("backend") if backend is None else backend)
        if not isinstance(store, KeyStore):
            raise ConfigurationError(f"backend: {type(store).__name__} can only look keys up, not manage them")
        limits = outside.get("limits") if limits is None else limits
        super().__init__(store, limits, group_list(groups or outside.get("groups", ())), clock)
        self._prefix = keys.checked_prefix(prefix)
        if prefix == tokens.PREFIX:
            raise InputError("prefix", f"{prefix!r} is that of admin tokens; choose another, such as ak")
        self._actor = checked_text("actor", actor)

    async def __aenter__(self) -> Self:
        if isinstance(self.backend, Closable):
            try:
                await self.backend.start()
            except BackendError:
                await self.backend.aclose()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for counters in self._owned:
            await counters.aclose()
        if isinstance(self.backend, Closable):
            await self.backend.aclose()

    def acting_as(self, actor: str) -> KeyManager:
        """The same keys in somebody's name: what is changed through it stands under it in the audit trail.

        It ends with the manager it came from and is not opened by itself.
        """
        other = copy(self)
        other._actor, other._owned = checked_text("actor", actor), ()  # noqa: SLF001  # our own
        return other

    # Keys

    async def create(
        self,
        name: str,
        *,
        group: str | None = None,
        key: str | None = None,
        allow_ips: Iterable[str] | None = None,
        deny_ips: Iterable[str] | None = None,
        quota: int | None = None,
        expires_at: Moment | None = None,
        expires_in: Span | None = None,
        limits: Iterable[str | Limit] | None = None,
        max_concurrency: int | None = None,
        owner: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        enabled: bool = True,
        replaces: str | None = None,
        request_id: str | None = None,
    ) -> Issued:
        """Create a key; its secret is in the answer and nowhere else.

        `key` is a text chosen by the caller instead of a generated one (see `ak_guard.custom_keys`). `limits` None
        takes the group's, an empty list means none. `max_concurrency` is how many of its requests may run at once.
        `expires_in` is a duration such as `30d`. `replaces` is the id of a key in whose place this one comes; each then
        names the other. A `request_id`, chosen by the caller, makes sure that the same request, sent again within a day
        because its answer was lost, makes no second key: it raises `Repeated`.
        """
        now = self._clock()
        secret = self._secret(key)
        expiry = inputs.expiry(expires_at, expires_in, now)
        if expiry is not None and expiry.timestamp() <= now:
            raise InputError("expires_at", f"{expiry.isoformat()} has passed already")
        created = datetime.fromtimestamp(now, UTC)
        made = ApiKey(
            id=_new_id(),
            name=inputs.name(name),
            group=inputs.group(group),
            enabled=checked_flag("enabled", enabled),
            created_at=created,
            updated_at=created,
            expires_at=expiry,
            allow_ips=inputs.networks("allow_ips", allow_ips),
            deny_ips=inputs.networks("deny_ips", deny_ips),
            quota=inputs.quota(quota),
            limits=inputs.limits(limits),
            max_concurrency=inputs.max_concurrency(max_concurrency),
            owner=inputs.owner(owner),
            metadata=inputs.metadata(metadata),
            hint=keys.hint(secret),
            replaces=None if replaces is None else (await self.get(replaces)).id,
        )
        note = self._note("key.create")
        if request_id is not None:
            chosen = None if key is None else made.hint
            note = note._replace(once=self._once(request_id, made, [chosen, str(expires_at), str(expires_in)]))
        await self.backend.insert(made, keys.digest(secret.encode()), note=note)
        return Issued(made, secret)

    async def update(  # noqa: C901, PLR0912  # one line a field
        self,
        key_id: str,
        *,
        name: str | _Omitted = OMITTED,
        group: str | _Omitted | None = OMITTED,
        allow_ips: Iterable[str] | _Omitted | None = OMITTED,
        deny_ips: Iterable[str] | _Omitted | None = OMITTED,
        quota: int | _Omitted | None = OMITTED,
        expires_at: Moment | _Omitted | None = OMITTED,
        expires_in: Span | _Omitted | None = OMITTED,
        limits: Iterable[str | Limit] | _Omitted | None = OMITTED,
        max_concurrency: int | _Omitted | None = OMITTED,
        owner: str | _Omitted | None = OMITTED,
        metadata: Mapping[str, Any] | _Omitted | None = OMITTED,
        enabled: bool | _Omitted = OMITTED,
        spare_callers: bool = False,
        version: str | None = None,
    ) -> ApiKey:
        """Change the fields that are given; None clears one. What was used of quota and windows stays.

        With `spare_callers` lists of addresses that would keep out who called within the last 7 days raise `LocksOut`.
        With `version` (that of `version_of`) only as long as nobody has changed the key since; else `Conflict`.
        """
        changes: dict[str, Any] = {}
        if not isinstance(name, _Omitted):
            changes["name"] = inputs.name(name)
        if not isinstance(group, _Omitted):
            changes["group"] = inputs.group(group)
        if not isinstance(allow_ips, _Omitted):
            changes["allow_ips"] = inputs.networks("allow_ips", allow_ips)
        if not isinstance(deny_ips, _Omitted):
            changes["deny_ips"] = inputs.networks("deny_ips", deny_ips)
        if not isinstance(quota, _Omitted):
            changes["quota"] = inputs.quota(quota)
        if not (isinstance(expires_at, _Omitted) and isinstance(expires_in, _Omitted)):
            at = None if isinstance(expires_at, _Omitted) else expires_at
            within = None if isinstance(expires_in, _Omitted) else expires_in
            changes["expires_at"] = inputs.expiry(at, within, self._clock())
        if not isinstance(limits, _Omitted):
            changes["limits"] = inputs.limits(limits)
        if not isinstance(max_concurrency, _Omitted):
            changes["max_concurrency"] = inputs.max_concurrency(max_concurrency)
        if not isinstance(owner, _Omitted):
            changes["owner"] = inputs.owner(owner)
        if not isinstance(metadata, _Omitted):
            changes["metadata"] = inputs.metadata(metadata)
        if not isinstance(enabled, _Omitted):
            changes["enabled"] = checked_flag("enabled", enabled)
        if spare_callers:
            await self._refuse_lockout(key_id, changes)
        action = "key.update"
        if list(changes) == ["enabled"]:
            action = "key.enable" if changes["enabled"] else "key.disable"
        return await self._change(key_id, changes, action, version=version)

    async def _refuse_lockout(self, key_id: str, changes: Mapping[str, Any]) -> None:
        """Raise `LocksOut` where other lists of addresses than those of now would keep out recent callers."""
        if not changes.keys() & {"allow_ips", "deny_ips"} or not isinstance(self.backend, ReadsUsage):
            return
        key = await self.get(key_id)
        allow, deny = changes.get("allow_ips", key.allow_ips), changes.get("deny_ips", key.deny_ips)
        if (allow, deny) == (key.allow_ips, key.deny_ips):
            return
        if addresses := await self.locked_out(key_id, allow, deny):
            raise LocksOut("deny_ips" if allow == key.allow_ips else "allow_ips", addresses)

    async def disable(self, key_id: str, *, wait: float | None = None) -> ApiKey:
        """Refuse this key from now on; `enable` lets it in again.

        Guards elsewhere follow within a second while they reach the store. With `wait` this returns when all of them
        have confirmed it, and raises `Unconfirmed` when after so many seconds one has not.
        """
        inputs.wait("wait", wait)
        key = await self.update(key_id, enabled=False)
        await self._confirmed(wait)
        return key

    async def enable(self, key_id: str) -> ApiKey:
        """Let this key in again."""
        return await self.update(key_id, enabled=True)

    async def delete(self, key_id: str, *, wait: float | None = None, version: str | None = None) -> None:
        """Remove a key for good, with its secrets and counters. `wait` is that of `disable`, `version` of `update`."""
        inputs.wait("wait", wait)
        note = self._note("key.delete")._replace(version=version)
        await self.backend.delete(inputs.key_id(key_id), note=note)
        for counters in {id(store): store for store in (self._quotas, self._windows)}.values():
            try:
                await counters.forget(f"key/{key_id}")
            except BudgetError as error:
                # The key is gone, and no other will have its id.
                log.warning("%s is deleted; what was counted for it stays where it was: %s", key_id, error)
        await self._confirmed(wait)

    async def rotate(
        self, key_id: str, *, grace: Span | None = "1h", key: str | None = None, version: str | None = None
    ) -> Issued:
        """Give a key a new secret; the old one works on for `grace` (None: not at all). All else stays, also the id.

        `version` is that of `update`. To be sure that no guard lets the old secret in any more, `confirm` afterwards.
        """
        now = self._clock()
        current = await self.get(key_id)
        secret = self._secret(key)
        until = now if grace is None else now + inputs.grace(grace)
        renewed = replace_fields(current, hint=keys.hint(secret), updated_at=datetime.fromtimestamp(now, UTC))
        old = {"old_secret_until": datetime.fromtimestamp(until, UTC).isoformat()}
        note = self._note("key.rotate", old)._replace(version=version)
        digest = keys.digest(secret.encode())
        return Issued(await self.backend.add_secret(renewed, digest, old_until=until, note=note), secret)

    async def leak(
        self,
        key_id: str,
        *,
        since: Moment | float | None = None,
        wait: float = CONFIRM_SECONDS,
        replace: bool = True,
        allow_ips: Iterable[str] | None = None,
    ) -> LeakReport:
        """A key has leaked, or may have: disable it, wait for every worker, then replace it, and tell what it did.

        The replacement has the same rules (with `allow_ips` other addresses), what is left of the quota, and the old
        key's id in `replaces`. It is made only when all running workers refuse the old one, within `wait` seconds; else
        the report says who does not, and the same call again goes on from there. `since` is when the leak may have
        begun: what was first seen later is marked as new; by default 24 hours ago. `enable` is the way back.
        """
        now = self._clock()
        begin = now - DAY if since is None else inputs.moment("since", since)
        period = Period.of(begin, None, "hour" if now - begin < _BY_HOUR_SECONDS else "day", now)
        inputs.wait("wait", wait)
        addresses = None if allow_ips is None else inputs.networks("allow_ips", allow_ips)
        about = {"since": datetime.fromtimestamp(begin, UTC).isoformat()}
        key = await self._change(key_id, {"enabled": False}, "key.leak", about=about)
        problems: list[str] = []
        usage: UsageSummary | None = None
        confirmation: Confirmation | None = None
        made: Issued | None = None
        try:
            confirmation = await self.confirm(timeout=wait)
        except BackendError as error:
            problems.append(f"Which workers follow could not be asked: {error}.")
        try:
            usage = await self.backend.usage(key_id, period) if isinstance(self.backend, ReadsUsage) else None
        except BackendError as error:
            problems.append(f"The calls could not be read: {error}.")
        why = "it was not asked for"
        try:
            if replace and not (why := await self._why_no_replacement(key, confirmation)):
                try:
                    made = await self._replacement(key, addresses)
                except InputError:
                    # Somebody else was quicker.
                    why = await self._why_no_replacement(await self.get(key_id), confirmation)
        except (BackendError, BudgetError, ConfigurationError, NotFound) as error:
            why = "it could not be made; ask again"
            problems.append(f"The replacement could not be made: {error}.")
        at, began = datetime.fromtimestamp(now, UTC), datetime.fromtimestamp(begin, UTC)
        return LeakReport(key, at, began, confirmation, made, why, usage, tuple(problems))

    async def _why_no_replacement(self, key: ApiKey, confirmation: Confirmation | None) -> str:
        """What stands against making one now; nothing if it may be made."""
        if confirmation is None or not confirmation.complete:
            return "not every running worker refuses the old key yet; ask again for the replacement when they do"
        if key.expires_at is not None and key.expires_at.timestamp() <= self._clock():
            return "the key had expired"
        if key.replaced_by is not None:
            try:
                other = await self.get(key.replaced_by)
            except NotFound:
                return ""
            return f"there is one already, {other.name} ({other.id}); rotate that one for a new secret"
        return ""

    async def _replacement(self, key: ApiKey, allow_ips: tuple[str, ...] | None) -> Issued:
        note = self._note("key.create")
        created = datetime.fromtimestamp(note.at, UTC)
        status = await self.status(key.id)
        named = KeyFilter(search=key.name.rstrip("0123456789").rstrip("-") or key.name)
        walk = Walk(Order("name", descending=False), inputs.MAX_PAGE)
        taken = {listed.key.name for listed in await self.backend.walk(named, walk, now=note.at)}
        secret = self._secret(None)
        made = replace_fields(
            key,
            id=_new_id(),
            name=next_name(key.name, taken),
            enabled=True,
            created_at=created,
            updated_at=created,
            allow_ips=key.allow_ips if allow_ips is None else allow_ips,
            quota=None if status.quota is None else status.quota.remaining,
            hint=keys.hint(secret),
            replaces=key.id,
            replaced_by=None,
        )
        await self.backend.insert(made, keys.digest(secret.encode()), note=note)
        return Issued(made, secret)

    async def reset(self, key_id: str, *, quota: bool = False, limits: bool = False) -> None:
        """Give back the whole quota, the whole windows, or both. Windows that a group shares stay as they are."""
        if not quota and not limits:
            raise InputError("quota", "nothing to reset; say quota=True, limits=True or both")
        key = await self.get(key_id)
        budget = await self._budget(key)
        await self._counters.check()
        # First, so that whatever was given back stands in the trail, even if a store fails before the rest is.
        if isinstance(self.backend, KeepsAudit):
            note = self._note("key.reset", {"quota": quota, "limits": limits})
            await self.backend.note(note, key_id=key_id, subject=key.name)
        for part in budget.parts:
            if part.subject != f"key/{key_id}":
                continue
            chosen = [window for window in part.windows if (quota if window.slot == "quota" else limits)]
            if chosen:
                await part.storage.restart(part.subject, chosen)
        if isinstance(self.backend, KnowsWorkers):
            await self.backend.touch(key_id)

    # Groups

    async def create_group(self, group: Group) -> Group:
        """Add a group; raises `InputError` when one of this name exists."""
        await self.backend.put_group(group, create=True, note=self._note("group.create"))
        return group

    async def update_group(self, group: Group, *, version: str | None = None) -> Group:
        """Replace the group of this name; keys of the group follow at once. `version` is that of `update`."""
        note = self._note("group.update")._replace(version=version)
        await self.backend.put_group(group, create=False, note=note)
        return group

    async def delete_group(self, name: str, *, version: str | None = None) -> None:
        """Remove a group. Its keys are refused with `group_not_allowed` until they get another one."""
        await self.backend.delete_group(name, note=self._note("group.delete")._replace(version=version))

    async def _confirmed(self, wait: float | None) -> None:
        if wait is None:
            return
        try:
            confirmation = await self.confirm(timeout=wait)
        except BackendError as error:
            raise Unconfirmed(None) from error
        if not confirmation.complete:
            raise Unconfirmed(confirmation)

    def _secret(self, chosen: str | None) -> str:
        """The text that somebody chose, when it may serve as a key, or a new one."""
        if chosen is None:
            return keys.mint(self._prefix)
        custom_keys.check(chosen, peppered=self.backend.peppered)
        return chosen

    async def _change(
        self,
        key_id: str,
        changes: Mapping[str, Any],
        action: str,
        *,
        about: Mapping[str, Any] | None = None,
        version: str | None = None,
    ) -> ApiKey:
        note = self._note(action, about)._replace(version=version)
        moved = {**changes, "updated_at": datetime.fromtimestamp(note.at, UTC)}
        return await self.backend.change(inputs.key_id(key_id), moved, note=note)

    def _once(self, request_id: str, made: ApiKey, given: Sequence[str | None]) -> Once:
        """Two requests are the same when the same actor calls them so, and ask for the same when all else is equal."""
        name = json.dumps([self._actor, checked_text("request_id", request_id)])
        asked = replace_fields(made, id="", created_at=None, updated_at=None, expires_at=None, hint="")
        return Once(_hex(name), _hex(json.dumps([version_of(asked), *given])))

    def _note(self, action: str, about: Mapping[str, Any] | None = None) -> Note:
        return Note(self._actor, action, self._clock(), about or {})


def _new_id() -> str:
    return "key_" + secrets.token_hex(inputs.ID_BYTES)


def _hex(text: str) -> str:
    return sha256(text.encode()).hexdigest()
