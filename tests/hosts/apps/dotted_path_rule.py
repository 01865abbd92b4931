"""A model server that takes `--middleware module.Class` (vLLM, far too large to install): its rule of loading."""

# No `from __future__ import annotations`: FastAPI reads them while it runs.

import importlib
import inspect
from typing import Any, cast

from fastapi import FastAPI

from tests.hosts.apps import fastapi_app


def add_middleware(app: FastAPI, dotted: list[str]) -> None:
    """The loop of vllm/entrypoints/serve/middleware/register.py: a class is built as `cls(app)`."""
    for middleware in dotted:
        module_path, object_name = middleware.rsplit(".", 1)
        imported: Any = getattr(importlib.import_module(module_path), object_name)
        if inspect.isclass(imported):
            app.add_middleware(cast("Any", imported))
        elif inspect.iscoroutinefunction(imported):
            app.middleware("http")(imported)
        else:
            raise ValueError(f"Invalid middleware {middleware}. Must be a function or a class.")


def build(_: str) -> FastAPI:
    """All settings come from the environment."""
    app = fastapi_app.unguarded()
    add_middleware(app, ["ak_guard.ApiKeyMiddleware"])
    return app
