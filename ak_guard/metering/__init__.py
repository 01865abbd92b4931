"""What did it cost: a price for each route, corrected by the tokens that an answer says it took."""

from __future__ import annotations

from ak_guard.metering.meter import Meter
from ak_guard.metering.token_usage import TokenUsage

__all__ = ["Meter", "TokenUsage"]
