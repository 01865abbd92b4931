"""A key together with its secret, as only its maker gets to see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ak_guard.records import ApiKey


@dataclass(frozen=True, slots=True)
class Issued:
    """A key and its secret. The secret exists here and nowhere else afterwards; it is not shown by `repr`."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"Issued(key={self.key!r}, secret=…)"
