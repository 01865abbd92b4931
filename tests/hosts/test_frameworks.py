"""Apps of real frameworks, each with the guard added as its users would, under a real server."""

from __future__ import annotations

import asyncio
import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple

import pytest
from httpx2 import Client
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from ak_guard import KeyManager
from ak_guard.backends import SQLBackend
from tests.support import bearer, running

if TYPE_CHECKING:
    from collections.abc import Iterator


class Host(NamedTuple):
    """An app in `tests.hosts.apps`, the packages it needs, and what it can do."""

    app: str
    packages: tuple[str, ...]
    build: str = "build"
    below: str = ""
    sockets: bool = True
    starts: bool = True
    #: Whether the guard sees the end of the server, and closes what it has opened.
    ends: bool = True
    #: Whether the guard sees what the app has no route for.
    sees_all: bool = True

    def __str__(self) -> str:
        named = " ".join(f"{package} {version(package)}" for package in self.packages)
        return f"{self.app}{self.build.removeprefix('build')}: {named}"


HOSTS = [
    Host("fastapi_app", ("fastapi",)),
    Host("starlette_app", ("starlette",)),
    Host("starlette_app", ("starlette",), "build_mounted", below="/api", starts=False, ends=False),
    Host("litestar_app", ("litestar",)),
    Host("litestar_app", ("litestar",), "build_defined", ends=False, sees_all=False),
    Host("quart_app", ("quart",)),
    Host("django_app", ("django",), sockets=False),
    Host("datasette_app", ("datasette",), sockets=False),
    # Both reproduce a rule of loading on the real framework below it.
    Host("gradio_rule", ("fastapi",), below="/gradio"),
    Host("dotted_path_rule", ("fastapi",)),
]


class Place(NamedTuple):
    """A host that runs, and a key for it with seven calls a day."""

    host: Host
    url: str
    keys: str
    secret: str

    def client(self, secret: str | None = None) -> Client:
        return Client(base_url=self.url + self.host.below, headers=bearer(secret or self.secret))


@pytest.fixture(scope="module", params=HOSTS, ids=str)
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    host: Host = request.param
    keys = f"sqlite:///{tmp_path_factory.mktemp('keys')}/keys.db"

    async def make() -> str:
        async with KeyManager(keys) as manager:
            return (await manager.create("prod-api", limits=["7/1d"])).secret

    secret = asyncio.run(make())
    with pytest.MonkeyPatch.context() as patch:
        if host.app == "dotted_path_rule":
            patch.setenv("AK_GUARD_BACKEND", keys)
            patch.setenv("AK_GUARD_PUBLIC_PATHS", "/health")
        backend = SQLBackend(keys)
        build = getattr(importlib.import_module(f"tests.hosts.apps.{host.app}"), host.build)
        with running(build(keys if host.ends else backend)) as url:
            yield Place(host, url, keys, secret)
        if not host.ends:
            asyncio.run(backend.aclose())


def test_the_story_of_a_key(place: Place) -> None:
    async def disable() -> None:
        async with KeyManager(place.keys) as manager:
            (key,) = await manager.list()
            await manager.disable(key.id, wait=10)

    with Client(base_url=place.url + place.host.below) as stranger:
        assert stranger.get("/health").status_code == 200
        for path in ("/who", "/stream", *(["/no/such/path", "/health/"] if place.host.sees_all else [])):
            refused = stranger.get(path)
            assert (refused.status_code, refused.json()["code"]) == (401, "missing_api_key"), path
            assert refused.headers["www-authenticate"] == 'Bearer realm="api"'
    with place.client() as client:
        told = client.get("/who")
        assert told.json() == {"key": "prod-api", "client": "127.0.0.1", "started": place.host.starts}
        assert told.headers["ratelimit"].startswith('"1d";r=6;')
        streamed = client.get("/stream")
        assert (streamed.text, streamed.headers["ratelimit"][:8]) == ("one two three", '"1d";r=5')
        assert client.get("/no/such/path").status_code == 404
        # Four are left, and a websocket may want two of them.
        while (answer := client.get("/who")).status_code == 200:
            left = int(answer.headers["ratelimit"].partition(";r=")[2].partition(";")[0])
            if left == 2:
                break
        _talk(place)
        full = client.get("/who")
        while full.status_code == 200:
            full = client.get("/who")
        assert (full.status_code, full.json()["code"]) == (429, "rate_limit_exceeded")
        assert int(full.headers["retry-after"]) > 60
        asyncio.run(disable())
        assert client.get("/who").json()["code"] == "api_key_disabled"


def _talk(place: Place) -> None:
    """A websocket is refused at its handshake, or opened and told whose it is."""
    url = place.url.replace("http", "ws") + place.host.below + "/ws"
    with pytest.raises(InvalidStatus) as refused:
        connect(url)
    assert refused.value.response.status_code == 401
    if place.host.sockets:
        with connect(url, additional_headers=bearer(place.secret)) as socket:
            assert socket.recv() == "prod-api"
            # Whoever hangs up before everything was read may lose the rest.
            socket.send("bye")
