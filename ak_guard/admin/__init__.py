"""Keys over HTTP, for services and people: the key service, and the app of `ak-guard serve`. Needs the extra `admin`.

`service_app(keys)` answers `HTTPBackend`s; `protocol.md` beside this file tells what it says, so that a service in any
language can say the same. `serve_app(keys)` puts everything together that `ak-guard serve` serves.
"""

from __future__ import annotations

from importlib.util import find_spec

from ak_guard.errors import ConfigurationError

if find_spec("fastapi") is None:
    raise ConfigurationError("admin: fastapi is not installed; run: pip install 'ak_guard[admin]'")

from ak_guard.admin.serve import serve_app
from ak_guard.admin.service import service_app

__all__ = ["serve_app", "service_app"]
