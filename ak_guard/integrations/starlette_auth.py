"""Starlette's `request.user` and `request.auth`, so that `@requires("authenticated")` works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser

if TYPE_CHECKING:
    from starlette.types import Scope

    from ak_guard.records import ApiKey


class KeyCredentials(AuthCredentials):
    """What a key may be asked for. One object serves all requests of a key, so what an app does to the list is lost."""

    def __init__(self, scopes: tuple[str, ...]) -> None:
        self._scopes = scopes

    @property
    def scopes(self) -> list[str]:  # type: ignore[override]  # Starlette has an attribute, which a request could change
        return list(self._scopes)


class KeyUser(BaseUser):
    """The holder of a key: `identity` is the key's id, `display_name` its name, `key` all of it."""

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        self.credentials: KeyCredentials = KeyCredentials(("authenticated", f"group:{key.group}"))

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.key.name

    @property
    def identity(self) -> str:
        return self.key.id


def show_nobody(scope: Scope) -> None:
    """For requests that pass without a key, so that `@requires` answers instead of failing."""
    scope.setdefault("user", UnauthenticatedUser())
    scope.setdefault("auth", AuthCredentials())
