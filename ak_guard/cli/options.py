"""Arguments and options that several commands share."""

# No `from __future__ import annotations`: see desk.py.

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from ak_guard import inputs
from ak_guard.cli import complete
from ak_guard.errors import InputError
from ak_guard.notation import parse_duration

KeyId = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help="The id of the key, or its name where only one has it.", autocompletion=complete.keys
    ),
]
KeyIds = Annotated[
    list[str],
    typer.Argument(
        metavar="KEY...", help="Ids of keys, or names where only one key has them.", autocompletion=complete.keys
    ),
]
GroupName = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of the group.", autocompletion=complete.groups)
]
Texts = list[str] | None

Group = Annotated[
    str | None,
    typer.Option(help="The group, which rules routes, default limits and multiplier.", autocompletion=complete.groups),
]
Owner = Annotated[str | None, typer.Option(help="Who answers for the key.")]
Quota = Annotated[int | None, typer.Option(metavar="UNITS", help="What the key may consume in all.")]
AllowIp = Annotated[
    Texts, typer.Option(metavar="NETWORK", help="Let in only this address or network. Repeat for more.")
]
DenyIp = Annotated[
    Texts, typer.Option(metavar="NETWORK", help="Never let in this address or network. Repeat for more.")
]
ExpiresAt = Annotated[str | None, typer.Option(metavar="TIME", help="When it ends: 2027-01-31T12:00:00Z.")]
ExpiresIn = Annotated[str | None, typer.Option(metavar="DURATION", help="When it ends, from now: 12h, 30d.")]
LimitTexts = Annotated[
    Texts,
    typer.Option(
        "--limit",
        metavar="AMOUNT/WINDOW",
        help="A window: 1000/5h, '500 requests/1d calendar'. Repeat for more; without any those of the group hold.",
    ),
]
MaxConcurrency = Annotated[
    int | None, typer.Option(metavar="REQUESTS", help="How many requests of the key may run at the same time.")
]
NoLimits = Annotated[bool, typer.Option("--no-limits", help="No windows at all, not even those of the group.")]
Metadata = Annotated[Texts, typer.Option(metavar="NAME=VALUE", help="A note for people and programs. Repeat for more.")]
CustomKey = Annotated[
    bool,
    typer.Option(
        "--custom-key", "--stdin", help="Read the text of the key from standard input instead of generating it."
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


def moment(option: str, text: str | None, now: datetime) -> datetime | None:
    """A time as it is typed: `2027-01-31T12:00:00Z`, or a duration ago such as `3h`."""
    if text is None:
        return None
    try:
        return now - timedelta(seconds=parse_duration(text, option))
    except InputError:
        return datetime.fromtimestamp(inputs.moment(option, text), UTC)


def chosen_limits(limits: Texts, no_limits: bool) -> Texts:
    """None where nothing was said, an empty list for `--no-limits`."""
    if limits and no_limits:
        raise InputError("limits", "--limit and --no-limits contradict each other")
    return [] if no_limits else limits or None


def entries(texts: Texts) -> dict[str, str] | None:
    """`team=billing` and the like as a mapping."""
    if not texts:
        return None
    read: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError("metadata", f"{text!r} has no name and value")
        if name in read:
            raise InputError("metadata", f"{name!r} is given twice")
        read[name] = value
    return read
