"""Where a Redis or Valkey is, as its URI says: one server, a cluster, or behind sentinels. Needs no extra."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

from ak_guard.errors import ConfigurationError

_SCHEME: Final = re.compile(
    r"(?:async\+|ak-guard\+)?(?:(?P<plain>(?:redis|valkey)s?)|(?:redis|valkey)\+(?P<kind>cluster|sentinel))://"
)
_DEFAULT_PORT: Final = {"cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Address:
    """One server by its `url`, or several `nodes` that know the rest: those of a cluster, or sentinels of `service`."""

    url: str = ""
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""
    username: str | None = None
    # A frozen dataclass is shown in errors and logs; this must not be.
    password: str | None = None

    def __repr__(self) -> str:
        return f"Address({self.nodes or 'one server'})"


def is_redis(uri: str) -> bool:
    """Whether the scheme of a URI is one of ours."""
    return _SCHEME.match(uri) is not None


def parse_address(uri: str) -> Address:
    """Raises `ConfigurationError`, which never repeats the URI: it may hold a password."""
    found = _SCHEME.match(uri)
    if found is None:
        raise ConfigurationError("limits: write redis://host:6379, redis+cluster://… or redis+sentinel://…")
    rest = uri[found.end() :]
    if found["kind"] is None:
        secure = found["plain"] in {"rediss", "valkeys"}
        return Address(url=f"{'rediss' if secure else 'redis'}://{rest}")
    kind = str(found["kind"])
    try:
        return _of_many(rest, kind)
    except ValueError:
        raise ConfigurationError(
            f"limits: the hosts of a {kind} cannot be read; write redis+{kind}://host:{_DEFAULT_PORT[kind]},host2"
            f"{'/service-name' if kind == 'sentinel' else ''}"
        ) from None


def _of_many(rest: str, kind: str) -> Address:
    place, _, path = rest.partition("/")
    credentials, _, hosts = place.rpartition("@")
    username, _, password = credentials.partition(":")
    nodes = []
    for host in hosts.split(","):
        parts = urlsplit(f"//{host}")
        if not parts.hostname:
            raise ValueError(host)
        nodes.append((parts.hostname, parts.port or _DEFAULT_PORT[kind]))
    if (kind == "sentinel") != bool(path):
        raise ValueError(path)
    return Address(
        nodes=tuple(nodes),
        service=unquote(path),
        username=unquote(username) or None,
        password=unquote(password) or None,
    )
