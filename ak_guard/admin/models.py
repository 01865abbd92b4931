"""What the key service takes and gives, for validation and for its OpenAPI document."""

# No `from __future__ import annotations`, and types are imported for good: FastAPI reads them when the app is made.

from typing import Annotated, Any, ClassVar, Final, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic.functional_validators import AfterValidator, BeforeValidator

from ak_guard.inputs import MAX_CONCURRENCY as MAX_SLOTS
from ak_guard.notation import MAX_AMOUNT, MAX_SECONDS, Anchor, Unit, known_zone

#: So many windows, settlements and the like one request may name.
MAX_WINDOWS: Final = 64
MAX_SETTLEMENTS: Final = 1_000
MAX_RECORDS: Final = 2_000
#: A poll waits no longer for a change, in seconds.
MAX_WAIT: Final = 25.0
#: A lease lasts no longer, in seconds.
MAX_LEASE: Final = 60.0

# In seconds since the epoch: the year 4147.
_LATEST: Final = 2.0**36
# What fits into 63 bits.
_GENERATION: Final = "^[0-9]{1,18}$|^[1-8][0-9]{18}$"


def _whole(value: object) -> object:
    """In JSON 3.0 is a whole number, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE: Final = BeforeValidator(_whole)


def _zone(name: str) -> str:
    if not known_zone(name):
        raise ValueError("no time zone of this machine")
    return name


Digest = Annotated[
    str,
    Field(
        pattern="^[0-9a-f]{64}$",
        min_length=64,
        max_length=64,
        description="SHA-256 of the key's text, in lower-case hex.",
    ),
]
Id = Annotated[str, Field(pattern="^[0-9A-Za-z_-]+$", min_length=1, max_length=64)]
Name = Annotated[str, Field(pattern="^[ -~]+$", min_length=1, max_length=64)]
Subject = Annotated[
    str,
    Field(
        pattern="^(key|group)/[^\\x00-\\x1f\\x7f]+$",
        min_length=5,
        max_length=210,
        description="Whose windows: `key/` and an id, or `group/` and a name.",
    ),
]
Units = Annotated[int, Field(ge=0, le=MAX_AMOUNT), WHOLE]
Now = Annotated[float, Field(ge=0, le=_LATEST, description="The caller's time, in seconds since the epoch.")]
Zone = Annotated[
    str,
    AfterValidator(_zone),
    WithJsonSchema({"type": "string", "enum": sorted({"UTC", *available_timezones()}), "default": "UTC"}),
]
Generation = Annotated[str, Field(pattern=_GENERATION, min_length=1, max_length=19)]


class Asked(BaseModel):
    """What is sent. A member that is not known here is refused, and so is a value of another kind."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Told(BaseModel):
    """What is answered. More members may come with time."""


class Resolve(Asked):
    digest: Digest


class Window(Asked):
    """A limit, or with `seconds` null a quota, which has no end."""

    amount: Units
    seconds: Annotated[int, Field(ge=1, le=MAX_SECONDS), WHOLE] | None
    anchor: Anchor = "first-use"
    unit: Unit = "units"
    zone: Zone = "UTC"
    week_start: Annotated[int, Field(ge=0, le=6, description="0 is Monday."), WHOLE] = 0


class Ask(Asked):
    """`need` or nothing, and up to `extra` beyond it where there is plenty."""

    window: Window
    need: Units
    extra: Units = 0


class Lease(Asked):
    """The name under which the take can be given back within `seconds`."""

    id: Id
    worker: Id
    seconds: Annotated[float, Field(gt=0, le=MAX_LEASE)]
    renews: Id | Literal[""] = Field("", description="A lease that ends with this call, whatever comes of the take.")
    unspent: dict[str, Units] = Field({}, description="What goes back of it, by slot.", max_length=MAX_WINDOWS)


class Acquire(Asked):
    subject: Subject
    asks: Annotated[list[Ask], Field(max_length=MAX_WINDOWS)]
    lease: Lease | None = None
    now: Now
    call: Id | None = Field(None, description="The same for a call that is sent again because its answer was lost.")


class GiveBack(Asked):
    lease: Id
    unspent: dict[str, Units] = Field(max_length=MAX_WINDOWS)


class Peek(Asked):
    subject: Subject
    windows: Annotated[list[Window], Field(max_length=MAX_WINDOWS)]
    now: Now
    need: Units = 0


class Restart(Asked):
    subject: Subject
    windows: Annotated[list[Window], Field(max_length=MAX_WINDOWS)] | None = Field(
        description="Which windows; null for all counters of a subject that is gone for good."
    )


class Change(Asked):
    """Units that are added to a window, or given back where negative."""

    window: Window
    units: Annotated[int, Field(ge=-MAX_AMOUNT, le=MAX_AMOUNT), WHOLE]
    generation: Generation | None = Field(description="The window it was taken from; null for the one that is open.")


class Settlement(Asked):
    subject: Subject
    at: Now
    changes: Annotated[list[Change], Field(max_length=MAX_WINDOWS)]


class Settle(Asked):
    batch: Id
    now: Now
    settlements: Annotated[list[Settlement], Field(max_length=MAX_SETTLEMENTS)]
    known: Annotated[list[Id], Field(max_length=MAX_SETTLEMENTS)] = Field(
        [], description="Batches whose confirmation has come, so that their ids can be forgotten."
    )


class Report(Asked):
    """What a worker says of itself."""

    name: Annotated[str, Field(pattern="^[^\\x00-\\x1f\\x7f]+$", min_length=1, max_length=200)]
    stale_seconds: Annotated[float, Field(ge=0, le=MAX_SECONDS)]
    counters: Annotated[
        list[Annotated[str, Field(pattern="^[^\\x00-\\x1f\\x7f]*$", max_length=200)]], Field(max_length=16)
    ]
    revision: Annotated[int, Field(ge=0, le=2**53), WHOLE] | None = Field(
        description="The newest change it has applied."
    )


class Stake(Asked):
    """A worker counts on `floor` slots and wants `want`, where no more than `limit` may be held by all together.

    `number` rises from call to call, so that one that comes late changes nothing any more.
    """

    worker: Id
    number: Annotated[int, Field(ge=0, le=2**53), WHOLE]
    floor: Annotated[int, Field(ge=0, le=MAX_SLOTS), WHOLE]
    want: Annotated[int, Field(ge=0, le=MAX_SLOTS), WHOLE]
    limit: Annotated[int, Field(ge=0, le=MAX_SLOTS), WHOLE]
    seconds: Annotated[float, Field(gt=0, le=MAX_LEASE)]


class HoldSlots(Asked):
    subject: Subject
    stake: Stake
    now: Now


class PeekSlots(Asked):
    subjects: Annotated[list[Subject], Field(max_length=MAX_SETTLEMENTS)]
    now: Now


class Record(Asked):
    """What became of one request; see `UsageRecord`."""

    at: Now
    key_id: Name | None
    group: Annotated[str, Field(max_length=200)] | None
    ip: Annotated[str, Field(max_length=64)] | None
    method: Annotated[str, Field(max_length=64)]
    route: Annotated[str, Field(max_length=2_000)]
    status: Annotated[int, Field(ge=100, le=999), WHOLE] | None
    code: Annotated[str, Field(pattern="^[a-z_]+$", min_length=1, max_length=40)]
    cost: Units
    duration: Annotated[float, Field(ge=0, le=_LATEST)]
    hint: Annotated[str, Field(max_length=64)] = ""


class Usage(Asked):
    batch: Name
    records: Annotated[list[Record], Field(max_length=MAX_RECORDS)]


class Touch(Asked):
    key: Id


class Key(Told):
    id: str
    name: str
    group: str
    enabled: bool
    created_at: str | None
    updated_at: str | None
    expires_at: str | None
    allow_ips: list[str]
    deny_ips: list[str]
    quota: int | None
    limits: list[str] | None
    owner: str | None
    metadata: dict[str, Any]
    hint: str
    replaces: str | None
    replaced_by: str | None
    max_concurrency: int | None


class Group(Told):
    name: str
    enabled: bool
    routes: list[str]
    limits: list[str]
    shared_limits: list[str]
    multiplier: str


class Resolved(Told):
    key: Key | None
    group: Group | None
    valid_until: float | None


class Health(Told):
    status: Literal["ok"]
    protocol: int


class Outcome(Told):
    """All that was needed was taken (`granted`), or nothing. Lists follow the order of the asks."""

    granted: bool
    used: list[int]
    ends: list[float | None]
    taken: list[int]
    generations: list[str]
    full: list[int]
    retry_at: float | None


class Level(Told):
    used: int
    held: int
    start: float | None
    end: float | None
    generation: str


class Levels(Told):
    levels: list[Level]


class Share(Told):
    """How many slots the worker holds now, how many all others do, and whether any of these wanted more."""

    held: int
    others: int
    wanted: bool


class HeldSlots(Told):
    held: list[int]


class Kept(Told):
    kept: bool


class Done(Told):
    """It was done, or had been done before."""


class News(Told):
    """`keys` are the ids of those that changed; with `all` anything may have changed."""

    revision: int
    keys: list[str]
    all: bool


class Entered(Told):
    revision: int


class Worker(Told):
    id: str
    name: str
    started_at: float
    seen_at: float
    stale_seconds: float
    counters: list[str]
    revision: int


class Workers(Told):
    """`now` is the service's time, in seconds since the epoch, and `revision` the newest change."""

    revision: int
    now: float
    workers: list[Worker]


class FieldProblem(Told):
    field: str
    problem: str


class Problem(Told):
    """RFC 9457, with a code for programs."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    errors: list[FieldProblem] | None = None
