"""Times and amounts in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

_UNITS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"))


def span(seconds: float) -> str:
    """`14 days`, `36 hours`, `90 minutes`, `5 seconds`: in the largest unit of which there are two."""
    whole = round(abs(seconds))
    for size, word in _UNITS:
        # A key made to last 14 days has a little less left by the time it is shown.
        count = round(whole / size)
        if count >= 2:
            return f"{count} {word}s"
    return f"{whole} second{'' if whole == 1 else 's'}"


def distance(moment: datetime, now: datetime) -> str:
    """`in 14 days` or `2 hours ago`."""
    seconds = (moment - now).total_seconds()
    return f"in {span(seconds)}" if seconds > 0 else f"{span(seconds)} ago"


def expiry(moment: datetime | None, now: datetime) -> str:
    """`never expires`, `expires 2027-11-18 08:03 UTC, in 360 days` or `expired 2027-11-18 08:03 UTC, 2 hours ago`."""
    if moment is None:
        return "never expires"
    word = "expires" if moment > now else "expired"
    return f"{word} {moment:%Y-%m-%d %H:%M} UTC, {distance(moment, now)}"
