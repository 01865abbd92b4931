"""What people type, checked field by field: each function returns the value as it is stored, or raises `InputError`."""

from __future__ import annotations

import json
import math
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ak_guard.address import IPSet
from ak_guard.errors import InputError, NotFound
from ak_guard.keys import holds_key
from ak_guard.notation import MAX_AMOUNT, parse_duration
from ak_guard.records import DEFAULT_GROUP, Limit, checked_text, parse_limits, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_PAGE: Final = 1_000
#: Of randomness in the id of a key.
ID_BYTES: Final = 10
_ID: Final = re.compile(rf"key_[0-9a-f]{{{2 * ID_BYTES}}}")
MAX_CONCURRENCY: Final = 1_000_000
_MAX_METADATA_BYTES: Final = 16_384
_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


def key_id(text: str) -> str:
    """Return what looks like an id; raises `NotFound`. Anything else may be a secret pasted by mistake: never told."""
    if not _ID.fullmatch(text):
        raise NotFound("no key has this id")
    return text


def name(value: object) -> str:
    return _no_key("name", checked_text("name", value))


def group(value: object) -> str:
    return DEFAULT_GROUP if value is None else checked_text("group", value)


def owner(value: object) -> str | None:
    return None if value is None else _no_key("owner", checked_text("owner", value))


def _no_key(field: str, text: str) -> str:
    """A text that everybody may read: a key pasted by mistake must not stand there. It is not repeated either."""
    if holds_key(text):
        raise InputError(field, "looks like the text of a key, which is kept nowhere; write something else")
    return text


def networks(field: str, values: Iterable[str] | None) -> tuple[str, ...]:
    return () if values is None else IPSet(values, field).entries


def quota(value: object) -> int | None:
    return None if value is None else units("quota", value)


def max_concurrency(value: object) -> int | None:
    return None if value is None else whole("max_concurrency", value, least=1, most=MAX_CONCURRENCY)


def units(field: str, value: object) -> int:
    return whole(field, value, least=0, most=MAX_AMOUNT)


def page_size(value: object) -> int:
    """How many to list at once."""
    return whole("limit", value, least=1, most=MAX_PAGE)


def limits(values: Iterable[str | Limit] | None) -> tuple[Limit, ...] | None:
    return None if values is None else parse_limits(values)


def metadata(value: Mapping[str, Any] | None) -> dict[str, Any]:
    if value is None:
        return {}
    try:
        text = json.dumps(dict(value), allow_nan=False)
        plain = json.dumps(dict(value), ensure_ascii=False)
        # Half a surrogate pair is no text that could be told again.
        plain.encode()
    except (TypeError, ValueError, RecursionError):
        raise InputError("metadata", "must be a mapping that JSON can hold") from None
    # As people read it: an escape could pass for the beginning of a key.
    _no_key("metadata", plain)
    if len(text) > _MAX_METADATA_BYTES:
        raise InputError("metadata", f"must fit into {_MAX_METADATA_BYTES} bytes of JSON")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def expiry(at: datetime | str | None, within: str | timedelta | None, now: float) -> datetime | None:
    """An expiry from a moment or a duration; a datetime without a zone is UTC."""
    if at is not None and within is not None:
        raise InputError("expires_in", "cannot be given together with expires_at")
    if within is not None:
        return datetime.fromtimestamp(now + parse_duration(within, "expires_in"), UTC)
    return None if at is None else _datetime("expires_at", at)


def moment(field: str, value: datetime | str | float) -> float:
    """Seconds since the epoch from a datetime, ISO text or seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    return _datetime(field, value).timestamp()


def _datetime(field: str, value: object) -> datetime:
    try:
        read = value if isinstance(value, datetime) else datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise InputError(field, f"{value!r} is no time; write 2027-01-31T12:00:00Z") from None
    try:
        aware = (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        # In its own zone it is a year that Python knows, in UTC it is none.
        aware = None
    if aware is None or not datetime(1970, 1, 2, tzinfo=UTC) < aware < _LATEST:
        raise InputError(field, f"{value!r} must lie between 1970 and 9998")
    return aware


def grace(value: str | timedelta) -> int:
    """How long an old secret works on, in seconds; nothing where that is 0."""
    if value == timedelta(0) or (isinstance(value, str) and value.strip() in {"0", "0s"}):
        return 0
    return parse_duration(value, "grace")


def wait(field: str, seconds: float | None) -> None:
    """Raise `InputError` for what is no time to wait, in seconds; None waits for nothing."""
    number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (number and 0 <= seconds < math.inf):
        raise InputError(field, f"{seconds!r} must be a number of seconds from 0 up")
