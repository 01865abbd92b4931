"""The `RateLimit` and `RateLimit-Policy` fields, which tell clients what they may still spend."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ak_guard.budgets.windows import Window

Headers = list[tuple[bytes, bytes]]


class RateLimitFields:
    """The `RateLimit` and `RateLimit-Policy` fields (draft-ietf-httpapi-ratelimit-headers) of one set of windows.

    One item per window in configured order, the quota without `w` and `t`: `"5h";q=1000;w=18000` and
    `"5h";r=12;t=3611`, r units left, t seconds until more are there.
    """

    __slots__ = ("_ends", "_from", "_names", "_policy", "_template", "_until")

    def __init__(self, windows: tuple[Window, ...]) -> None:
        self._policy, self._names = _static(windows)
        # The line with its seconds filled in, for the ends and the stretch of time for which these stay as they are.
        self._template = b""
        self._ends: Sequence[float] = ()
        self._from = self._until = 0.0

    def render(self, left: Sequence[int], ends: Sequence[float], now: float) -> Headers:
        """Both fields for what each window has left (0 or more) and when it frees, in the order of the windows."""
        if not self._from <= now < self._until or (ends is not self._ends and ends != self._ends):
            self._fill(ends, now)
        return [self._policy, (b"ratelimit", self._template % tuple(left))]

    def _fill(self, ends: Sequence[float], now: float) -> None:
        items: list[str] = []
        self._from, self._until = -inf, inf
        for name, end in zip(self._names, ends, strict=True):
            seconds = ceil(end - now) if now < end < inf else 0
            # Only a quota never frees, and it has no t.
            items.append(f'"{name}";r=%d' + (f";t={seconds}" if end < inf else ""))
            if end < inf:
                self._from = max(self._from, end - seconds)
            if seconds:
                self._until = min(self._until, end - seconds + 1)
        self._template = ", ".join(items).encode()
        self._ends = list(ends)


@lru_cache(maxsize=4_096)
def _static(windows: tuple[Window, ...]) -> tuple[tuple[bytes, bytes], tuple[str, ...]]:
    """What is the same for all keys with equal windows: the policy field and the names."""
    policies = [
        f'"{window.name}";q={window.amount}' + ("" if window.slot == "quota" else f";w={window.seconds}")
        for window in windows
    ]
    policy = (b"ratelimit-policy", ", ".join(policies).encode())
    return policy, tuple(window.name for window in windows)


def with_concurrency(headers: Headers, limit: int, left: int) -> Headers:
    """The same fields with one more item each, for a key of which so many requests may run at once."""
    policy, level = b'"concurrency";q=%d;qu="concurrent-requests"' % limit, b'"concurrency";r=%d' % left
    if not headers:
        return [(b"ratelimit-policy", policy), (b"ratelimit", level)]
    return [(name, value + b", " + more) for (name, value), more in zip(headers, (policy, level), strict=True)]
