"""What the key service takes and gives, for validation and for its OpenAPI document."""

# No `from __future__ import annotations`, and types are imported for good: FastAPI reads them when the app is made.

from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the key's text, in lower-case hex.")]


class Asked(BaseModel):
    """What is sent. A member that is not known here is refused, and so is a value of another kind."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Told(BaseModel):
    """What is answered. More members may come with time."""


class Resolve(Asked):
    digest: Digest


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
    status: str
    protocol: int


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
