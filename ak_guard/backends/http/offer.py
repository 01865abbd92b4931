"""What a smaller key service does without, asked for again now and then."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

log: Final = logging.getLogger("ak_guard")

# A service that never has it is not asked much, and one that has it again is not left unused for long.
_AGAIN_SECONDS: Final = 60.0


class Offer:
    """One thing that a service need not offer. `missing` says what follows from that, `back` that it is there.

    That it is missing counts for a while only: whoever stands before a service may say so too, while it is replaced.
    """

    def __init__(self, clock: Callable[[], float], *, missing: str, back: str) -> None:
        self._clock = clock
        self._missing = missing
        self._back = back
        self._ask_at = -math.inf
        #: Whether it was missing when it was asked for last.
        self.is_missing: bool = False

    @property
    def worth_asking(self) -> bool:
        return not self.is_missing or self._clock() >= self._ask_at

    def was_missing(self) -> None:
        """The service said so just now."""
        if not self.is_missing:
            log.warning("%s", self._missing)
        self.is_missing, self._ask_at = True, self._clock() + _AGAIN_SECONDS

    def was_there(self) -> None:
        if self.is_missing:
            log.warning("%s", self._back)
        self.is_missing = False
