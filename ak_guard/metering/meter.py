"""What a request costs: by its route when it is let in, and by the tokens of its answer afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ak_guard.errors import InputError
from ak_guard.metering.token_usage import TokenUsage
from ak_guard.notation import MAX_AMOUNT
from ak_guard.paths import Routes, app_path, is_odd, route_of
from ak_guard.records import checked_routes, whole

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log: Final = logging.getLogger("ak_guard")

_SAMPLE: Final = TokenUsage(input=3, output=1, cache_read=1, cache_write=1)


@dataclass(frozen=True, slots=True, init=False)
class Meter:
    """The price of each route, for `cost=`: `Meter({"POST /v1/chat/*": 50, "GET *": 0}, tokens=True)`.

    Args:
        routes: units by route, written as in a `Group`. Of several that match the first one counts.
        default: units of a request that no route matches.
        tokens: True settles each answer to the tokens that it says it took, a unit each; a function of `TokenUsage`
            weighs them. What the route costs is then the estimate that is taken first. A route that costs 0 is free;
            its answers are not read, because they may tell of what was paid before.

    A path that two readers could take for two places costs as much as the dearest of all these.
    """

    routes: tuple[tuple[str, int], ...]
    default: int
    tokens: bool | Callable[[TokenUsage], int]
    _prices: tuple[tuple[Routes, int], ...] = field(repr=False, compare=False)
    _dearest: int = field(repr=False, compare=False)

    def __init__(
        self,
        routes: Mapping[str, int] | None = None,
        *,
        default: int = 1,
        tokens: bool | Callable[[TokenUsage], int] = False,
    ) -> None:
        if routes is not None and not isinstance(routes, Mapping):
            raise InputError("cost", f"{routes!r} must be units by route, such as {{'POST /v1/chat/*': 50}}")
        listed = tuple((routes or {}).items())
        checked_routes("cost", [route for route, _ in listed])
        for route, units in [*listed, ("default", default)]:
            _checked_cost(route, units)
        if not isinstance(tokens, bool) and not callable(tokens):
            raise InputError("cost", f"tokens: {tokens!r} must be True, False or a function of TokenUsage")
        put = object.__setattr__
        put(self, "routes", listed)
        put(self, "default", default)
        put(self, "tokens", tokens)
        put(self, "_prices", tuple((Routes([route]), units) for route, units in listed))
        put(self, "_dearest", max([default, *(units for _, units in listed)]))
        if tokens:
            self._try_out()

    def __call__(self, scope: MutableMapping[str, Any]) -> int:
        route = route_of(scope)
        # What no list of routes lets in has a price here, so whatever an app may take for another route is dear: a path
        # that is decoded once more, and a method that is written in another case.
        path = app_path(route.path, route.root_path)
        if "%" in path or is_odd(path, route.raw_path):
            return self._dearest
        route = route._replace(method=route.method.upper())
        return next((units for routes, units in self._prices if routes.allow(route)), self.default)

    def units(self, usage: TokenUsage) -> int | None:
        """What these tokens cost; None where the function that weighs them fails, and then the estimate stands."""
        if not callable(self.tokens):
            return usage.total
        try:
            return _checked_units(self.tokens(usage))
        except Exception:
            # The answer is under way already and none the worse for it.
            log.exception("cost: the function of the tokens failed; what its route costs stays charged")
            return None

    def _try_out(self) -> None:
        """What would let every estimate stand is better said at once, such as a function that answers fractions."""
        if not self._dearest:
            raise InputError("cost", "tokens: no route costs anything, so all are free and no answer would be read")
        if callable(self.tokens):
            try:
                _checked_units(self.tokens(_SAMPLE))
            except Exception as error:
                raise InputError("cost", f"tokens: the function fails for {_SAMPLE}: {error}") from error


def _checked_cost(entry: str, units: object) -> None:
    try:
        whole("cost", units, least=0, most=MAX_AMOUNT)
    except InputError as error:
        raise InputError("cost", f"{entry}: {error.problem}") from None


def _checked_units(units: object) -> int:
    if not isinstance(units, int) or isinstance(units, bool) or not 0 <= units <= MAX_AMOUNT:
        raise ValueError(f"{units!r} must be a whole number from 0 to {MAX_AMOUNT}")
    return units
