"""One thing that a doctor found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """An `error` keeps the guard from working, a `warning` from doing what is expected; `advice` is for good habits."""

    ERROR = "error"
    WARNING = "warning"
    ADVICE = "advice"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is so, why it matters, and the line that mends it.

    `code` is its kind and stays the same from version to version; `about` are the ids of the keys it is about.
    """

    severity: Severity
    code: str
    what: str
    why: str
    mend: str
    about: tuple[str, ...] = ()
