"""FastAPI: the key of a request as a dependency.

    @app.get("/me")
    def me(key: CurrentKey) -> str:
        return key.name

Works in routes and websockets. Where a path is public, or report mode let a stranger in, there is no key: then
`CurrentKey` answers 401 and `OptionalKey` is None.
"""

from __future__ import annotations

from typing import Annotated

try:
    from fastapi import Depends, HTTPException
    from fastapi.requests import HTTPConnection
except ImportError as _missing:  # pragma: no cover  # the tests install it
    raise ImportError("FastAPI is not installed; run: pip install fastapi") from _missing

from ak_guard.records import Admission, ApiKey


def optional_admission(connection: HTTPConnection) -> Admission | None:
    """The admission of this request, None where it passed without a key."""
    admission = connection.scope.get("state", {}).get("ak_guard")
    return admission if isinstance(admission, Admission) else None


def current_admission(admission: Annotated[Admission | None, Depends(optional_admission)]) -> Admission:
    """The admission of this request: its key, client, cost, what remains, and `charge`."""
    if admission is None:
        raise HTTPException(401, "An API key is needed here.", headers={"WWW-Authenticate": 'Bearer realm="api"'})
    return admission


def current_key(admission: Annotated[Admission, Depends(current_admission)]) -> ApiKey:
    """The key that made this request."""
    return admission.key


def optional_key(admission: Annotated[Admission | None, Depends(optional_admission)]) -> ApiKey | None:
    """The key that made this request, None where it passed without one."""
    return None if admission is None else admission.key


CurrentAdmission = Annotated[Admission, Depends(current_admission)]
CurrentKey = Annotated[ApiKey, Depends(current_key)]
OptionalKey = Annotated[ApiKey | None, Depends(optional_key)]
