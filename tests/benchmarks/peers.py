"""What people use today, each set up as its documentation says. Missing packages are reported and left out."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any, Final

from fastapi import Depends, FastAPI
from starlette.responses import PlainTextResponse

from tests.benchmarks.harness import Case
from tests.benchmarks.ours import AMPLE, guarded
from tests.benchmarks.traffic import PATH, requests, starlette_app

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

INSTALL: Final = "pip install slowapi==0.1.10 asgi-ratelimit==0.10.0 'keyshield[aiocache,argon2]==2.0.1'"


def _load(name: str) -> Any:
    # Untyped on purpose: the peers are optional, and type checks must not depend on them.
    return importlib.import_module(name)


def _secrets(live: int) -> list[str]:
    return [f"ak_{at:038d}" for at in range(live)]


def _key_of(scope: Scope) -> str:
    return next((value.decode() for name, value in scope["headers"] if name == b"authorization"), "")


async def bare(name: str, live: int, amount: int) -> Case:
    """No guard at all: what every ratio is measured against."""
    return Case(name, starlette_app(), requests(_secrets(live)), checks="nothing")


async def bare_fastapi(name: str, live: int, amount: int) -> Case:
    """The app that keyshield guards: it is a dependency of FastAPI, not a middleware."""
    app = FastAPI()

    @app.get(PATH, response_class=PlainTextResponse)
    async def pong() -> str:  # an async endpoint, as everybody's here
        return "pong"

    return Case(name, app, requests(_secrets(live)), checks="nothing")


async def ours(name: str, live: int, amount: int) -> Case:
    return await guarded(name, live=live)


async def _slowapi(name: str, live: int, amount: int, middleware: str) -> Case:
    slowapi, doors = _load("slowapi"), _load("slowapi.middleware")
    logging.getLogger("slowapi").setLevel(logging.ERROR)  # it logs each refusal; what a log costs is not its fault

    # The name of the argument tells slowapi to pass the request.
    def key_func(request: Request) -> str:
        return request.headers.get("authorization", "")

    app = starlette_app()
    app.state.limiter = slowapi.Limiter(
        key_func=key_func,
        default_limits=[f"{amount}/5 hour", f"{amount}/1 day", f"{amount}/7 day"],
        headers_enabled=True,
    )
    app.add_exception_handler(_load("slowapi.errors").RateLimitExceeded, slowapi._rate_limit_exceeded_handler)
    app.add_middleware(getattr(doors, middleware))
    checks = "3 windows by header text, headers of one"
    return Case(name, app, requests(_secrets(live)), base="bare Starlette", checks=checks)


async def slowapi_asgi(name: str, live: int, amount: int) -> Case:
    return await _slowapi(name, live, amount, "SlowAPIASGIMiddleware")


async def slowapi_base(name: str, live: int, amount: int) -> Case:
    return await _slowapi(name, live, amount, "SlowAPIMiddleware")


async def asgi_ratelimit(name: str, live: int, amount: int) -> Case:
    ratelimit, simple = _load("ratelimit"), _load("ratelimit.backends.simple")

    async def authenticate(scope: Scope) -> tuple[str, str]:  # it must be async
        return _key_of(scope), "default"

    app = starlette_app()
    app.add_middleware(
        ratelimit.RateLimitMiddleware,
        authenticate=authenticate,
        backend=simple.MemoryBackend(),
        config={r"^/v1": [ratelimit.Rule(hour=amount, day=amount, month=amount)]},
    )
    checks = "3 windows by header text, no headers"
    return Case(name, app, requests(_secrets(live)), base="bare Starlette", checks=checks)


class NaiveLimits:
    """What one writes with `limits` on a free afternoon: three hits, one after the other."""

    def __init__(self, app: ASGIApp, amount: int) -> None:
        parse, storage, strategies = _load("limits").parse, _load("limits.aio.storage"), _load("limits.aio.strategies")
        self.app = app
        self.limiter = strategies.FixedWindowRateLimiter(storage.MemoryStorage())
        self.items = [parse(f"{amount}/{window}") for window in ("5 hour", "1 day", "7 day")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            key = _key_of(scope)
            for item in self.items:
                if not await self.limiter.hit(item, key):
                    await PlainTextResponse("too many", 429)(scope, receive, send)
                    return
        await self.app(scope, receive, send)


async def naive_limits(name: str, live: int, amount: int) -> Case:
    app = starlette_app()
    app.add_middleware(NaiveLimits, amount=amount)
    checks = "3 windows by header text, no headers"
    return Case(name, app, requests(_secrets(live)), base="bare Starlette", checks=checks)


async def keyshield(name: str, live: int, amount: int) -> Case:
    """Its cached service on its memory repository, without the delay of 100 to 300 ms that it adds to each call."""
    cached, memory = _load("keyshield.services.cached"), _load("keyshield.repositories.in_memory")
    argon2 = _load("keyshield.hasher.argon2")
    # Cheap to hash, so that many keys can be set up; a cached key is not hashed again.
    cheap = _load("argon2").PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    service = cached.CachedApiKeyService(
        memory.InMemoryApiKeyRepository(),
        argon2.Argon2ApiKeyHasher(pepper="a pepper for measuring", password_hasher=cheap),
        min_delay=0,
        max_delay=0,
    )
    secrets = [(await service.create(name="prod-api"))[1] for _ in range(live)]

    async def inject() -> Any:  # its documentation injects the service so
        return service

    app = FastAPI()
    security = _load("keyshield.api").create_depends_api_key(inject)

    @app.get(PATH, response_class=PlainTextResponse)
    async def pong(_: Any = Depends(security)) -> str:  # noqa: B008, FAST002  # as its documentation writes it
        return "pong"

    return Case(name, app, requests(secrets), base="bare FastAPI", checks="key, state, expiry; no limits")


#: Name and maker, in the order of a round. A maker takes the name, the number of live keys and what a window holds.
CONTENDERS: Final[dict[str, Callable[[str, int, int], Awaitable[Case]]]] = {
    "bare Starlette": bare,
    "ak_guard": ours,
    "slowapi, ASGI": slowapi_asgi,
    "slowapi, BaseHTTP": slowapi_base,
    "asgi-ratelimit": asgi_ratelimit,
    "limits, naive": naive_limits,
    "bare FastAPI": bare_fastapi,
    "keyshield, cached": keyshield,
}


async def contenders(live: int = 1, amount: int = AMPLE) -> tuple[list[Case], list[str]]:
    """Every contender that is installed, and the names of those that are not."""
    cases: list[Case] = []
    missing: list[str] = []
    for name, make in CONTENDERS.items():
        try:
            cases.append(await make(name, live, amount))
        except ModuleNotFoundError:
            missing.append(name)
    return cases, missing
