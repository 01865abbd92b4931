"""The world of one case: its keys and groups in a backend, a clock, and the guard in front of the app."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ak_guard import ApiKeyMiddleware, InputError, KeyManager, NotFound
from ak_guard.audit import Note
from ak_guard.budgets.base import Change
from ak_guard.budgets.windows import Quota
from ak_guard.testing import ManualClock
from tests.cases.guarded import app
from tests.cases.language import BASE, KeyTexts, UnknownWord, known_only, lengthened
from tests.cases.settings import Remote, Settings, around, gather, group_of, limits_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, MutableMapping

    from starlette.types import ASGIApp

    from ak_guard import ApiKey, Decision
    from ak_guard.backends import KeyStore
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.status import Status

_KEY_WORDS = {
    "name": "name",
    "enabled": "enabled",
    "expires_at": "expires_at",
    "quota": "quota",
    "windows": "limits",
    "groups": "group",
    "ip_allow": "allow_ips",
    "ip_deny": "deny_ips",
}


class World:
    def __init__(
        self, backend: KeyStore, config: dict[str, Any], start: float = BASE, limits: MultiWindowSupport | None = None
    ) -> None:
        """`limits` counts the windows where they are not kept beside the keys."""
        self.config = config
        self.start = start
        # A key that is past its expiry at 0 s was made while it was still good.
        self.clock = ManualClock(start - 86_400)
        self.settings = gather(config)
        self.texts = KeyTexts()
        self.decisions: list[Decision] = []
        self.ids: dict[str, str] = {}
        self.remote = Remote(backend)
        self._backend = backend
        self._limits = limits
        self.manager = KeyManager(backend, limits=limits, clock=self.clock)
        self._guards: dict[str, ASGIApp] = {}

    async def furnish(self, keys: list[dict[str, Any]]) -> None:
        """Make the groups and keys of the case. Raises `InputError` for what cannot be."""
        named: dict[str, dict[str, Any]] = {name: {} for key in keys for name in key.get("groups", [])}
        for name, words in {**named, **self.settings.groups}.items():
            if words.get("status") != "deleted":
                await self.manager.create_group(group_of(name, words))
        for key in keys:
            await self._make(key)
        self.clock.now = self.start

    async def _make(self, key: dict[str, Any]) -> None:
        # `structured` names the parts of a key of another product; to us it is a text like any other. `planted` rules
        # get into the store without the manager, as a row that somebody edited.
        known_only(key, {*_KEY_WORDS, "value", "structured", "minted", "planted"}, "key")
        fields = self.fields(
            {"windows": self.settings.windows, **key}, drop={"value", "structured", "minted", "planted"}
        )
        secret = None if key.get("minted") else lengthened(key["value"])
        issued = await self.manager.create(**fields, key=secret)
        self.texts.stands_for(key["value"], issued.secret)
        self.ids[key["name"]] = issued.key.id
        if planted := key.get("planted"):
            known_only(planted, {"ip_allow", "ip_deny"}, "planted")
            changes = {_KEY_WORDS[word]: tuple(entries) for word, entries in planted.items()}
            note = Note("somebody", "key.update", self.clock())
            await self._backend.change(issued.key.id, changes, note=note)

    def fields(self, words: dict[str, Any], drop: Collection[str] = ()) -> dict[str, Any]:
        """The words of a key as arguments of `KeyManager.create` and `update`."""
        fields: dict[str, Any] = {}
        for word, value in words.items():
            if word in drop:
                continue
            if word not in _KEY_WORDS:
                raise UnknownWord("key", word)
            fields[_KEY_WORDS[word]] = self._field(word, value)
        return fields

    def _field(self, word: str, value: Any) -> Any:
        if word == "windows":
            return limits_of(value)
        if word == "groups":
            if len(value) != 1:
                raise UnknownWord("groups", value)  # a key has one group
            return value[0]
        if word == "expires_at":
            return self.moment(value)
        return value

    def moment(self, value: Any) -> Any:
        """`past`, seconds after 0 s of the case, or anything else as it stands."""
        if value == "past":
            return datetime.fromtimestamp(self.start - 1, UTC)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return datetime.fromtimestamp(self.start + value, UTC)
        return value

    def guard(self, mode: str | None, overrides: dict[str, Any]) -> ASGIApp:
        """The guarded app as this request meets it: one for each way in which requests of the case switch it."""
        settings = gather({**self.config, **overrides}, mode)
        self.remote.away = settings.away
        # Whether the backend is away is the backend's state: the same guard meets it in both.
        name = json.dumps([mode, {**overrides, "backend_state": None}], sort_keys=True)
        if name not in self._guards:
            self._guards[name] = around(settings.order, lambda inner: self._door(inner, settings), app)
        return self._guards[name]

    def _door(self, inner: ASGIApp, settings: Settings) -> ApiKeyMiddleware:
        def note(decision: Decision) -> None:
            self.decisions.append(decision)
            if settings.last_used_fails:
                raise RuntimeError("the last use cannot be written down")

        return ApiKeyMiddleware(
            inner,
            backend=self.remote if settings.remote else self._backend,
            extractors=settings.extractors,
            cost=_cost,
            on_decision=note,
            clock=self.clock,
            **{"limits": self._limits, **settings.options},
        )

    async def status(self, key: ApiKey) -> Status:
        return await self.manager.status(key.id)

    def id_of(self, name: str | None) -> str:
        return self.ids[name] if name is not None else next(iter(self.ids.values()))

    # What administrators do between requests

    async def change(self, after: dict[str, Any]) -> None:
        changes: dict[str, Callable[[Any], Awaitable[object]]] = {
            "admin_patch": self._patch,
            "admin_delete": lambda name: self.manager.delete(self.id_of(name)),
            "admin_disable": lambda name: self.manager.disable(self.id_of(name)),
            "admin_enable": lambda name: self.manager.enable(self.id_of(name)),
            "admin_rotate": self._rotate,
            "admin_reset": self._reset,
            "admin_create": self._make,
        }
        for word, value in after.items():
            if word not in changes:
                raise UnknownWord("after", word)
            await changes[word](value)

    async def _patch(self, patch: dict[str, Any]) -> None:
        if "status" in patch:
            known_only(patch, {"group", "status"}, "admin_patch")
            if patch["status"] == "deleted":
                await self.manager.delete_group(patch["group"])
            else:
                await self.manager.update_group(group_of(patch["group"], {"status": patch["status"]}))
            return
        fields = self.fields({word: value for word, value in patch.items() if word != "key"})
        await self.manager.update(self.id_of(patch.get("key")), **fields)

    async def _rotate(self, words: dict[str, Any]) -> None:
        known_only(words, {"key", "grace", "value"}, "admin_rotate")
        new = lengthened(words["value"])
        await self.manager.rotate(self.id_of(words.get("key")), grace=words["grace"], key=new)
        self.texts.stands_for(words["value"], new)

    async def _reset(self, words: dict[str, Any]) -> None:
        known_only(words, {"key", "quota", "windows"}, "admin_reset")
        chosen = {"quota": words.get("quota", False), "limits": words.get("windows", False)}
        await self.manager.reset(self.id_of(words.get("key")), **chosen)

    async def preset(self, words: dict[str, Any]) -> None:
        known_only(words, {"key", "quota_used"}, "preset")
        key = await self.manager.get(self.id_of(words.get("key")))
        counters = self.manager.backend.counters  # type: ignore[attr-defined]  # both backends count
        counters.settle(f"key/{key.id}", [Change(Quota(key.quota or 0), words["quota_used"], None)], now=self.clock())
        await counters.flush()

    async def administer(self, words: dict[str, Any]) -> tuple[int, str]:
        """One call as an admin API would answer it: its status, and everything it shows."""
        known_only(words, {"op", "key", "search", "limit", *_KEY_WORDS, "value"}, "admin")
        try:
            return await self._administer(dict(words))
        except InputError as error:
            return 422, str(error)
        except NotFound as error:
            return 404, str(error)

    async def _administer(self, words: dict[str, Any]) -> tuple[int, str]:
        operation, name, value = words.pop("op"), words.pop("key", None), words.pop("value", None)
        key_id = self.id_of(name) if name != "unknown" and self.ids else "key_unknown"
        match operation:
            case "create":
                text = None if value is None else lengthened(value)
                issued = await self.manager.create(**self.fields(words), key=text)
                self.ids["new"] = issued.key.id
                self.texts.stands_for(value or "the new secret", issued.secret)
                return 201, f"{issued.key!r} {issued.secret}"
            case "get":
                return 200, repr(await self.manager.get(key_id))
            case "list":
                return 200, repr(await self.manager.list(**words))
            case "update":
                return 200, repr(await self.manager.update(key_id, **self.fields(words)))
            case "delete":
                await self.manager.delete(key_id)
                return 204, ""
        raise UnknownWord("admin op", operation)


def _cost(scope: MutableMapping[str, Any]) -> int:
    cost: int = scope["visit"].cost
    return cost
