"""Connections to Redis or Valkey, made so that nothing is ever sent twice behind our back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import RedisClusterException, RedisError

from ak_guard.errors import ConfigurationError

try:
    from redis.driver_info import DriverInfo
except ImportError:
    _NAME: dict[str, Any] = {}
else:
    # Newer versions look up their own version in a file for every connection, if nobody tells them.
    _NAME = {"driver_info": DriverInfo(name="redis-py", lib_version=redis.__version__)}

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from ak_guard.budgets.redis_address import Address

Command = tuple[str | int, ...]

_CONNECT_SECONDS: Final = 1.0
_READ_SECONDS: Final = 2.0
#: How many commands travel together. A cluster needs a connection for each.
_TOGETHER: Final = 256
_TOGETHER_IN_CLUSTER: Final = 32


class Client(Protocol):
    """What a `Line` needs of a server or a cluster."""

    together: int

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """The answers in order, with errors of single commands among them; raises where there are none."""

    def keys(self, pattern: str) -> AsyncIterator[str]:
        """All keys that look like `pattern`, found in steps that hold nobody up."""

    async def aclose(self) -> None:
        """Close every connection."""


def connect(address: Address) -> Client:
    """A client that opens its connections when they are needed. Raises `ConfigurationError` naming `limits`."""
    if not address.nodes:
        return _Single(_one_server(address.url))
    known = {"username": address.username, "password": address.password, **_options()}
    if address.service:
        # The credentials are those of the server; sentinels seldom have any.
        sentinel = Sentinel(list(address.nodes), sentinel_kwargs=_options(), **known)  # type: ignore[no-untyped-call]
        return _Single(sentinel.master_for(address.service), sentinel)
    return _Cluster(address, known)


def _options() -> dict[str, Any]:
    return {
        "socket_connect_timeout": _CONNECT_SECONDS,
        "socket_timeout": _READ_SECONDS,
        "decode_responses": True,
        # A take whose answer was lost may have been made; sent again it would be made twice.
        "retry": Retry(NoBackoff(), 0),
        **_NAME,
    }


def _one_server(url: str) -> Redis:
    try:
        server: Redis = Redis.from_url(url, **_options())
        # Only here is an option of the URL seen that does not exist.
        server.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError, RedisError):
        raise ConfigurationError("limits: the URI of Redis cannot be read; write redis://host:6379/0") from None
    return server


class _Single:
    """One server, or the master that sentinels name: everything goes through one connection, many at a time."""

    together = _TOGETHER

    def __init__(self, server: Redis, sentinel: Sentinel | None = None) -> None:
        self._server = server
        self._sentinels: list[Redis] = sentinel.sentinels if sentinel else []

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        pipeline = self._server.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    def keys(self, pattern: str) -> AsyncIterator[str]:
        return self._server.scan_iter(match=pattern, count=1_000)

    async def aclose(self) -> None:
        for server in (self._server, *self._sentinels):
            await server.aclose()


class _Cluster:
    """Several servers, each with a part of the subjects."""

    together = _TOGETHER_IN_CLUSTER

    def __init__(self, address: Address, known: dict[str, Any]) -> None:
        self._address = address
        self._known = known
        self._cluster = self._begin()

    def _begin(self) -> RedisCluster:
        nodes = [ClusterNode(host, port) for host, port in self._address.nodes]
        cluster = RedisCluster(startup_nodes=nodes, **self._known)
        # redis-py 5 counts its retries here, later ones in `retry`.
        cluster.cluster_error_retry_attempts = 0  # type: ignore[attr-defined]
        return cluster

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        calls = (self._cluster.execute_command(*command) for command in commands)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        if any(isinstance(answer, RedisClusterException) for answer in answers):
            # No node could be reached. Up to redis-py 7 the client then forgets those it was told to begin with.
            await self._cluster.aclose()
            self._cluster = self._begin()
        return answers

    def keys(self, pattern: str) -> AsyncIterator[str]:
        return self._cluster.scan_iter(match=pattern, count=1_000)

    async def aclose(self) -> None:
        await self._cluster.aclose()
