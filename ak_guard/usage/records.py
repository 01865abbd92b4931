"""One request as it is remembered. Never the text of a key and no digest: of an unknown key only its hint is kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final, NamedTuple

from ak_guard.address import parse_address
from ak_guard.notation import MAX_AMOUNT

#: What stands in the place of the key where nobody holds it.
UNKNOWN: Final = ""

MAX_ROUTE: Final = 200
_MAX_METHOD: Final = 16
_MAX_GROUP: Final = 200
_MAX_HINT: Final = 64


class UsageRecord(NamedTuple):
    """What became of one request.

    `at` is when it came, in seconds since the epoch, `duration` how long it took, in seconds. `key_id` is None where
    nobody holds the key; `hint` is then what may be told of it. `route` is the app's own, such as `/items/{id}`, where
    it tells (Starlette and FastAPI do), else the path with `*` for ids, at most 200 characters. `status` is None where
    no response began. `code` is `admitted` or that of the refusal (in report mode: what it would have been). `id` is
    given by the store.
    """

    at: float
    key_id: str | None
    group: str | None
    ip: str | None
    method: str
    route: str
    status: int | None
    code: str
    cost: int
    duration: float
    hint: str = ""
    id: str = ""

    @property
    def moment(self) -> datetime:
        """When it came."""
        return datetime.fromtimestamp(self.at, UTC)

    @property
    def place(self) -> str:
        """Method and route, as routes are summed: `POST /v1/chat/completions`."""
        return f"{self.method} {self.route}"[:MAX_ROUTE]


class KeyUse(NamedTuple):
    """What one key did since some time; an empty `key_id` is that of keys that nobody holds."""

    key_id: str
    calls: int
    refused: int
    cost: int


class LastUsed(NamedTuple):
    """When a key was last presented, and from which address, whatever was answered."""

    at: datetime
    ip: str | None


def bounded(record: UsageRecord) -> UsageRecord:
    """As it may be kept: callers choose their methods and paths, and stores have room for so much."""
    address = None if record.ip is None else parse_address(record.ip)
    return record._replace(
        group=None if record.group is None else _printable(record.group, _MAX_GROUP),
        hint=_printable(record.hint, _MAX_HINT),
        cost=min(record.cost, MAX_AMOUNT),
        method=_printable(record.method, _MAX_METHOD),
        route=_printable(record.route, MAX_ROUTE),
        ip=None if address is None else address.text,
        # Nothing that HTTP knows (RFC 9110, 15), from an app that nobody has held to it.
        status=record.status if record.status is not None and 100 <= record.status <= 999 else None,
    )


def _printable(text: str, longest: int) -> str:
    cut = text[: longest + 1]
    if not cut.isprintable():
        # What would move a cursor or break a row is shown as its escape.
        cut = cut.encode("unicode_escape", "surrogatepass").decode("ascii")
    return cut if len(cut) <= longest else cut[: longest - 1] + "…"
