"""Keys and budgets of a key service elsewhere: `HTTPBackend("https://keys.internal")`. Needs the extra `http`."""

from __future__ import annotations

from ak_guard.backends.http.backend import HTTPBackend
from ak_guard.backends.http.foreign import Asked, Translation

__all__ = ["Asked", "HTTPBackend", "Translation"]
