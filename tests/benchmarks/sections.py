"""What is measured in process, a section each."""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ak_guard import Group
from tests.benchmarks import ours, peers
from tests.benchmarks.harness import Case, Figure, Plan, Series, added, close, measure, ratio
from tests.benchmarks.ours import PAID, guarded
from tests.benchmarks.report import Row, Table
from tests.benchmarks.traffic import CLIENT, addresses_in, networks, request

if TYPE_CHECKING:
    from collections.abc import Sequence

#: A guard may add this much of what the bare app costs.
ADDS_AT_MOST: Final = 1.25
#: An address of a private network: unknown keys from there are not throttled, so that each is looked up.
PRIVATE: Final = "10.1.2.3"
#: Admitted, where each request is another object in memory.
MANY: Final = "admitted, of many requests"


def _still() -> float:
    """A clock that stands still. With a running one, a throttled address gets one look-up a second."""
    return 1_800_000_000.0


def _rows(table: Table, cases: Sequence[Case], series: Series, *, base: str, target: float | None = None) -> Table:
    """One row a case, each in units of `base`."""
    for case in cases:
        share = None if case.name == base else ratio(series, case.name, base)
        goal = None if share is None else target
        table.rows.append(Row(case.name, Figure.of(series[case.name]), share, goal, checks=case.checks))
    return table


async def against_peers(plan: Plan, *, live: int) -> Table:
    """Everybody who does a part of this, in one run."""
    table = Table(f"peers-{live}", f"in process, {live:,} live keys", "us/request", "adds, of its bare app")
    cases, missing = await peers.contenders(live)
    series = await measure(cases, plan)
    for case in cases:
        adds = added(series, case.name, case.base) if case.base in series else None
        target = ADDS_AT_MOST if case.name == "ak_guard" and live == 1 else None
        table.rows.append(Row(case.name, Figure.of(series[case.name]), adds, target, checks=case.checks))
    if missing:
        table.notes.append(f"not installed: {', '.join(missing)}. {peers.INSTALL}")
    await close(cases)
    return table


async def refusals(plan: Plan) -> Table:
    """A refusal should cost no more than an admission, app and all."""
    table = Table("refusals", "in process, refused against admitted", "us/request", "of an admission")
    unknown = "ak_" + "unknown-key." * 3
    new = 40_000 if plan.rounds > 20 else 2_000
    flooding = [f"198.18.{number // 250}.{number % 250}" for number in range(new // 10)]
    cases = [
        await guarded("admitted", checks=""),
        await guarded("429 window full", status=429, spend=1, limits=ours.limits(1), checks=""),
        await guarded("429 quota used up", status=429, spend=1, quota=1, checks=""),
        await guarded("401 no key", status=401, scopes=[request(None)], checks=""),
        await guarded("401 unknown key, remembered", status=401, scopes=[request(unknown, PRIVATE)], checks=""),
        await guarded("401 wrong checksum", status=401, scopes=[request("ak_" + "0" * 38)], checks=""),
        await guarded("401 disabled", status=401, enabled=False, checks=""),
        await guarded("403 address", status=403, addresses=["198.18.0.1"], checks=""),
        await guarded("403 route", status=403, group=Group("paid", routes=["POST /v1/chat/*"]), checks=""),
    ]
    # These go through so many requests that none of them is in the processor's caches.
    many = [
        await guarded(MANY, addresses=[CLIENT] * new, checks=""),
        await guarded("401 unknown keys, each new", status=401, scopes=ours.strangers(new, [PRIVATE]), checks=""),
        await guarded(
            "429 too many failures",
            status=429,
            # One failure is counted, one look-up spared; and nobody comes so often that he is made to wait.
            spend=2 * len(flooding),
            scopes=ours.strangers(new, flooding),
            service={"clock": _still, "failure_limit": "1/minute"},
            expires_in="30d",
            checks="",
        ),
    ]
    series = await measure([*cases, *many], plan)
    _rows(table, cases, series, base="admitted", target=1.0)
    _rows(table, many, series, base=MANY, target=1.0)
    await close([*cases, *many])
    return table


async def refusals_of_peers(plan: Plan) -> Table:
    """The same for the others: a limit of one, used up."""
    table = Table("refusals-peers", "in process, a full window at the others", "us/request", "of its admission")
    admitted, missing = await peers.contenders()
    refused = [
        await peers.CONTENDERS[case.name](f"{case.name}, 429", 1, 1)
        for case in admitted
        if case.base == "bare Starlette" and case.name != "ak_guard"
    ]
    for case in refused:
        case.status, case.spend = 429, 1
    wanted = [case for case in admitted if any(other.name == f"{case.name}, 429" for other in refused)]
    series = await measure([*wanted, *refused], plan)
    for case in refused:
        of = case.name.removesuffix(", 429")
        table.rows.append(Row(case.name, Figure.of(series[case.name]), ratio(series, case.name, of)))
    table.notes += [f"not installed: {', '.join(missing)}"] if missing else []
    await close(admitted)
    return table


async def live_keys(plan: Plan, *, most: int) -> Table:
    """Does a request cost more when more keys are alive? The same number of callers each time."""
    table = Table("keys", "in process, live keys with three windows under way", "us/request", "of 1,000 live keys")
    callers = 1_000
    few = ours.of_crowd(f"{callers:,} live, {callers:,} of them call", await ours.crowd(callers, callers))
    people = await ours.crowd(most, callers)
    many = ours.of_crowd(f"{most:,} live, {callers:,} of them call", people)
    one = await guarded("1 live", checks="")
    cases = [one, few, many]
    series = await measure(cases, plan)
    _rows(table, [few], series, base=few.name)
    _rows(table, [many], series, base=few.name, target=1.15)
    _rows(table, [one], series, base=few.name)
    table.notes.append("each key's first call in the run, which looks it up, lies before the first round")
    table.notes.append(f"the process grew to {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    await close(cases)
    return table


async def many_networks(plan: Plan) -> Table:
    """Long lists of addresses, seen from one address and from a thousand."""
    table = Table(
        "networks", "in process, networks in the allow list of key and service", "us/request", "of 10 networks"
    )
    sizes = (10, 10_000)
    cases = []
    for callers in (1, 1_000):
        for size in sizes:
            listed = networks(size)
            inside = addresses_in(listed) * (callers // size + 1)
            service = {"allow_ips": listed}
            name = f"{size:,} networks, {callers:,} addresses"
            addresses = inside[:callers]
            cases.append(await guarded(name, addresses=addresses, allow_ips=listed, service=service, checks=""))
    series = await measure(cases, plan)
    for at in (0, 2):
        _rows(table, cases[at : at + 2], series, base=cases[at].name, target=1.5)
    await close(cases)
    return table


async def anchors(plan: Plan) -> Table:
    """The three ways in which a window can begin."""
    table = Table("anchors", "in process, three windows of one anchor", "us/request", "of first-use")
    words = ("first-use", "calendar", "sliding")
    cases = [await guarded(word, limits=ours.limits(anchor=word), checks="") for word in words]
    _rows(table, cases, await measure(cases, plan), base="first-use")
    await close(cases)
    return table


async def options(plan: Plan) -> Table:
    """What each option costs or saves, beside everything on."""
    table = Table("options", "in process, one thing changed", "us/request", "of everything on")
    shared = Group("paid", routes=PAID.routes, shared_limits=["1000000000/1d"])
    heavier = Group("paid", routes=PAID.routes, multiplier=1.5)
    behind_proxy = await guarded("behind a trusted proxy", service={"trusted_proxies": [PRIVATE]}, checks="")
    for scope in behind_proxy.scopes:
        scope["client"] = (PRIVATE, 40_000)
        scope["headers"] = [*scope["headers"], (b"x-forwarded-for", CLIENT.encode())]
    cases = [
        await guarded("everything on", checks=""),
        await guarded("no RateLimit headers", service={"ratelimit_headers": False}, checks=""),
        await guarded("no limits, no quota", limits=[], quota=None, checks=""),
        await guarded(
            "no rules at all", limits=[], quota=None, allow_ips=[], deny_ips=[], group=Group("all"), checks=""
        ),
        await guarded("key not forwarded", service={"forward_key": False}, checks=""),
        await guarded("key looked up for each request", service={"cache_ttl": 0}, checks=""),
        await guarded("on_decision", service={"on_decision": lambda _: None}, checks=""),
        await guarded("usage recorded", service={"usage": lambda _: None}, checks=""),
        await guarded("multiplier 1.5", group=heavier, checks=""),
        await guarded("limits shared by the group", group=shared, checks=""),
        behind_proxy,
    ]
    _rows(table, cases, await measure(cases, plan), base="everything on")
    await close(cases)
    return table


async def sqlite(plan: Plan) -> Table:
    """Keys and counters on disk: each request waits for a transaction. Time on the clock."""
    table = Table("sqlite", "ours on SQLite, time on the clock", "us/request", "of one at a time")
    short = Plan(max(3, plan.rounds // 10), max(plan.batch_seconds, 0.05))
    with tempfile.TemporaryDirectory() as folder:
        single = await ours.on_sqlite("1 key, one at a time", Path(folder), live=1, at_once=1)
        series = await measure([single], short, wall=True)
        _rows(table, [single], series, base=single.name)
        await close([single])
        for live in (1, 32):
            name = f"{live} keys, 32 at once"
            case = await ours.on_sqlite(name, Path(folder), live=live, at_once=32)
            series |= {name: (await measure([case], short, wall=True))[name]}
            _rows(table, [case], series, base=single.name)
            await close([case])
    return table
