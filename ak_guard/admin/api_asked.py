"""What the admin API is asked: bodies and queries, for validation and for its OpenAPI document."""

# No `from __future__ import annotations`, and types are imported for good: FastAPI reads them when the app is made.

import re
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.functional_validators import AfterValidator, BeforeValidator

from ak_guard.inputs import MAX_CONCURRENCY, MAX_PAGE
from ak_guard.listing import MOST_UNUSED_DAYS
from ak_guard.notation import MAX_AMOUNT
from ak_guard.records import DEFAULT_GROUP

#: A change waits no longer for running workers, in seconds.
MAX_WAIT: Final = 60.0


def _printable(text: str) -> str:
    if not text.isprintable() or not text.strip():
        raise ValueError("must be printable characters, not only blanks")
    return text


def _flag(value: object) -> object:
    if value in {"true", "false"}:
        return value == "true"
    raise ValueError("must be true or false")


def _whole(value: object) -> object:
    if isinstance(value, str) and not re.fullmatch("[0-9]{1,18}", value):
        raise ValueError("must be a whole number")
    return value


Text = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_printable)]
Flag = Annotated[bool, BeforeValidator(_flag)]
PageSize = Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(_whole)]
Network = Annotated[str, Field(min_length=1, max_length=64, examples=["203.0.113.0/24"])]
LimitText = Annotated[str, Field(min_length=3, max_length=200, examples=["1000/5h"])]
Moment = Annotated[
    str,
    Field(min_length=8, max_length=40, examples=["2027-01-31T12:00:00Z"], json_schema_extra={"format": "date-time"}),
]
Duration = Annotated[str, Field(min_length=1, max_length=20, examples=["30d"])]
# 512 bytes are the most that a guard reads of a credential.
CustomKey = Annotated[str, Field(min_length=16, max_length=512, description="A text of your own, as the key itself.")]


class Asked(BaseModel):
    """A member that is not known here is refused, and so is a value of another kind."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Query(BaseModel):
    """A parameter that is not known here is refused."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


class KeyRules(Asked):
    """The rules of a key that may be given and changed."""

    group: Text | None = Field(None, description=f"None is `{DEFAULT_GROUP}`.")
    allow_ips: list[Network] | None = Field(None, max_length=10_000)
    deny_ips: list[Network] | None = Field(None, max_length=10_000)
    quota: int | None = Field(None, ge=0, le=MAX_AMOUNT, description="Units in all; null is none.")
    expires_at: Moment | None = None
    expires_in: Duration | None = Field(None, description="From now; instead of `expires_at`.")
    limits: list[LimitText] | None = Field(
        None, max_length=64, description="null takes the group's, an empty list is none.", examples=[["1000/5h"]]
    )
    max_concurrency: int | None = Field(None, ge=1, le=MAX_CONCURRENCY, description="Requests that run at once.")
    owner: Text | None = None
    metadata: dict[str, Any] | None = None
    enabled: bool = True


class NewKey(KeyRules):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "name": "prod-api",
                    "group": "default",
                    "allow_ips": ["203.0.113.0/24"],
                    "quota": 100_000,
                    "expires_in": "90d",
                    "limits": ["1000/5h", "3000/1d", "10000/7d"],
                    "owner": "team-billing",
                }
            ]
        }
    )

    name: Text
    key: CustomKey | None = None
    replaces: str | None = Field(None, max_length=64, description="The id of the key in whose place this one comes.")


class KeyChanges(KeyRules):
    """What is left out stays; null takes a field away."""

    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra={"examples": [{"quota": 200_000, "owner": None}]})

    # Without a default in the document: what is left out is not set to anything.
    name: Text = Field(default_factory=str)
    enabled: bool = Field(default_factory=bool)
    force: bool = Field(
        default_factory=bool, description="Save lists of addresses also where they keep out recent callers."
    )


class Rotation(Asked):
    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra={"examples": [{"grace": "1h"}]})

    grace: Duration | None = Field("1h", description="How long the old secret works on; null: not at all.")
    key: CustomKey | None = None


class Reset(Asked):
    model_config: ClassVar[ConfigDict] = ConfigDict(json_schema_extra={"examples": [{"limits": True}]})

    quota: bool = False
    limits: bool = False


class Question(Asked):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "examples": [{"key": "key_0123456789abcdef0123", "ip": "203.0.113.7", "path": "/v1/models", "cost": 1}]
        }
    )

    key: str = Field(min_length=1, max_length=512, description="The id of a key, or its secret.")
    ip: str | None = Field(None, max_length=64)
    path: str = Field("/", max_length=8_192)
    method: str = Field("GET", min_length=1, max_length=32)
    cost: int = Field(1, ge=0, le=MAX_AMOUNT)
    at: Moment | None = None


class Leak(Asked):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"examples": [{"since": "2027-01-31T00:00:00Z", "replace": True}]}
    )

    since: Moment | None = Field(None, description="When it may have begun; null is 24 hours ago.")
    wait: float = Field(10.0, ge=0, le=MAX_WAIT, description="Seconds.")
    replace: bool = True
    allow_ips: list[Network] | None = Field(None, max_length=10_000, description="For the replacement.")


class GroupRules(Asked):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={
            "examples": [{"routes": ["POST /v1/chat/*"], "limits": ["60/1m"], "multiplier": "2", "enabled": True}]
        }
    )

    routes: list[Annotated[str, Field(min_length=1, max_length=1_000)]] = Field([], max_length=1_000)
    limits: list[LimitText] = Field([], max_length=64)
    shared_limits: list[LimitText] = Field([], max_length=64)
    multiplier: Annotated[str, Field(min_length=1, max_length=90, examples=["1", "0.5", "1/3"])] = "1"
    enabled: bool = True


class NewGroup(GroupRules):
    name: Text


class NewToken(Asked):
    model_config: ClassVar[ConfigDict] = ConfigDict(
        json_schema_extra={"examples": [{"name": "ci", "role": "viewer", "expires_in": "90d"}]}
    )

    name: Text
    role: Literal["viewer", "editor", "owner", "service"]
    expires_at: Moment | None = None
    expires_in: Duration | None = None


class Which(Query):
    search: Text | None = Field(None, description="Part of the name, hint or owner, a whole id, or the last address.")
    group: Text | None = None
    owner: Text | None = None
    state: Literal["active", "disabled", "expired", "expiring", "endless"] | None = None
    environment: Literal["production", "staging", "development", "test", "none"] | None = None
    used: Flag | None = Field(None, description="Whether it was ever presented.")
    unused_days: Annotated[int, Field(ge=1, le=MOST_UNUSED_DAYS), BeforeValidator(_whole)] | None = Field(
        None, description="For how many days at least it was neither presented nor created."
    )
    sort: Literal[
        "name", "-name", "created", "-created", "updated", "-updated",
        "expires", "-expires", "quota", "-quota", "last_used", "-last_used",
    ] = "-created"  # fmt: skip
    after: str | None = Field(None, max_length=10_000, description="`next` of the page before.")
    before: str | None = Field(None, max_length=10_000, description="`previous` of the page after.")
    limit: PageSize = 25
    status: Flag = Field(False, description="Also what is used of quota and windows.")


class Waiting(Query):
    wait: float | None = Field(None, ge=0, le=MAX_WAIT, description="So long for running workers, in seconds.")


class AuditQuery(Query):
    group: Text | None = None
    actor: Text | None = None
    action: Text | None = None
    since: Moment | None = None
    until: Moment | None = None
    limit: PageSize = 100
    before: Annotated[int, Field(ge=1, le=2**53), BeforeValidator(_whole)] | None = None


class Since(Query):
    since: Moment | None = None


class UsageQuery(Query):
    since: Moment | None = None
    until: Moment | None = None
    bucket: Literal["hour", "day"] = "hour"


class RecordsQuery(Query):
    since: Moment | None = None
    code: Annotated[str, Field(pattern="^[a-z_]{1,40}$")] | None = None
    limit: PageSize = 100
    before: Annotated[str, Field(pattern="^[0-9]{1,15}(-[0-9]{1,9})?$")] | None = None
