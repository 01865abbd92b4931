"""A manager opened for as long as an app serves."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from ak_guard.backends.base import Closable
from ak_guard.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ak_guard.manager import KeyManager

log: Final = logging.getLogger("ak_guard")


@asynccontextmanager
async def running(keys: KeyManager) -> AsyncIterator[None]:
    """Open the manager's store and close it at the end.

    A store that is away is no reason not to start: requests are answered 503 until it is back. Raises
    `ConfigurationError` for one that cannot work.
    """
    backend = keys.backend
    if isinstance(backend, Closable):
        try:
            await backend.start()
        except BackendError as error:
            log.error("the store of keys is away; requests are answered 503 until it is back: %s", error)
    try:
        yield
    finally:
        await keys.__aexit__(None, None, None)
