"""Something is away for a while: said when it begins and when it is over, and not each time it is noticed."""

from __future__ import annotations

import logging
from typing import Final

log: Final = logging.getLogger(__name__)


class Outage:
    """Say once that something is away, and once, with `back`, that it is there again."""

    def __init__(self, back: str) -> None:
        self._back = back
        self.over: bool = True

    def began(self, what: str, error: Exception) -> None:
        if self.over:
            self.over = False
            log.error("%s: %s; this is tried again until it works", what, error)

    def ended(self) -> None:
        if not self.over:
            self.over = True
            log.warning("%s", self._back)
