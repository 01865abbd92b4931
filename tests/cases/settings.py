"""What the words of a case's config mean as settings of `ApiKeyMiddleware`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.middleware.cors import CORSMiddleware

from ak_guard import BackendError, BudgetError, Group, Limit
from ak_guard.budgets.base import MultiWindowSupport, Promise
from ak_guard.extract import DEFAULT_EXTRACTORS, Query
from tests.cases.language import UnknownWord, known_only

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from starlette.types import ASGIApp

    from ak_guard.backends import Found, KeyStore
    from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, Shortfall
    from ak_guard.budgets.windows import Window
    from ak_guard.extract import Extractor


@dataclass(eq=False)
class Settings:
    """Settings as they are gathered from the words of a config, before and for single requests."""

    options: dict[str, Any] = field(default_factory=dict)
    places: list[str | Extractor] = field(default_factory=list)
    only_named_places: bool = False
    query: dict[str, Any] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    windows: list[dict[str, Any]] | None = None
    remote: bool = False
    away: bool = False
    order: list[str] = field(default_factory=lambda: ["guard"])
    last_used_fails: bool = False

    @property
    def extractors(self) -> list[str | Extractor] | None:
        """A case that names headers or the bearer scheme means those alone, else its places stand beside ours."""
        places = [] if self.only_named_places else [*DEFAULT_EXTRACTORS]
        names = self.query.get("names", [])
        narrowed = self.query.get("only_websocket") or self.query.get("paths")
        queries: list[str | Extractor] = [f"query:{name}" for name in names]
        if narrowed:
            queries = [NarrowQuery(name, self.query.get("paths")) for name in names]
        return [*places, *self.places, *queries] if self.places or queries or self.only_named_places else None


class NarrowQuery(Query):
    """An extractor such as a user writes: a query parameter that only websockets on some paths may use."""

    def __init__(self, name: str, paths: list[str] | None) -> None:
        super().__init__(name)
        self._paths = paths

    def find(self, scope: MutableMapping[str, Any]) -> list[bytes]:
        here = scope["type"] == "websocket" and (self._paths is None or scope["path"] in self._paths)
        return super().find(scope) if here else []


class Remote:
    """A backend across a boundary, which offers look-ups alone and may be away."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self.away = False
        self.asked: list[bytes] = []

    async def find(self, digest: bytes) -> Found | None:
        self.asked.append(digest)
        if self.away:
            raise BackendError("the key service cannot be reached")
        return await self._store.find(digest)


class DownStorage(MultiWindowSupport):
    """Counters whose store cannot be reached."""

    @property
    def promise(self) -> Promise:
        return Promise(durable=True, shared=True)

    async def acquire(self, subject: str, asks: Sequence[Ask], *, lease: Lease | None, now: float) -> Grant | Shortfall:
        raise BudgetError("the store of limits is down")

    async def give_back(self, lease_id: str, unspent: Mapping[str, int]) -> None:
        raise BudgetError("the store of limits is down")

    async def peek(self, subject: str, windows: Sequence[Window], *, now: float, need: int = 0) -> list[Level]:
        raise BudgetError("the store of limits is down")

    async def restart(self, subject: str, windows: Sequence[Window]) -> None:
        raise BudgetError("the store of limits is down")

    def settle(self, subject: str, changes: Sequence[Change], *, now: float) -> None:
        """Kept for later by a real store; this one never comes back."""

    async def forget(self, subject: str) -> None:
        raise BudgetError("the store of limits is down")


def gather(config: dict[str, Any], mode: str | None = None) -> Settings:
    settings = Settings()
    for word, value in config.items():
        if word not in _CONFIG:
            raise UnknownWord("config", word)
        _CONFIG[word](settings, value)
    if mode is not None:
        # "status 503" is how ak_guard is closed in any case.
        _one_of("mode", mode, {"closed", "open", "status 503", "report"})
        settings.options["on_unavailable"] = "allow" if mode == "open" else "refuse"
        settings.options["mode"] = "report" if mode == "report" else "enforce"
    return settings


def _one_of(word: str, value: Any, known: set[Any]) -> None:
    if value not in known:
        raise UnknownWord(word, value)


def _option(name: str) -> Callable[[Settings, Any], None]:
    def put(settings: Settings, value: Any) -> None:
        settings.options[name] = value

    return put


def _place(kind: str, *, only: bool = False) -> Callable[[Settings, Any], None]:
    def put(settings: Settings, names: list[str]) -> None:
        settings.places += [f"{kind}:{name}" for name in names]
        settings.only_named_places |= only

    return put


def _query(name: str) -> Callable[[Settings, Any], None]:
    def put(settings: Settings, value: Any) -> None:
        settings.query[name] = value

    return put


def _bearer(settings: Settings, value: Any) -> None:
    _one_of("bearer", value, {True})
    settings.places.append("bearer")
    settings.only_named_places = True


def _extractors(settings: Settings, words: list[str]) -> None:
    settings.places += words
    settings.only_named_places = True


def _strip(settings: Settings, value: Any) -> None:
    _one_of("strip_credentials", value, {True, False})
    settings.options["forward_key"] = not value


def _trusted(settings: Settings, networks: list[str]) -> None:
    # "*" is how cases write "every proxy"; ours are networks, so it is spelt out.
    everybody = ["0.0.0.0/0", "::/0"]
    settings.options["trusted_proxies"] = [net for text in networks for net in (everybody if text == "*" else [text])]


def _backend(settings: Settings, value: Any) -> None:
    _one_of("backend", value, {"http"})
    settings.remote = True


def _backend_state(settings: Settings, value: Any) -> None:
    _one_of("backend_state", value, {"unreachable", "reachable"})
    settings.away = value == "unreachable"


def _store(settings: Settings, value: Any) -> None:
    _one_of("store", value, {"down", "up"})
    if value == "down":
        settings.options["limits"] = DownStorage()


def _store_failure(_: Settings, value: Any) -> None:
    # Only lists the modes among which each request chooses with `mode`.
    for mode in value.split("|"):
        _one_of("store_failure", mode, {"closed", "open", "status 503"})


def _last_used(settings: Settings, value: Any) -> None:
    _one_of("last_used", value, {"store raises"})
    settings.last_used_fails = True


def _groups(settings: Settings, groups: dict[str, dict[str, Any]]) -> None:
    settings.groups = groups


def _windows(settings: Settings, windows: list[dict[str, Any]]) -> None:
    settings.windows = windows


def _order(settings: Settings, order: list[str]) -> None:
    for name in order:
        _one_of("order", name, {"cors", "guard"})
    settings.order = order


_CONFIG: dict[str, Callable[[Settings, Any], None]] = {
    "header_names": _place("header", only=True),
    "cookie_names": _place("cookie"),
    "bearer": _bearer,
    "query_names": _query("names"),
    "query_only_for_websocket": _query("only_websocket"),
    "query_paths": _query("paths"),
    "extractors": _extractors,
    "strip_credentials": _strip,
    "group_allow": _option("allow_groups"),
    "group_deny": _option("deny_groups"),
    "ip_allow": _option("allow_ips"),
    "ip_deny": _option("deny_ips"),
    "public_paths": _option("public_paths"),
    "quota_status": _option("quota_status"),
    "failure_limit": _option("failure_limit"),
    "ratelimit_headers": _option("ratelimit_headers"),
    "max_client_wait": _option("max_client_wait"),
    "allow_preflight": _option("allow_preflight"),
    "stale_if_error": _option("stale_if_error"),
    "key_cache_ttl": _option("cache_ttl"),
    "trusted_proxies": _trusted,
    "trusted_networks": _option("trusted_proxies"),
    "groups": _groups,
    "windows": _windows,
    "backend": _backend,
    "backend_state": _backend_state,
    "store": _store,
    "store_failure": _store_failure,
    "last_used": _last_used,
    "order": _order,
}


def limits_of(windows: list[dict[str, Any]] | None) -> list[Limit] | None:
    return None if windows is None else [_limit(window) for window in windows]


def _limit(window: dict[str, Any]) -> Limit:
    known_only(window, {"limit", "seconds", "algorithm", "unit", "zone", "week_start"}, "window")
    anchors: dict[str, Any] = {"moving": "sliding", "sliding": "sliding", "fixed": "first-use", "calendar": "calendar"}
    algorithm = window.get("algorithm", "fixed")
    _one_of("algorithm", algorithm, set(anchors))
    rest = {word: window[word] for word in ("unit", "zone", "week_start") if word in window}
    return Limit(window["limit"], window["seconds"], anchor=anchors[algorithm], **rest)


def group_of(name: str, words: dict[str, Any]) -> Group:
    known_only(words, {"status", "routes", "windows", "shared_windows", "multiplier"}, "group")
    _one_of("status", words.get("status", "active"), {"active", "disabled"})
    return Group(
        name,
        routes=words.get("routes", ()),
        limits=limits_of(words.get("windows")) or (),
        shared_limits=limits_of(words.get("shared_windows")) or (),
        multiplier=words.get("multiplier", 1),
        enabled=words.get("status", "active") == "active",
    )


def around(order: list[str], guard: Callable[[ASGIApp], ASGIApp], app: ASGIApp) -> ASGIApp:
    """The layers around the app, the outermost first in `order`."""
    for name in reversed(order):
        if name == "guard":
            app = guard(app)
        else:
            app = CORSMiddleware(app, allow_origins=["https://app.example"], allow_headers=["x-api-key"])
    return app
