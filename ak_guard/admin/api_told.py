"""What the admin API answers, for its OpenAPI document. More members may come with time."""

# No `from __future__ import annotations`, and types are imported for good: FastAPI reads them when the app is made.

from typing import Any, Literal

from ak_guard.admin.models import Told


class Key(Told):
    id: str
    name: str
    environment: str | None
    state: Literal["active", "disabled", "expired"]
    group: str
    enabled: bool
    created_at: str | None
    updated_at: str | None
    expires_at: str | None
    allow_ips: list[str]
    deny_ips: list[str]
    quota: int | None
    limits: list[str] | None
    max_concurrency: int | None
    owner: str | None
    metadata: dict[str, Any]
    hint: str
    replaces: str | None
    replaced_by: str | None


class Budget(Told):
    name: str
    limit: int
    unit: str
    used: int
    held: int
    remaining: int
    resets_at: str | None


class Concurrency(Told):
    limit: int
    used: int
    remaining: int


class Status(Told):
    quota: Budget | None
    windows: list[Budget]
    concurrency: Concurrency | None


class ListedKey(Key):
    last_used_at: str | None
    last_used_ip: str | None
    old_secret_until: str | None
    #: Whether the last call came from a network that is new to the key.
    new_network: bool
    status: Status | None = None


class Counts(Told):
    total: int
    active: int
    disabled: int
    expired: int
    expiring: int
    endless: int


class KeyPage(Told):
    keys: list[ListedKey]
    next: str | None
    previous: str | None
    total: int
    counts: Counts


class OneKey(Told):
    key: Key


class IssuedKey(Told):
    """`secret` is told this once; null where the request was made before and is only repeated."""

    secret: str | None
    key: Key


class Worker(Told):
    id: str
    name: str
    silent: bool
    revision: int
    behind: int
    started_at: str
    seen_at: str
    good_until: str
    counters: list[str]


class Confirmation(Told):
    complete: bool
    seconds: float
    workers: list[str]
    silent: list[Worker]


class Changed(Told):
    """`confirmation` tells which running workers follow; null where nobody waited or, with 202, could ask them."""

    key: Key
    confirmation: Confirmation | None


class Deleted(Told):
    deleted: str
    confirmation: Confirmation | None = None


class Rule(Told):
    name: str
    passed: bool
    code: str | None
    detail: str
    margin: float | None
    need: int | None
    passes_at: str | None


class Explanation(Told):
    admitted: bool
    code: str
    at: str
    passes_at: str | None
    rules: list[Rule]
    key: Key


class LeakReport(Told):
    """`secret` and `environment_lines` are those of the replacement, told this once."""

    report: dict[str, Any]
    markdown: str
    secret: str | None
    environment_lines: list[str]


class Group(Told):
    name: str
    enabled: bool
    routes: list[str]
    limits: list[str]
    shared_limits: list[str]
    multiplier: str


class OneGroup(Told):
    group: Group


class Groups(Told):
    groups: list[Group]


class Workers(Told):
    workers: list[Worker]


class AuditEntry(Told):
    id: int
    at: str
    actor: str
    action: str
    key_id: str | None
    subject: str
    before: dict[str, Any]
    after: dict[str, Any]


class Audit(Told):
    entries: list[AuditEntry]
    next: int | None


class Bucket(Told):
    start: str
    calls: int
    refused: int
    cost: int
    by_code: dict[str, int]


class Place(Told):
    name: str
    calls: int
    refused: int
    cost: int
    first: str
    last: str


class Usage(Told):
    since: str
    until: str
    calls: int
    refused: int
    cost: int
    by_code: dict[str, int]
    buckets: list[Bucket]
    addresses: list[Place]
    routes: list[Place]


class Anomaly(Told):
    """`seen` is what was measured, `usual` the same measure as it was in the week before."""

    kind: Literal["new_network", "velocity", "spread", "refusals"]
    at: str
    subject: str
    seen: float
    usual: float
    calls: int
    cost: int
    text: str


class Anomalies(Told):
    anomalies: list[Anomaly]


class Addresses(Told):
    addresses: list[str]


class Record(Told):
    id: str
    at: str
    key_id: str | None
    group: str | None
    ip: str | None
    method: str
    route: str
    status: int | None
    code: str
    cost: int
    duration: float
    hint: str


class Records(Told):
    records: list[Record]
    next: str | None


class Token(Told):
    id: str
    name: str
    role: Literal["viewer", "editor", "owner", "service"]
    state: Literal["active", "expired"]
    hint: str
    created_at: str
    expires_at: str | None


class Tokens(Told):
    tokens: list[Token]


class IssuedToken(Told):
    """`secret` is told this once."""

    secret: str
    token: Token


class Identity(Told):
    id: str
    name: str
    role: Literal["viewer", "editor", "owner", "service"]
    expires_at: str | None
