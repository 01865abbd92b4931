"""All settings as a file to begin with: each with what it says, its default, an example and its variable."""

from __future__ import annotations

import inspect
import json
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from ak_guard.settings.catalogue import CATALOGUE, Kind, Setting, variable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Entry(NamedTuple):
    """One setting, explained. `default` is Python, `line` TOML, `example` what a shell may put into `variable`."""

    name: str
    about: str
    default: str
    line: str
    variable: str
    example: str


def entries(guard: type) -> Iterator[Entry]:
    """Of every setting of the middleware, which says itself what they mean and what they are when nobody says so."""
    parameters = inspect.signature(guard).parameters
    about = dict(re.findall(r"^    (\w+): (.+)$", inspect.getdoc(guard) or "", re.MULTILINE))
    for name, setting in CATALOGUE.items():
        yield Entry(
            name,
            about.get(name, ""),
            _default(parameters[name].default),
            _line(name, setting),
            variable(name),
            _text(setting),
        )


def _default(value: Any) -> str:
    return f"{value.__module__}.{value.__name__}" if callable(value) else repr(value)


def _line(name: str, setting: Setting) -> str:
    # What JSON writes of texts, numbers, lists and flags is TOML too.
    if setting.kind is not Kind.GROUPS:
        return f"{name} = {json.dumps(setting.example)}"
    return "\n".join(
        line
        for group, table in setting.example.items()
        for line in (f"[{name}.{group}]", *(f"{field} = {json.dumps(value)}" for field, value in table.items()))
    )


def _text(setting: Setting) -> str:
    match setting.kind:
        case Kind.TEXTS:
            return ",".join(setting.example)
        case Kind.GROUPS | Kind.FLAG | Kind.SWITCH:
            return shlex.quote(json.dumps(setting.example))
    return str(setting.example)
