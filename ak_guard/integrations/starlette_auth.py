"""Starlette's `request.user` and `request.auth`, so that `@requires("authenticated")` works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.authentication import AuthCredentials, BaseUser, UnauthenticatedUser

if TYPE_CHECKING:
    from starlette.types import Scope

    from ak_guard.records import ApiKey


class KeyUser(BaseUser):
    """The holder of a key: `identity` is the key's id, `display_name` its name, `key` all of it."""

    def __init__(self, key: ApiKey) -> None:
        self.key = key

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.key.name

    @property
    def identity(self) -> str:
        return self.key.id


def show_user(scope: Scope, user: KeyUser) -> None:
    """Put the holder into the scope with the scopes `authenticated` and `group:NAME`."""
    scope["user"] = user
    # Made anew: the list of scopes may be changed by the app, and must not be shared between requests.
    scope["auth"] = AuthCredentials(["authenticated", f"group:{user.key.group}"])


def show_nobody(scope: Scope) -> None:
    """For requests that pass without a key, so that `@requires` answers instead of failing."""
    scope.setdefault("user", UnauthenticatedUser())
    scope.setdefault("auth", AuthCredentials())
