"""The gauge: how full a budget is, and how much of its time has passed, as a bar and in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ak_guard.errors import InputError
from ak_guard.fullest import budgets, is_near
from ak_guard.notation import parse_duration

if TYPE_CHECKING:
    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.status import BudgetStatus, Status

#: More windows than these are counted instead of drawn in the list.
SHOWN: Final = 3

_SHARED: Final = "shared-"


@dataclass(frozen=True, slots=True)
class Gauge:
    """One bar. `width`, `held` and `mark` are percent of its length; `mark` is None where no time passes.

    `level` is `full`, `near` or nothing; `percent` and `left` are words.
    """

    label: Markup
    level: str
    percent: Markup
    width: float
    held: float
    mark: float | None
    left: Markup
    exact: Markup
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Gauges:
    """Those of one key. `more` is how many windows the list does not draw."""

    quota: Gauge | None
    windows: tuple[Gauge, ...]

    @property
    def drawn(self) -> tuple[Gauge, ...]:
        return self.windows[:SHOWN]

    @property
    def more(self) -> int:
        return max(0, len(self.windows) - SHOWN)

    @property
    def level(self) -> str:
        """The worst of them."""
        levels = {gauge.level for gauge in (*self.windows, *([self.quota] if self.quota else ()))}
        return "full" if "full" in levels else "near" if "near" in levels else ""


def gauges_of(status: Status | None, tongue: Tongue) -> Gauges:
    """What the limiter's own counters say; without them, no gauge."""
    if status is None:
        return Gauges(None, ())
    windows = tuple(window_gauge(window, tongue) for window in status.windows)
    return Gauges(None if status.quota is None else quota_gauge(status.quota, tongue), windows)


def quota_gauge(quota: BudgetStatus, tongue: Tongue) -> Gauge:
    used, held = _parts(quota)
    return Gauge(
        label=tongue.say("of %(amount)s", amount=quota.limit),
        level=_level(quota),
        percent=tongue.say("Used up") if quota.remaining == 0 else _percent(quota, tongue),
        width=used,
        held=held,
        mark=None,
        left=tongue.say("%(n)s left", n=quota.remaining),
        exact=_exact(quota, tongue),
    )


def window_gauge(window: BudgetStatus, tongue: Tongue) -> Gauge:
    used, held = _parts(window)
    full = window.remaining == 0
    left = tongue.say("not started")
    if window.resets_at is not None:
        span = tongue.until(window.resets_at)
        left = tongue.say("free in %(span)s", span=span) if full else span
    return Gauge(
        label=window_label(window, tongue),
        level=_level(window),
        percent=tongue.say("Full") if full else _percent(window, tongue),
        width=used,
        held=held,
        mark=_mark(window, tongue),
        left=left,
        exact=_exact(window, tongue),
        shared=window.name.startswith(_SHARED),
    )


def window_label(window: BudgetStatus, tongue: Tongue) -> Markup:
    """`5 h`, `1 day`: the length of a window by its name."""
    seconds = length_of(window.name)
    return tongue.say("%(name)s", name=window.name) if seconds is None else tongue.length(seconds)


@lru_cache(maxsize=1_024)
def length_of(name: str) -> int | None:
    """Seconds of the window with this name (`5h`, `shared-1d-calendar`), None for a name that says none."""
    try:
        return parse_duration(name.removeprefix(_SHARED).partition("-")[0])
    except InputError:
        return None


def anchor_words(name: str, tongue: Tongue) -> Markup:
    if name.endswith("-calendar"):
        return tongue.say("by the calendar")
    return tongue.say("sliding") if name.endswith("-sliding") else tongue.say("from the first call")


def stopping(status: Status | None) -> BudgetStatus | None:
    """The budget that stops every request of a key: its quota before its windows."""
    if status is None:
        return None
    return next((budget for budget in budgets(status) if budget.remaining == 0), None)


def _level(budget: BudgetStatus) -> str:
    if budget.remaining == 0:
        return "full"
    return "near" if is_near(budget) else ""


def _percent(budget: BudgetStatus, tongue: Tongue) -> Markup:
    # Rounded down: 99.6 shows 99, because something still fits.
    return tongue.say("%(n)s%%", n=(budget.limit - budget.remaining) * 100 // budget.limit if budget.limit else 0)


def _parts(budget: BudgetStatus) -> tuple[float, float]:
    if not budget.limit:
        return 100.0, 0.0
    used = min(100.0, round(100 * budget.used / budget.limit, 1))
    return used, min(100.0 - used, round(100 * budget.held / budget.limit, 1))


def _mark(window: BudgetStatus, tongue: Tongue) -> float | None:
    length = length_of(window.name)
    # A sliding window has no start from which time could be counted.
    if window.resets_at is None or length is None or window.name.endswith("-sliding"):
        return None
    left = (window.resets_at - tongue.now).total_seconds() / length
    return round(100 * min(1.0, max(0.0, 1 - left)), 1)


def _exact(budget: BudgetStatus, tongue: Tongue) -> Markup:
    values = {"used": budget.used, "held": budget.held, "left": budget.remaining, "limit": budget.limit}
    if budget.held:
        return tongue.say("%(used)s used, %(held)s held, %(left)s of %(limit)s left", **values)
    return tongue.say("%(used)s used, %(left)s of %(limit)s left", **values)


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One budget on the page of a key: its gauge, what kind of window it is, and all numbers with when it resets."""

    gauge: Gauge
    title: Markup
    text: Markup


def budget_lines(status: Status | None, tongue: Tongue) -> list[BudgetLine]:
    """Quota and windows with everything that can be said of them."""
    if status is None:
        return []
    lines = []
    if status.quota is not None:
        lines.append(BudgetLine(quota_gauge(status.quota, tongue), tongue.say("Quota"), _exact(status.quota, tongue)))
    return [*lines, *(_window_line(window, tongue) for window in status.windows)]


def _window_line(window: BudgetStatus, tongue: Tongue) -> BudgetLine:
    parts = [window_label(window, tongue)]
    if window.unit == "requests":
        parts.append(tongue.say("requests"))
    parts.append(anchor_words(window.name, tongue))
    if window.name.startswith(_SHARED):
        parts.append(tongue.say("shared by the group"))
    text = _exact(window, tongue)
    if window.resets_at is not None:
        resets = tongue.say(
            "resets %(moment)s, in %(span)s",
            moment=tongue.moment(window.resets_at),
            span=tongue.until(window.resets_at),
        )
        text = tongue.listed([text, resets])
    else:
        text = tongue.listed([text, tongue.say("not started")])
    return BudgetLine(window_gauge(window, tongue), tongue.listed(parts), text)
