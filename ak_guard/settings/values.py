"""A setting's value from what stands in a file or in the environment."""

from __future__ import annotations

import json
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from ak_guard.errors import ConfigurationError
from ak_guard.records import Group
from ak_guard.settings.catalogue import Kind
from ak_guard.settings.spelling import unknown

if TYPE_CHECKING:
    from ak_guard.settings.catalogue import Setting

_NONE: Final = "none"
_FLAGS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_WHOLE: Final = re.compile(r"[+-]?[0-9](?:_?[0-9]){0,30}")
_REFERENCE: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
_GROUP_FIELDS: Final = frozenset({"routes", "limits", "shared_limits", "multiplier", "enabled"})


def from_text(setting: Setting, text: str, source: str) -> Any:
    """From a variable of the environment, named `source` in the `ConfigurationError` that is raised for a wrong one."""
    text = text.strip()
    match setting.kind:
        case Kind.FLAG:
            if text.lower() not in _FLAGS:
                raise ConfigurationError(f"{source}: {text!r} must be true or false")
            return _FLAGS[text.lower()]
        case Kind.SWITCH if text.lower() in _FLAGS:
            return _FLAGS[text.lower()]
        case Kind.WHOLE | Kind.COST if _WHOLE.fullmatch(text):
            return int(text)
        case Kind.SECONDS:
            try:
                return float(text)
            except ValueError:
                raise ConfigurationError(f"{source}: {text!r} must be a number of seconds") from None
        case Kind.GROUPS:
            return from_table(setting, _json(text, source), source)
        case Kind.TEXTS if text.lower() != _NONE or not setting.empties:
            # What holds a comma itself is written as JSON.
            listed = _json(text, source) if text.startswith("[") else _parts(text)
            return from_table(setting, listed, source)
    return from_table(setting, text, source)


def from_table(setting: Setting, value: Any, source: str) -> Any:
    """From a file. What is only out of range is told later, by whoever judges all settings whatever their source."""
    if setting.empties and isinstance(value, str) and value.lower() == _NONE:
        return None
    match setting.kind:
        case Kind.GROUPS:
            return _groups(value, source)
        case Kind.TEXTS if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigurationError(f"{source}: must be a list of texts, such as {json.dumps(setting.example)}")
        case Kind.STORE | Kind.TEXT if not isinstance(value, str):
            raise ConfigurationError(f"{source}: must be a text, such as {json.dumps(setting.example)}")
        case Kind.STORE if "://" not in value and _REFERENCE.fullmatch(value):
            return referred(value, source)
        case Kind.FUNCTION:
            return referred(value, source)
        case Kind.COST | Kind.SWITCH if isinstance(value, str):
            return referred(value, source)
    return value


def referred(reference: Any, source: str) -> Any:
    """What `module:attribute` names."""
    if not isinstance(reference, str) or not _REFERENCE.fullmatch(reference):
        raise ConfigurationError(f"{source}: {reference!r} must be module:attribute, such as my_service.prices:cost_of")
    name, _, path = reference.partition(":")
    try:
        found: Any = import_module(name)
    except Exception as error:
        # Whatever a module does when it is imported, the guard must not come up without its setting.
        raise ConfigurationError(f"{source}: {name} cannot be imported ({type(error).__name__}: {error})") from error
    for attribute in path.split("."):
        if not hasattr(found, attribute):
            raise ConfigurationError(f"{source}: {name} has no {path}")
        found = getattr(found, attribute)
    return found


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _json(text: str, source: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{source}: cannot be read as JSON ({error})") from None


def _groups(tables: Any, source: str) -> list[Group]:
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ConfigurationError(f'{source}: must be tables by name: [groups.paid] with limits = ["60/1m"]')
    groups = []
    for name, table in tables.items():
        for field in table.keys() - _GROUP_FIELDS:
            raise ConfigurationError(f"{source}.{name}: {unknown(field, _GROUP_FIELDS)}")
        if not isinstance(table.get("enabled", True), bool):
            raise ConfigurationError(f"{source}.{name}.enabled: must be true or false")
        try:
            groups.append(Group(name, **table))
        except (ValueError, TypeError) as error:
            raise ConfigurationError(f"{source}.{name}.{error}") from None
    return groups
