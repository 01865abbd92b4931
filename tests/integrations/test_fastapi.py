"""FastAPI: dependencies, the OpenAPI document, Starlette's user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import APIRouter, FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.authentication import requires
from starlette.requests import Request

from ak_guard import ApiKeyMiddleware, ConfigurationError
from ak_guard.backends import MemoryBackend
from ak_guard.integrations.fastapi import CurrentAdmission, CurrentKey, OptionalKey
from ak_guard.integrations.openapi import add_security
from ak_guard.testing import ready_key
from tests.support import bearer

if TYPE_CHECKING:
    from ak_guard import Issued
    from ak_guard.usage import UsageRecord

PUBLIC = ["/health", "/openapi.json", "/docs"]


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def issued(backend: MemoryBackend) -> Issued:
    return await ready_key(backend, name="prod-api", quota=100)


@pytest.fixture
def client(backend: MemoryBackend) -> TestClient:
    app = FastAPI()
    app.add_middleware(ApiKeyMiddleware, backend=backend, public_paths=PUBLIC)
    add_security(app, public_paths=["/health"])

    @app.get("/me")
    async def me(key: CurrentKey) -> str:
        return key.name

    @app.get("/health")
    async def health(key: OptionalKey) -> str:
        return "nobody" if key is None else key.name

    @app.post("/work")
    async def work(admission: CurrentAdmission) -> int | None:
        admission.charge(9)
        return admission.remaining

    @app.get("/docs-only")
    async def docs_only(key: CurrentKey) -> None: ...

    @app.get("/authenticated")
    @requires("authenticated")
    async def authenticated(request: Request) -> dict[str, Any]:
        return {"name": request.user.display_name, "scopes": request.auth.scopes}

    @app.websocket("/ws")
    async def socket(websocket: WebSocket, key: CurrentKey) -> None:
        await websocket.accept()
        await websocket.send_text(key.name)
        await websocket.close()

    return TestClient(app)


def test_the_key_is_a_dependency(client: TestClient, issued: Issued) -> None:
    assert client.get("/me", headers=bearer(issued.secret)).json() == "prod-api"
    assert client.post("/work", headers=bearer(issued.secret)).json() == 89


def test_the_key_is_a_dependency_of_websockets(client: TestClient, issued: Issued) -> None:
    with client.websocket_connect("/ws", headers=bearer(issued.secret)) as websocket:
        assert websocket.receive_text() == "prod-api"


def test_a_public_path_has_no_key(client: TestClient, issued: Issued) -> None:
    assert client.get("/health", headers=bearer(issued.secret)).json() == "nobody"


def test_a_needed_key_on_a_public_path_is_a_401(backend: MemoryBackend) -> None:
    app = FastAPI()
    app.add_middleware(ApiKeyMiddleware, backend=backend, public_paths=["/me"])

    @app.get("/me")
    async def me(key: CurrentKey) -> str:
        return key.name

    answer = TestClient(app).get("/me")
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="api"'


def test_requires_authenticated_works(client: TestClient, issued: Issued) -> None:
    answer = client.get("/authenticated", headers=bearer(issued.secret))
    assert answer.json() == {"name": "prod-api", "scopes": ["authenticated", "group:default"]}


def test_requires_refuses_on_a_public_path(backend: MemoryBackend) -> None:
    app = FastAPI()
    app.add_middleware(ApiKeyMiddleware, backend=backend, public_paths=["/authenticated"])

    @app.get("/authenticated")
    @requires("authenticated")
    async def authenticated(request: Request) -> None: ...

    assert TestClient(app).get("/authenticated").status_code == 403


def test_the_openapi_document_names_both_schemes(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert set(document["components"]["securitySchemes"]) == {"ApiKeyBearer", "ApiKeyHeader"}
    assert document["security"] == [{"ApiKeyBearer": []}, {"ApiKeyHeader": []}]
    assert document["paths"]["/health"]["get"]["security"] == []
    assert "security" not in document["paths"]["/me"]["get"]


def test_security_is_added_once_and_the_apps_own_document_stays() -> None:
    app = FastAPI()
    app.get("/a")(lambda: None)
    add_security(app)
    add_security(app, public_paths=["/a"])
    first = app.openapi()
    assert app.openapi() is first
    assert first["paths"]["/a"]["get"]["security"] == []
    assert app.openapi_schema is not None
    assert "security" not in app.openapi_schema


def test_an_app_without_a_document_is_told_so() -> None:
    with pytest.raises(ConfigurationError, match="give the FastAPI object"):
        add_security(object())


def test_usage_names_routes_as_the_app_does_wherever_they_are_included(backend: MemoryBackend, issued: Issued) -> None:
    app, router, below = FastAPI(), APIRouter(prefix="/things"), FastAPI()
    records: list[UsageRecord] = []

    async def show(what: int) -> int:
        return what

    app.get("/items/{what}")(show)
    router.get("/{what}")(show)
    below.get("/deep/{what}")(show)
    app.include_router(router, prefix="/v1/shop")
    app.mount("/below", below)
    app.add_middleware(ApiKeyMiddleware, backend=backend, usage=records.extend)
    for root in ("", "/proxy"):
        with TestClient(app, root_path=root) as client:
            for path in ("/items/3", "/v1/shop/things/9", "/below/deep/8", "/nowhere/7", "/items/x"):
                client.get(root + path, headers=bearer(issued.secret))
        assert [(one.route, one.status) for one in records] == [
            (f"{root}/items/{{what}}", 200),
            (f"{root}/v1/shop/things/{{what}}", 200),
            (f"{root}/below/deep/{{what}}", 200),
            (f"{root}/nowhere/*", 404),
            (f"{root}/items/{{what}}", 422),
        ]
        records.clear()
