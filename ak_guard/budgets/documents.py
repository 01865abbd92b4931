"""Windows, takes and what came of them as JSON, the same on both ends of the key service: `admin/protocol.md` has it.

Generations name a window and nothing else; they are text, because many languages have no whole numbers of 63 bits. What
never comes, the end of a quota for one, is null.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from ak_guard.budgets.base import Ask, Change, Grant, Lease, Level, Shortfall
from ak_guard.budgets.slots import Share
from ak_guard.budgets.windows import Quota, Window
from ak_guard.errors import BudgetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ak_guard.budgets.slots import Stake


def window_document(window: Window) -> dict[str, Any]:
    return {
        "amount": window.amount,
        "seconds": None if isinstance(window, Quota) else window.seconds,
        "anchor": window.anchor,
        "unit": window.unit,
        "zone": window.zone,
        "week_start": window.week_start,
    }


def window_from(document: Mapping[str, Any]) -> Window:
    """A window of a document that was checked."""
    if document["seconds"] is None:
        return Quota(document["amount"])
    return Window(
        document["amount"],
        document["seconds"],
        anchor=document["anchor"],
        unit=document["unit"],
        zone=document["zone"],
        week_start=document["week_start"],
    )


def ask_document(ask: Ask) -> dict[str, Any]:
    return {"window": window_document(ask.window), "need": ask.need, "extra": ask.extra}


def ask_from(document: Mapping[str, Any]) -> Ask:
    return Ask(window_from(document["window"]), document["need"], document["extra"])


def lease_document(lease: Lease) -> dict[str, Any]:
    return {**lease._asdict(), "unspent": dict(lease.unspent)}


def lease_from(document: Mapping[str, Any]) -> Lease:
    return Lease(**document)


def change_document(change: Change) -> dict[str, Any]:
    generation = None if change.generation is None else str(change.generation)
    return {"window": window_document(change.window), "units": change.units, "generation": generation}


def change_from(document: Mapping[str, Any]) -> Change:
    generation = document["generation"]
    return Change(window_from(document["window"]), document["units"], None if generation is None else int(generation))


def outcome_document(outcome: Grant | Shortfall, ahead: float) -> dict[str, Any]:
    """`ahead` is by how many seconds the clock of whoever asked is ahead of the one that decided."""
    ends = [_finite(end, ahead) for end in outcome.ends]
    if isinstance(outcome, Grant):
        generations = [str(generation) for generation in outcome.generations]
        taken = {"taken": outcome.taken, "generations": generations}
        return {"granted": True, "used": outcome.used, "ends": ends, **taken, "full": [], "retry_at": None}
    retry_at = None if outcome.retry_at is None else outcome.retry_at + ahead
    nothing: dict[str, Any] = {"taken": [], "generations": []}
    return {"granted": False, "used": outcome.used, "ends": ends, **nothing, "full": outcome.full, "retry_at": retry_at}


def outcome_from(document: object, asks: Sequence[Ask], now: float) -> Grant | Shortfall:
    """Read what came of these asks, made at `now`.

    Raises `BudgetError` for an answer that cannot be understood, and for one that cannot be: more than was asked for,
    more than a limit, or a window that is full although it has ended.
    """
    count = len(asks)
    try:
        answer = cast("Mapping[str, Any]", document)
        used = _whole_numbers(answer["used"], count)
        ends = [_moment(end) for end in _listed(answer["ends"], count)]
        if _bool(answer["granted"]):
            generations = [int(generation) for generation in _listed(answer["generations"], count)]
            taken = _whole_numbers(answer["taken"], count)
            if not all(map(_could_be, asks, taken, used)):
                raise ValueError("more than was asked for")
            return Grant(taken, used, ends, generations)
        full = _whole_numbers(answer["full"], None)
        if not full or max(full) >= count:
            raise ValueError("nothing is full")
        if any(ends[index] <= now for index in full):
            raise ValueError("full, and over")
        retry_at = answer.get("retry_at")
        return Shortfall(full, used, ends, None if retry_at is None else _moment(retry_at))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(error) from error


def level_document(level: Level, ahead: float) -> dict[str, Any]:
    return {
        "used": level.used,
        "held": level.held,
        "start": None if level.start is None else level.start + ahead,
        "end": None if level.end is None else _finite(level.end, ahead),
        "generation": str(level.generation),
    }


def levels_from(document: object, count: int) -> list[Level]:
    """Read how full `count` windows are. Raises `BudgetError` for an answer that cannot be understood."""
    try:
        levels = _listed(cast("Mapping[str, Any]", document)["levels"], count)
        return [_level(level) for level in levels]
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(error) from error


def share_from(document: object, stake: Stake) -> Share:
    """Read what a worker holds. Raises `BudgetError` for what cannot be understood or is more than it wanted."""
    try:
        answer = cast("Mapping[str, Any]", document)
        held, others = _whole_numbers([answer["held"], answer["others"]], 2)
        if held > max(stake.floor, min(stake.want, stake.limit)):
            raise ValueError("more than was wanted")
        return Share(held, others, _bool(answer["wanted"]))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(error) from error


def held_from(document: object, count: int) -> list[int]:
    """Read how many slots of `count` subjects are held. Raises `BudgetError` for what cannot be understood."""
    try:
        return _whole_numbers(cast("Mapping[str, Any]", document)["held"], count)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(error) from error


def _could_be(ask: Ask, taken: int, used: int) -> bool:
    """Whether a take answers an ask: all that is needed, at most the extra beside it, and within the limit."""
    if not ask.need <= taken <= ask.need + ask.extra:
        return False
    return not taken or taken <= used <= ask.window.amount


def _level(document: Mapping[str, Any]) -> Level:
    used, held = _whole_numbers([document["used"], document["held"]], 2)
    start, end = (None if document[name] is None else _moment(document[name]) for name in ("start", "end"))
    return Level(used, held, start, end, int(document["generation"]))


def _finite(moment: float, ahead: float) -> float | None:
    return None if math.isinf(moment) else moment + ahead


def _moment(value: object) -> float:
    if value is None:
        return math.inf
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise TypeError("no time")
    return float(value)


def _bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value


def _whole_numbers(values: object, count: int | None) -> list[int]:
    listed = _listed(values, count)
    if any(not isinstance(value, int) or isinstance(value, bool) or value < 0 for value in listed):
        raise TypeError("no whole numbers")
    return listed


def _listed(values: object, count: int | None) -> list[Any]:
    if not isinstance(values, list) or (count is not None and len(values) != count):
        raise TypeError("no list of the right length")
    return values


def _unreadable(error: Exception) -> BudgetError:
    return BudgetError(f"the key service gave an answer that cannot be read ({type(error).__name__})")
