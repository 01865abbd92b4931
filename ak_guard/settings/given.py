"""Which settings hold: those that are given as arguments, and from outside what is not given."""

from __future__ import annotations

import inspect
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, cast

from ak_guard.errors import ConfigurationError
from ak_guard.settings.spelling import unknown
from ak_guard.settings.written import outside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

P = ParamSpec("P")


class _Refuses(Protocol):
    def refuse_all(self, error: Exception) -> None: ...


def completed_from_outside(init: Callable[P, None]) -> Callable[P, None]:
    """Let a constructor be called with the settings that it was not given and that the file or the environment has.

    Only here can be seen what was given: the constructor's own defaults look like arguments. What is wrong outside, or
    misspelled anywhere, is a fault like a wrong value, and no exception in the midst of a running server. Type checkers
    see the constructor as it is.
    """
    known = [name for name, one in inspect.signature(init).parameters.items() if one.kind is one.KEYWORD_ONLY]

    @wraps(init)
    def completed(*args: P.args, **given: P.kwargs) -> None:
        app = {"app": given.pop("app")} if "app" in given else {}
        # None says that the backend is named elsewhere; for other settings it is a value.
        settings = {name: value for name, value in given.items() if name != "backend" or value is not None}
        try:
            for name in settings:
                if name not in known:
                    raise ConfigurationError(unknown(name, known))
            settings = {**configured(without=settings), **settings}
        except ConfigurationError as error:
            # Everything that a door needs, and nothing that could be wrong a second time.
            init(*args, **app, backend="memory://")  # type: ignore[arg-type]
            cast("_Refuses", args[0]).refuse_all(error)
            return
        init(*args, **app, **settings)  # type: ignore[arg-type]

    return completed


def configured(
    only: Collection[str] | None = None, *, without: Collection[str] = (), strangers: bool = True
) -> dict[str, Any]:
    """The settings that the file and the environment give: all, or `only` these, and never those `without`.

    Raises `ConfigurationError` for a wrong value, and where `strangers` matter also for a name that nobody knows.
    """
    found = outside()
    if strangers and found.strangers:
        raise ConfigurationError(found.strangers[0])
    return {
        name: written.read(name)
        for name, written in found.settings.items()
        if name not in without and (only is None or name in only)
    }
