"""The life of one request: extract, resolve, check, take."""

from __future__ import annotations

import asyncio
import logging
import math
from contextlib import nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ak_guard import checks, keys
from ak_guard.budgets.gate import CONCURRENCY
from ak_guard.budgets.receipt import Receipt, Shortage
from ak_guard.budgets.slots import Full
from ak_guard.budgets.take import take, take_at_once, take_locally
from ak_guard.errors import BackendError, BudgetError, ConfigurationError
from ak_guard.floods import Attempt, FailureLimit, Lookups
from ak_guard.paths import route_of
from ak_guard.records import Admission, Denial

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from ak_guard.address import Address, ClientResolver
    from ak_guard.backends.cached import CachedLookup, Entry
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.budgets.ledger import Budget
    from ak_guard.budgets.windows import Window
    from ak_guard.extract import KeyFinder
    from ak_guard.subject import Asked, Subject

    Scope = MutableMapping[str, Any]

log: Final = logging.getLogger("ak_guard")


class Case:
    """What is known about one request while it is judged. The door reads the outcome from here."""

    # Not on the class: what is read from there is looked for in the object first, each time.
    __slots__ = (
        "admission",
        "client",
        "cost",
        "denial",
        "digest",
        "hint",
        "judged",
        "now",
        "shortage",
        "start",
        "status",
        "stream",
        "subject",
    )

    def __init__(self, now: float, client: Address | None) -> None:
        self.now: float = now
        self.client: Address | None = client
        self.cost: int = 0
        self.subject: Subject | None = None
        self.admission: Admission | None = None
        self.denial: Denial | None = None
        #: When the budgets had been judged: what is told of them counts from here.
        self.judged: float = now
        #: The budgets as they stood when one of them was full.
        self.shortage: Shortage | None = None
        #: Of the secret that the request holds.
        self.digest: bytes = b""
        #: What may be told of a key that nobody holds.
        self.hint: str = ""
        #: The door's own: how the response began, and the stream that it became.
        self.start: MutableMapping[str, Any] | None = None
        self.stream: Any = None
        #: What was answered, where no `start` tells.
        self.status: int | None = None


class Guard:
    """Decide about requests. Everything is prepared here once; a request only reads it."""

    def __init__(
        self,
        *,
        realm: object,
        find_key: KeyFinder,
        client_of: ClientResolver,
        service: checks.ServiceRules,
        floods: FailureLimit,
        known: CachedLookup[Subject],
        cost: int | Callable[[Scope], int],
        local: MultiWindowSupport | None,
        clock: Callable[[], float],
    ) -> None:
        """`local` counts while the store of budgets is away; None refuses meanwhile."""
        self._realm = realm
        self._finder = find_key
        self._clients = client_of
        self._service = service
        self._floods = floods
        self._known = known
        self._cost = cost
        self._local = local
        self._clock = clock

    async def judge(self, scope: Scope) -> Case:  # noqa: C901  # the whole story, and no call more for the many
        """Let a request in (`case.admission`) or refuse it (`case.denial`)."""
        case = Case(self._clock(), self._clients.client_of(scope))

        key = self._finder.find(scope)
        if isinstance(key, Denial):
            case.denial = key
            return case

        case.digest = digest = keys.digest(key)
        entry = self._known.get(digest, case.now)
        if entry is not None and entry.value is not None:
            subject = entry.value
        else:
            resolved = await self._resolve(key, digest, entry, case)
            if isinstance(resolved, Denial):
                case.denial, case.hint = resolved, keys.hint_of_unknown(key)
                return case
            subject = resolved
        case.subject = subject

        # Who has passed on this route passes again, until the key expires. So these rules may look at nothing but the
        # key, its group, the client and the route; what looks at more stands behind them.
        method = scope["method"] if scope["type"] == "http" else "GET"
        asked: Asked = (case.client, method, scope["path"], scope.get("raw_path"), scope.get("root_path"))
        if asked not in subject.passed or case.now >= subject.rules.good_until:
            route = route_of(scope)
            case.denial = (
                self._service.check(case.client)
                or checks.check_state(subject.rules, case.now)
                or checks.check_address(subject.rules, case.client)
                or checks.check_group(subject.group_rules, route)
            )
            if case.denial is not None:
                return case
            subject.let_in(asked)

        case.cost = cost = self._cost if isinstance(self._cost, int) else cost_of(self._cost, scope)
        charged = subject.budget.charged(cost)
        taken: Receipt | Shortage | Denial | None = None
        if charged <= subject.budget.plain:
            taken = take_at_once(subject.budget, cost, charged, case.now)
        elif charged > subject.budget.most:
            case.denial = _cost_exceeds(subject.budget, charged)
            return case
        if taken is None:
            taken = await self._take(subject.budget, charged, case)
        if isinstance(taken, Receipt):
            client = None if case.client is None else case.client.text
            case.admission = Admission(subject.key, client, taken, self._realm)
        elif isinstance(taken, Shortage):
            case.shortage = taken
            case.denial = budget_denial(subject.budget, taken, case.judged)
        else:
            case.denial = taken
        return case

    async def rejudge(self, scope: Scope, admission: Admission) -> Case:
        """A guard around this one has let the request in with the same backend: only this service's rules are left."""
        case = Case(self._clock(), self._clients.client_of(scope))
        case.denial = self._service.check(case.client)
        if case.denial is None and not self._service.lets_in_group(admission.key.group):
            case.denial = checks.wrong_group(admission.key.group)
        if case.denial is None:
            case.admission = admission
        else:
            admission.receipt.refused = case.denial.code
        return case

    async def identify(self, scope: Scope) -> Case:
        """Whose key is it, and may they be told of it from here? Expiry and budgets do not matter, nothing is taken."""
        case = Case(self._clock(), self._clients.client_of(scope))
        key = self._finder.find(scope)
        if isinstance(key, Denial):
            case.denial = key
            return case
        digest = keys.digest(key)
        entry = self._known.get(digest, case.now)
        found = entry.value if entry is not None else None
        resolved = found or await self._resolve(key, digest, entry, case)
        if isinstance(resolved, Denial):
            case.denial, case.hint = resolved, keys.hint_of_unknown(key)
            return case
        case.subject = resolved
        case.denial = (
            self._service.check(case.client)
            or checks.check_secret(resolved.rules, case.now)
            or checks.check_address(resolved.rules, case.client)
            or checks.check_canary(resolved.group_rules)
        )
        return case

    async def _resolve(self, key: bytes, digest: bytes, entry: Entry[Subject] | None, case: Case) -> Subject | Denial:
        """Whose key is it, that is not remembered as somebody's?

        `entry` is what is remembered: None, or that the key is nobody's.
        """
        denial = self._service.check(case.client) if keys.is_well_formed(key) else checks.unknown_key()
        if denial is not None:
            return denial
        if entry is not None:
            return await self._repeated(case)
        attempt = self._attempt(digest, case)
        while isinstance(attempt, Lookups):
            await attempt.next_end()
            case.now = self._clock()
            # Meanwhile somebody may have asked about the same key.
            entry = self._known.get(digest, case.now)
            if entry is not None:
                return entry.value or await self._repeated(case)
            attempt = self._attempt(digest, case)
        if isinstance(attempt, Denial):
            return await self._floods.refused(case.client, attempt)
        try:
            with attempt:
                found = (await self._known.resolve(digest, case.now)).value
                if found is None:
                    if seconds := self._floods.failed(case.client, case.now):
                        await asyncio.sleep(seconds)
                    return checks.unknown_key()
        except ConfigurationError as error:
            log.error("ak_guard is not configured: %s", error)
            return misconfigured()
        except BackendError:
            return checks.keys_unavailable()
        return found

    def _attempt(self, digest: bytes, case: Case) -> Attempt | nullcontext[None] | Lookups | Denial:
        # Whoever joins a question asks nothing more, and a key that was known may be asked about again.
        return self._floods.attempt(case.client, case.now) if self._known.is_strange(digest) else nullcontext()

    async def _repeated(self, case: Case) -> Denial:
        """The key is remembered as nobody's."""
        repeated = self._floods.repeated(case.client, case.now)
        return checks.unknown_key() if repeated is None else await self._floods.refused(case.client, repeated)

    async def _take(self, budget: Budget, charged: int, case: Case) -> Receipt | Shortage | Denial:
        """Is there enough? Ask the stores, and know what to do when one of them is away."""
        try:
            taken = await take(budget, case.cost, charged, case.now)
        except BudgetError:
            if self._local is None:
                return checks.limits_unavailable()
            taken = await take_locally(budget, case.cost, charged, case.now, self._local)
        finally:
            case.judged = self._clock()
        return _crowded(budget) if isinstance(taken, Full) else taken


def misconfigured() -> Denial:
    """The setup cannot work; what is wrong with it is for the operator's eyes only."""
    return Denial("misconfigured", "This service is not configured; its operator finds the reason in the log.")


def cost_of(cost: Callable[[Scope], int], scope: Scope) -> int:
    """What this request costs, in units. Raises `ValueError` for anything but a whole number from 0 up."""
    value = cost(scope)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"cost: {value!r} must be a whole number from 0 up")
    return value


def budget_denial(budget: Budget, shortage: Shortage, now: float) -> Denial:
    """Say which budgets are full, and when the same request passes if nothing else is spent."""
    full = [budget.shown[index] for index in shortage.full]
    latest = max([shortage.ends[index] for index in shortage.full])
    # Only a quota never frees.
    wait = None if latest == math.inf else max(1, math.ceil(latest - now))
    return _full(tuple(full), wait)


# A caller who goes on calling is told the same for a second.
@lru_cache(maxsize=1_024)
def _full(windows: tuple[Window, ...], wait: int | None) -> Denial:
    names = tuple(window.name for window in windows)
    if wait is None:
        return Denial("insufficient_quota", "The quota of this API key is used up.", full=names)
    listed = " and ".join(f"{window.amount} {window.unit} per {window.name}" for window in windows)
    detail = f"The limit of {listed} is reached; try again in {wait} s."
    return Denial("rate_limit_exceeded", detail, retry_after=wait, full=names)


def _crowded(budget: Budget) -> Denial:
    limit = 0 if budget.gate is None else budget.gate.limit
    detail = f"{limit} requests with this API key run already, as many as may at a time; try again when one has ended."
    return Denial("concurrency_limit_exceeded", detail, retry_after=1, full=(CONCURRENCY,))


def _cost_exceeds(budget: Budget, charged: int) -> Denial:
    names = tuple(
        window.name
        for window in budget.shown
        if window.unit == "units" and window.slot != "quota" and charged > window.amount
    )
    detail = f"This request costs {charged} units, more than the whole limit {' and '.join(names)}; it can never pass."
    return Denial("cost_exceeds_limit", detail, full=names)
