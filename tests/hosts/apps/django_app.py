"""Django: its ASGI application is wrapped. It knows http and nothing else, so the guard starts and stops without it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

from ak_guard import ApiKeyMiddleware
from tests.hosts.apps.told import STREAM, told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from django.core.handlers.asgi import ASGIRequest


async def _who(request: ASGIRequest) -> JsonResponse:
    # It has no start-up of its own.
    return JsonResponse(told(request.scope["state"]["ak_guard"], started=True))


async def _stream(_: ASGIRequest) -> StreamingHttpResponse:
    async def parts() -> AsyncIterator[str]:
        for part in STREAM:
            yield part

    return StreamingHttpResponse(parts())


async def _health(_: ASGIRequest) -> HttpResponse:
    return HttpResponse("up")


urlpatterns = [path("who", _who), path("stream", _stream), path("health", _health)]


def build(url: str) -> ApiKeyMiddleware:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50, LOGGING_CONFIG=None)
        django.setup()
    return ApiKeyMiddleware(get_asgi_application(), backend=url, public_paths=["/health"])
