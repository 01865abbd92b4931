"""The words of the house: what a key, a group and a limit are, and what is decided about a request.

`ApiKey`, `Group` and `Limit` are frozen. `Denial`, `Admission` and `Decision` are made per request and only slotted,
because a frozen dataclass costs five times as much to make.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ak_guard.errors import ConfigurationError, InputError
from ak_guard.notation import (
    DAY,
    MAX_AMOUNT,
    MAX_SECONDS,
    WEEKDAYS,
    Anchor,
    Unit,
    duration_text,
    known_zone,
    parse_limit,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

T = TypeVar("T")

#: Names that say environment and business, as examples.
SUGGESTED_NAMES: Final = ("prod-api", "staging-web", "dev-local", "billing-worker", "customer-support-tool")

DEFAULT_GROUP: Final = "default"

# Exponents of two digits: Fraction("1e99999999") would compute for a minute.
_NUMBER: Final = re.compile(r"[0-9]{1,40}(?:\.[0-9]{0,40})?(?:e[+-]?[0-9]{1,2})?|[0-9]{1,40}/[0-9]{1,40}", re.ASCII)

_ENVIRONMENT_OF: Final = {
    "prod": "production",
    "production": "production",
    "live": "production",
    "staging": "staging",
    "stage": "staging",
    "preprod": "staging",
    "dev": "development",
    "development": "development",
    "local": "development",
    "test": "test",
    "testing": "test",
    "qa": "test",
    "ci": "test",
}
#: What the name of a key can say about where it is used.
ENVIRONMENTS: Final = tuple(dict.fromkeys(_ENVIRONMENT_OF.values()))


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `amount` within a window of `seconds`.

    `unit` is what is counted: the cost (`units`) or the calls (`requests`). `anchor` is where a window begins: with the
    first use after the last one ended, with the calendar of `zone` (and `week_start`, 0 for Monday), or never
    (`sliding`: two buckets aligned to the epoch, the older one weighted; a true window is bounded by twice the amount).
    """

    amount: int
    seconds: int
    unit: Unit = "units"
    anchor: Anchor = "first-use"
    zone: str = "UTC"
    week_start: int = 0

    def __post_init__(self) -> None:
        whole("amount", self.amount, least=1, most=MAX_AMOUNT)
        whole("seconds", self.seconds, least=1, most=MAX_SECONDS)
        _one_of("unit", self.unit, ("units", "requests"))
        _one_of("anchor", self.anchor, ("first-use", "calendar", "sliding"))
        whole("week_start", self.week_start, least=0, most=6)
        if self.anchor == "calendar":
            if self.zone != "UTC" and not known_zone(self.zone):
                raise InputError("zone", f"{self.zone!r} is no time zone of this machine; write one like Europe/Berlin")
            if self.seconds > DAY and self.seconds % DAY:
                raise InputError("seconds", "a calendar window of more than a day must be whole days")
        elif self.zone != "UTC" or self.week_start:
            raise InputError("zone", "a time zone and the start of a week belong to calendar windows only")

    @classmethod
    def parse(cls, value: str | Limit, field: str = "limits") -> Limit:
        """Read `1000/5h`, `500 requests/1d calendar Europe/Berlin` or `10 per minute`; raises `InputError`."""
        if isinstance(value, Limit):
            return value
        try:
            return cls(*parse_limit(value, field))
        except InputError as error:
            raise error if error.field == field else InputError(field, f"{value!r}: {error.problem}") from None

    @property
    def name(self) -> str:
        """The name clients see in `RateLimit`: `5h`, `1d-requests`, `7d-calendar`."""
        unit = "" if self.unit == "units" else f"-{self.unit}"
        anchor = "" if self.anchor == "first-use" else f"-{self.anchor}"
        return duration_text(self.seconds) + unit + anchor

    def __str__(self) -> str:
        unit = "" if self.unit == "units" else f" {self.unit}"
        words: list[str] = [] if self.anchor == "first-use" else [self.anchor]
        if self.anchor == "calendar":
            words += [self.zone] if self.zone != "UTC" else []
            words += [WEEKDAYS[self.week_start]] if self.week_start else []
        return " ".join([f"{self.amount}{unit}/{duration_text(self.seconds)}", *words])


def parse_limits(values: Iterable[str | Limit], field: str = "limits") -> tuple[Limit, ...]:
    """Read several limits; no two may share length, anchor and unit, because they would share one counter."""
    limits = tuple(Limit.parse(value, field) for value in listed(field, values, "1000/5h"))
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise InputError(field, f"{name} is named twice; one limit per window")
    return limits


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as its administrator sees it. The secret itself is nowhere in here.

    `allow_ips` and `deny_ips` are normalised networks, empty for no rule. `quota` is in units, None for no quota.
    `limits` None takes the group's, empty means none. `max_concurrency` is how many requests may run at once, None for
    any number. `hint` is the prefix and the last four characters. `replaces` is the id of the key that this one was
    made for after a leak, and `replaced_by` leads the other way.
    """

    id: str
    name: str
    group: str = DEFAULT_GROUP
    enabled: bool = True
    created_at: datetime | None = None
    updated_at: datetime | None = None
    expires_at: datetime | None = None
    allow_ips: tuple[str, ...] = ()
    deny_ips: tuple[str, ...] = ()
    quota: int | None = None
    limits: tuple[Limit, ...] | None = None
    owner: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    replaces: str | None = None
    replaced_by: str | None = None
    max_concurrency: int | None = None

    @property
    def environment(self) -> str | None:
        """`production`, `staging`, `development` or `test` when the name says so (`prod-api`), else None."""
        words = self.name.lower().replace("_", "-").replace(".", "-").split("-")
        return next((found for word in words if (found := environment_of(word)) is not None), None)


@dataclass(frozen=True, slots=True, init=False)
class Group:
    """What keys of one group may call, and what they pay.

    `routes` such as `"POST /v1/chat/*"`, `"/v1/models"` or `"*"`; none means all. `limits` hold for each key that names
    none of its own, `shared_limits` for all keys of the group together. Charged is `ceil(cost * multiplier)`.
    """

    name: str
    routes: tuple[str, ...]
    limits: tuple[Limit, ...]
    shared_limits: tuple[Limit, ...]
    multiplier: Fraction
    enabled: bool

    def __init__(
        self,
        name: str,
        routes: Iterable[str] = (),
        limits: Iterable[str | Limit] = (),
        shared_limits: Iterable[str | Limit] = (),
        multiplier: float | str | Fraction = 1,
        enabled: bool = True,
    ) -> None:
        put = object.__setattr__
        put(self, "name", checked_text("name", name))
        put(self, "routes", checked_routes("routes", routes))
        put(self, "limits", parse_limits(limits))
        put(self, "shared_limits", parse_limits(shared_limits, "shared_limits"))
        put(self, "multiplier", _multiplier(multiplier))
        put(self, "enabled", checked_flag("enabled", enabled))


@dataclass(slots=True)
class Denial:
    """A refusal. `code` decides status and body (see `replies`), `detail` is for the caller's eyes.

    `retry_after` is in whole seconds, None where waiting does not help. `full` names the budgets that were full.
    """

    code: str
    detail: str = ""
    retry_after: int | None = None
    full: tuple[str, ...] = ()


class Admission:
    """A request that was let in: `request.state.ak_guard`.

    `client` is the address that counted, None when the server gave none.
    """

    __slots__ = ("client", "key", "realm", "receipt")

    def __init__(self, key: ApiKey, client: str | None, receipt: Any, realm: object) -> None:
        self.key: ApiKey = key
        self.client: str | None = client
        #: What was taken from the budgets; made and typed in `budgets.ledger`.
        self.receipt: Any = receipt
        #: The backend that knows the key. A guard inside with the same one reuses this admission.
        self.realm: object = realm

    @property
    def cost(self) -> int:
        """Units charged so far: `ceil(cost * multiplier)` of the group, and what `charge` added."""
        charged: int = self.receipt.charged
        return charged

    @property
    def remaining(self) -> int | None:
        """What is left in the tightest budget, None for a key without budgets."""
        remaining: int | None = self.receipt.remaining
        return remaining

    def charge(self, units: int) -> None:
        """Charge `units` more (before the group's multiplier), or give some of the cost back with a negative number.

        Never fails for lack of budget: it may pass a limit, after which the key is refused until that resets. May be
        called until the response has ended; raises `RuntimeError` after that, `ValueError` for anything but whole
        units or for a refund of more than was charged.
        """
        self.receipt.charge(units)

    def __repr__(self) -> str:
        return f"Admission(key={self.key.id!r}, client={self.client!r}, cost={self.cost})"


@dataclass(slots=True)
class Decision:
    """What became of one request, told to `on_decision` after the response.

    `code` is `admitted` or the code of the refusal. In report mode a refusal has `enforced` False and `status` is what
    the app answered. `status` is None when no response began. `duration` is in seconds.
    """

    code: str
    enforced: bool
    key: ApiKey | None
    client: str | None
    method: str
    path: str
    cost: int
    status: int | None
    at: float
    duration: float

    @property
    def admitted(self) -> bool:
        return self.code == ADMITTED


ADMITTED: Final = "admitted"


def environment_of(word: str) -> str | None:
    """What one word of a name says of the environment, if it says anything."""
    return _ENVIRONMENT_OF.get(word.lower())


def checked_list(setting: str, values: object, example: str) -> list[Any]:
    """The values of a setting that is a list, none of them looked at yet. Raises `ConfigurationError` naming it."""
    if isinstance(values, str) or not isinstance(values, Iterable):
        shown = repr(values) if isinstance(values, str) else example
        raise ConfigurationError(f"{setting}: {values!r} must be a list, such as [{shown}]")
    return list(values)


def checked_text(field: str, value: object, longest: int = 200) -> str:
    """Return `value` when it is printable text that is not blank; raises `InputError` naming `field`."""
    if not isinstance(value, str) or not value.strip() or not value.isprintable() or len(value) > longest:
        raise InputError(field, f"must be 1 to {longest} printable characters")
    return value


def checked_flag(field: str, value: object) -> bool:
    """Return `value` when it is True or False; raises `InputError` naming `field`."""
    if not isinstance(value, bool):
        raise InputError(field, f"{value!r} must be True or False")
    return value


def checked_routes(field: str, routes: Iterable[str]) -> tuple[str, ...]:
    """Return `routes` as a tuple; raises `InputError` naming `field` and what is no route."""
    for route in (kept := listed(field, routes, "/v1/models")):
        if not isinstance(route, str):
            raise InputError(field, f"{route!r} is no route; write '/v1/models', 'POST /v1/chat/*' or '*'")
        method, _, path = route.rpartition(" ")
        if not (path == "*" or path.startswith("/")) or (method and not method.isalpha()):
            raise InputError(field, f"{route!r} is no route; write '/v1/models', 'POST /v1/chat/*' or '*'")
        if any("*" in part and part != "*" for part in path.rstrip("*").split("/")):
            raise InputError(field, f"{route!r}: a * within a path stands for one whole segment, such as /v1/*/status")
    return kept


def _multiplier(value: float | str | Fraction) -> Fraction:
    # Through text, so that 0.1 is a tenth and not the nearest binary fraction.
    text = str(value)
    if isinstance(value, bool) or not _NUMBER.fullmatch(text):
        raise InputError("multiplier", f"{text[:40]!r} must be a number from 0 up, such as 2, 0.5 or 1/3")
    try:
        multiplier = Fraction(text)
    except ZeroDivisionError:
        raise InputError("multiplier", f"{text!r} divides by nothing") from None
    if multiplier > MAX_AMOUNT:
        raise InputError("multiplier", f"{text!r} must be at most {MAX_AMOUNT}")
    return multiplier


def whole(field: str, value: object, *, least: int, most: int) -> int:
    """Return `value` when it is a whole number in the range; raises `InputError` naming `field`."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(field, f"{value!r} must be a whole number from {least} to {most}")
    return value


def listed(field: str, values: Iterable[T], example: str) -> tuple[T, ...]:
    """Return `values` as a tuple; a text, a number or None where a list belongs raises `InputError` naming `field`."""
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InputError(field, f"{values!r} must be a list, such as [{example!r}]")
    return tuple(values)


def _one_of(field: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InputError(field, f"{value!r} must be one of {', '.join(allowed)}")
