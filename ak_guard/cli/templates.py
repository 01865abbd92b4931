"""Sets of rules for the usual kinds of keys: `keys create --template`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ak_guard.errors import InputError


class TemplateName(StrEnum):
    TEMPORARY = "temporary"
    FIXED_SERVER = "fixed-server"
    TIGHT_BUDGET = "tight-budget"


@dataclass(frozen=True, slots=True)
class Template:
    """What a kind of key must be given (`needs`: the field and what to say without it) and what it gets otherwise."""

    limits: tuple[str, ...]
    expires_in: str | None = None
    needs: tuple[str, str] | None = None


TEMPLATES: Final = {
    # A contractor or a short event: the key ends by itself.
    TemplateName.TEMPORARY: Template(("1000/1d",), expires_in="14d"),
    # A caller that never moves: a stolen key is of no use elsewhere.
    TemplateName.FIXED_SERVER: Template(
        ("1000/5h", "3000/1d", "10000/7d"),
        needs=("allow_ips", "the template fixed-server needs the address of the server"),
    ),
    # No surprise on the bill: a total, and windows so that a fault cannot spend it in an hour.
    TemplateName.TIGHT_BUDGET: Template(
        ("100/5h", "300/1d", "1000/7d"),
        needs=("quota", "the template tight-budget needs what the key may consume in all"),
    ),
}


def fill(name: TemplateName, rules: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Add to the arguments of `KeyManager.create` what is not given; returns them and what was added, in words.

    Raises `InputError` where the template needs something that only a person can know.
    """
    template = TEMPLATES[name]
    if template.needs and rules[template.needs[0]] in (None, []):
        raise InputError(*template.needs)
    added: dict[str, Any] = {}
    said: list[str] = []
    if template.expires_in and rules["expires_in"] is None and rules["expires_at"] is None:
        added["expires_in"] = template.expires_in
        said.append(f"expires in {template.expires_in}")
    if rules["limits"] is None:
        added["limits"] = list(template.limits)
        said.append(f"limits {', '.join(template.limits)}")
    return {**rules, **added}, said
