"""Which keys to list, in which order and from which place on: the words of it, and the order as Python knows it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from ak_guard.address import parse_address
from ak_guard.errors import InputError
from ak_guard.notation import DAY, MAX_AMOUNT
from ak_guard.records import ENVIRONMENTS, checked_text

if TYPE_CHECKING:
    from datetime import datetime

    from ak_guard.records import ApiKey

State = Literal["active", "disabled", "expired", "expiring", "endless"]

#: What a list can be narrowed to. `expiring` and `endless` are parts of `active`.
STATES: Final[tuple[State, ...]] = get_args(State)
#: An environment to ask for where the name of a key says none.
NO_ENVIRONMENT: Final = "none"
#: A key that ends within so many seconds is expiring.
EXPIRING_SECONDS: Final = 7 * DAY

#: A key that works and was not used for so many days should perhaps go.
UNUSED_DAYS: Final = 90
#: When a key was last used is kept for a little longer than this.
MOST_UNUSED_DAYS: Final = 365

# Name, hint and owner, of which some letters become three without case.
_LONGEST_TEXT: Final = 2_000

SortField = Literal["name", "created", "updated", "expires", "quota", "last_used"]

#: What a list can be sorted by.
SORT_FIELDS: Final[tuple[SortField, ...]] = get_args(SortField)


class KeyFilter(NamedTuple):
    """Which keys to list, all conditions together.

    `search` is part of the name, hint or owner, whatever its case, a whole id, or the address of the last use. `state`
    is one of `STATES`, `environment` one that names can say (`production` …) or `none`. `used` says whether the key was
    ever presented, `unused_days` for how many days at least it was neither presented nor created.
    """

    search: str | None = None
    group: str | None = None
    enabled: bool | None = None
    owner: str | None = None
    state: State | None = None
    environment: str | None = None
    used: bool | None = None
    ids: tuple[str, ...] | None = None
    unused_days: int | None = None

    @property
    def searched_address(self) -> str | None:
        """The address that is searched for, as records have it; None where something else is."""
        address = None if self.search is None else parse_address(self.search.strip())
        return None if address is None else address.text

    def checked(self) -> KeyFilter:
        """Itself, when its words are such as can be asked for; raises `InputError` naming the field."""
        for field in ("search", "group", "owner"):
            if (text := getattr(self, field)) is not None:
                checked_text(field, text)
        if self.state is not None and self.state not in STATES:
            raise InputError("state", f"{self.state!r} must be one of {', '.join(STATES)}")
        environments = (*ENVIRONMENTS, NO_ENVIRONMENT)
        if self.environment is not None and self.environment not in environments:
            raise InputError("environment", f"{self.environment!r} must be one of {', '.join(environments)}")
        if self.unused_days is not None and not 1 <= self.unused_days <= MOST_UNUSED_DAYS:
            raise InputError("unused_days", f"{self.unused_days} must be a number from 1 to {MOST_UNUSED_DAYS}")
        return self


ALL_KEYS: Final = KeyFilter()


class Order(NamedTuple):
    """By which field, and whether the greatest comes first. Equal ones stand by id.

    Names are compared without case. No expiry is later and no quota is more than any; never used is before any use.
    """

    field: SortField = "created"
    descending: bool = True

    @classmethod
    def parse(cls, text: str) -> Order:
        """Read `name` or, the greatest first, `-name`; raises `InputError` naming `sort`."""
        name = text.removeprefix("-")
        for field in SORT_FIELDS:
            if field == name:
                return cls(field, text.startswith("-"))
        raise InputError("sort", f"{text!r} must be one of {', '.join(SORT_FIELDS)}; a minus turns the order round")

    @property
    def may_miss(self) -> bool:
        """Whether a key may have no value in it."""
        return self.field in {"expires", "quota"} or self.nothing_first

    @property
    def nothing_first(self) -> bool:
        """Whether a key without a value comes first when the least does."""
        return self.field == "last_used"

    def __str__(self) -> str:
        return f"{'-' if self.descending else ''}{self.field}"


class Place(NamedTuple):
    """Where a key stands in an order: the value it is sorted by and its id."""

    value: str | float | None
    key_id: str


class Walk(NamedTuple):
    """At most `limit` keys, those nearest beyond `place` first; with `back` the other way round.

    With `reach` a store need not look further than so many keys along the order of last uses, and finds fewer where
    matching ones are rare. `matching` is how many match in all where that was counted.
    """

    order: Order
    limit: int
    place: Place | None = None
    back: bool = False
    reach: int | None = None
    matching: int | None = None

    @property
    def descending(self) -> bool:
        """Whether the greatest is met first."""
        return self.order.descending != self.back

    def one_more(self) -> Walk:
        """The same and one key further, which tells whether there is another page."""
        return self._replace(limit=self.limit + 1)


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A key as it stands in a list.

    `last_used_at` and `last_used_ip` are None for a key that was never used. `old_secret_until` is set while a secret
    that was rotated out still works.
    """

    key: ApiKey
    last_used_at: datetime | None = None
    last_used_ip: str | None = None
    old_secret_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class KeyCounts:
    """How many keys there are in all and in each of `STATES`."""

    total: int = 0
    active: int = 0
    disabled: int = 0
    expired: int = 0
    expiring: int = 0
    endless: int = 0

    def of(self, state: State | None) -> int:
        """How many are in this state, None for all."""
        found: int = self.total if state is None else getattr(self, state)
        return found


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys in order, `next` and `previous` for the pages beside it (None where there is none), and how many match.

    `counts` are those of all states that the other conditions leave.
    """

    items: tuple[ListedKey, ...]
    next: str | None
    previous: str | None
    total: int
    counts: KeyCounts


def folded(key: ApiKey) -> str:
    """Name, hint and owner without case: what is searched, and the order of names."""
    return " ".join([key.name, key.hint, *([] if key.owner is None else [key.owner])]).casefold()


def standing(listed: ListedKey, order: Order) -> Place:
    """Where a key stands in an order."""
    key = listed.key
    values: dict[SortField, str | float | None] = {
        "name": folded(key),
        "created": _seconds(key.created_at),
        "updated": _seconds(key.updated_at),
        "expires": _seconds(key.expires_at),
        "quota": key.quota,
        "last_used": _seconds(listed.last_used_at),
    }
    return Place(values[order.field], key.id)


def rank(place: Place, order: Order) -> tuple[bool, str | float, str]:
    """What to sort places of one order by."""
    return (place.value is None) != order.nothing_first, "" if place.value is None else place.value, place.key_id


def cursor(place: Place, order: Order) -> str:
    """A place as text for whoever asks for the page beside it."""
    text = json.dumps([str(order), *place], separators=(",", ":"), ensure_ascii=False)
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def read_cursor(text: str, order: Order, field: str) -> Place:
    """The place that `cursor` wrote; raises `InputError` naming `field` for any other text."""
    wrong = InputError(field, "is no place in this list; take it from the page before")
    try:
        sort, value, key_id = json.loads(base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)))
    except (ValueError, TypeError, RecursionError):
        raise wrong from None
    if sort != str(order):
        if isinstance(sort, str) and sort.removeprefix("-") in SORT_FIELDS:
            raise InputError(field, f"belongs to the order {sort}, not {order}; begin with the first page")
        raise wrong
    by_text = order.field == "name"
    if not (_is_text(key_id) and (_is_text(value) if by_text else value is None or _is_number(value))):
        raise wrong
    return Place(value, key_id)


def matches(listed: ListedKey, where: KeyFilter, now: float) -> bool:
    """Whether a key is one of those asked for; `now` decides what has expired."""
    key = listed.key
    wanted_environment = None if where.environment == NO_ENVIRONMENT else where.environment
    return (
        (where.search is None or _is_found(listed, where.search, where.searched_address))
        and (where.group is None or key.group == where.group)
        and (where.enabled is None or key.enabled == where.enabled)
        and (where.owner is None or key.owner == where.owner)
        and (where.ids is None or key.id in where.ids)
        and (where.environment is None or key.environment == wanted_environment)
        and (where.used is None or (listed.last_used_at is not None) == where.used)
        and (where.unused_days is None or _is_unused(listed, now - where.unused_days * DAY))
        and (where.state is None or where.state in states_of(key, now))
    )


def _is_found(listed: ListedKey, text: str, address: str | None) -> bool:
    if address is not None and address == listed.last_used_ip:
        return True
    return text.casefold() in folded(listed.key) or text == listed.key.id


def _is_unused(listed: ListedKey, before: float) -> bool:
    known = (_seconds(listed.key.created_at), _seconds(listed.last_used_at))
    return all(moment is None or moment < before for moment in known)


def states_of(key: ApiKey, now: float) -> tuple[State, ...]:
    """The states that a key is in."""
    if not key.enabled:
        return ("disabled",)
    ends = _seconds(key.expires_at)
    if ends is None:
        return ("active", "endless")
    if ends <= now:
        return ("expired",)
    return ("active", "expiring") if ends <= now + EXPIRING_SECONDS else ("active",)


def _seconds(moment: datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value) <= _LONGEST_TEXT


def _is_number(value: object) -> bool:
    # What no database can hold was never in this list; nor was what is not finite, which is never less than anything.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MAX_AMOUNT


def page_of(walk: Walk, found: list[ListedKey], where: KeyFilter, counts: KeyCounts) -> KeyPage:
    """The page that a walk of one more than `walk.limit` found."""
    kept = found[: walk.limit]
    more = len(found) > walk.limit
    if walk.back:
        kept.reverse()
    has_next, has_previous = (bool(kept), more) if walk.back else (more, walk.place is not None and bool(kept))
    return KeyPage(
        items=tuple(kept),
        next=cursor(standing(kept[-1], walk.order), walk.order) if has_next else None,
        previous=cursor(standing(kept[0], walk.order), walk.order) if has_previous else None,
        total=counts.of(where.state),
        counts=counts,
    )
