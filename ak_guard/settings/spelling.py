"""What to say of a name that does not exist: the nearest one that does."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from ak_guard.settings.catalogue import OTHER_VARIABLES, variable

if TYPE_CHECKING:
    from collections.abc import Iterable


def unknown(name: str, known: Iterable[str]) -> str:
    """`trusted_proxy: no setting has this name; did you mean trusted_proxies?`"""
    near = get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    if variable(name) in OTHER_VARIABLES:
        # Secrets do not belong into files that are committed.
        hint = f"; set {variable(name)} in the environment instead"
    return f"{name}: no setting has this name{hint}"
