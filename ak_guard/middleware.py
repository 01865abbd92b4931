"""The door: ASGI in, guard asked, ASGI out."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal

from ak_guard.assembly import Assembly, assemble
from ak_guard.budgets.receipt import Receipt
from ak_guard.canary import CanaryAlarm
from ak_guard.decisions import Watched, note
from ak_guard.errors import AkGuardError, BudgetError, ConfigurationError, InputError
from ak_guard.guard import misconfigured
from ak_guard.integrations.starlette_auth import show_nobody
from ak_guard.lifespan import Lifespan
from ak_guard.metering.reading import Reading
from ak_guard.records import Admission
from ak_guard.replies import BUDGET_CODES, Replies
from ak_guard.sending import in_slot, until_cut, with_headers, with_meter, with_socket, with_status, with_streams
from ak_guard.settings import Options, completed_from_outside
from ak_guard.shown import Shown, fields_of_refusal, fields_of_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from limits.aio.storage import Storage
    from starlette.types import ASGIApp, Receive, Scope, Send

    from ak_guard.backends.base import KeyLookup
    from ak_guard.budgets.base import MultiWindowSupport
    from ak_guard.extract import Extractor
    from ak_guard.guard import Case
    from ak_guard.holder import Holder
    from ak_guard.records import Decision, Denial, Group, Limit
    from ak_guard.usage.records import UsageRecord

log: Final = logging.getLogger("ak_guard")

_GUARDED: Final = frozenset({"http", "websocket"})
_STATE = "ak_guard"
# Where a guard inside looks for the admission of a guard outside: in the scope itself, which no two requests share.
_TICKET = "ak_guard.admission"


class ApiKeyMiddleware:
    """Let a request through only with an API key that may make it.

    Pure ASGI: `app.add_middleware(ApiKeyMiddleware, backend="sqlite:///keys.db")` for Starlette and FastAPI, or
    `ApiKeyMiddleware(app, backend=...)` around any ASGI app. What is not given comes from `AK_GUARD_<SETTING>` in the
    environment or else from a file, see `ak_guard.settings`; `ApiKeyMiddleware(app)` takes everything from there. Built
    with a setting that cannot work it does not raise, lets nothing through, fails the start-up and answers 503 with the
    reason in the log.

    Args:
        app: the app to guard.
        backend: a backend object, or a URL (`memory://`, `sqlite:///keys.db`); None is the one named outside.
        limits: a storage of `limits` or its URI for the windows; None counts beside the backend.
        groups: groups beside those in the backend; they win where both know a name.
        extractors: where to look for the key, see `ak_guard.extract`.
        forward_key: False takes the credential out of the scope before the app sees it.
        public_paths: exact paths, as the app's routes see them, that need no key.
        allow_groups: only keys of these groups may enter; None lets all in.
        deny_groups: keys of these groups may not.
        allow_ips: only these addresses and networks may call, judged before any look-up.
        deny_ips: these may not; deny wins.
        trusted_proxies: networks whose `X-Forwarded-For` is believed.
        cost: units per request, a function of the scope that says so, or a `Meter`.
        mode: `enforce`, or `report`: decide, count (`would_refuse`) and log, but refuse nothing.
        quota_status: the status of a used-up quota: 429, 402 or 403.
        failure_limit: unknown keys per address (IPv6: per /64); None for no limit.
        stale_if_error: seconds for which a known key goes on while the backend is down.
        cache_ttl: seconds after which a key is looked up again.
        cache_size: how many keys are remembered.
        max_client_wait: seconds; a 429 with a longer wait tells SDKs not to retry by themselves.
        on_unavailable: `allow` counts budgets locally while their store is down and posts them when it is back.
        allow_preflight: whether a CORS preflight passes without a key.
        ratelimit_headers: whether answers carry `RateLimit` and `RateLimit-Policy`.
        cut_streams: whether running streams and websockets end when their key is disabled, deleted or expires.
        on_decision: called with a `Decision` after each response; what it raises is logged.
        usage: whether each request is recorded; None where the backend keeps it for good, a function gets the records.
        usage_path: the path at which a key's holder sees what it may spend and has spent; None for none.
        clock: seconds since the epoch.
    """

    @completed_from_outside
    def __init__(
        self,
        app: ASGIApp,
        *,
        backend: KeyLookup | str | None = None,
        limits: Storage | MultiWindowSupport | str | None = None,
        groups: Iterable[Group] = (),
        extractors: Iterable[str | Extractor] | None = None,
        forward_key: bool = True,
        public_paths: Iterable[str] = (),
        allow_groups: Iterable[str] | None = None,
        deny_groups: Iterable[str] = (),
        allow_ips: Iterable[str] = (),
        deny_ips: Iterable[str] = (),
        trusted_proxies: Iterable[str] = (),
        cost: int | Callable[[Scope], int] = 1,
        mode: Literal["enforce", "report"] = "enforce",
        quota_status: int = 429,
        failure_limit: str | Limit | None = "30/minute",
        stale_if_error: float = 60.0,
        cache_ttl: float = 30.0,
        cache_size: int = 100_000,
        max_client_wait: float = 60.0,
        on_unavailable: Literal["refuse", "allow"] = "refuse",
        allow_preflight: bool = True,
        ratelimit_headers: bool = True,
        cut_streams: bool = True,
        on_decision: Callable[[Decision], object] | None = None,
        usage: bool | Callable[[list[UsageRecord]], object] | None = None,
        usage_path: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.app = app
        #: In report mode: how many requests would have been refused, by code.
        self.would_refuse: Counter[str] = Counter()
        self._report = mode == "report"
        self._allow_preflight = allow_preflight
        self._ratelimit = ratelimit_headers
        self._on_decision = on_decision
        self._clock = clock
        self._canaries = CanaryAlarm(clock)
        self._fault: str | None = None
        self._assembly: Assembly | None = None
        options = Options(
            backend,
            limits,
            groups,
            extractors,
            forward_key,
            public_paths,
            allow_groups,
            deny_groups,
            allow_ips,
            deny_ips,
            trusted_proxies,
            cost,
            mode,
            quota_status,
            failure_limit,
            stale_if_error,
            cache_ttl,
            cache_size,
            max_client_wait,
            on_unavailable,
            allow_preflight,
            ratelimit_headers,
            cut_streams,
            on_decision,
            usage,
            usage_path,
            clock,
        )
        try:
            self._assembly = assemble(options)
        except (ConfigurationError, InputError, TypeError) as error:
            self.refuse_all(error)

    def refuse_all(self, error: Exception) -> None:
        """Answer everything with 503 `misconfigured` and let the start-up fail with the reason."""
        # Frameworks build middleware inside the running server, where an exception would only be logged and the app
        # served unguarded or broken. So what is wrong is told at start-up and in each answer.
        self._assembly = None
        self._fault = f"ak_guard is not configured: {error}"
        log.error(self._fault)

    async def __call__(  # noqa: C901, PLR0912, PLR0915  # one coroutine for the many requests that pass
        self, scope: Scope, receive: Receive, send: Send
    ) -> None:
        kind = scope["type"]
        if kind not in _GUARDED:
            if kind != "lifespan":
                raise AkGuardError(f"a scope of type {kind!r} cannot be guarded and is not let through")
            await Lifespan(self.app, self._start, self._stop)(scope, receive, send)
            return
        assembly = self._assembly
        if assembly is None:
            await _PLAIN_REPLIES.send(misconfigured(), [], scope, receive, send)
            return
        public = assembly.public
        if (
            public is not None and (scope["path"] in public.literals or scope.get("root_path")) and scope in public
        ) or (self._allow_preflight and scope.get("method") == "OPTIONS" and _is_preflight(scope)):
            assembly.find_key.strip(scope)
            show_nobody(scope)
            await self.app(scope, receive, send)
            return

        recorder = assembly.recorder
        outer = scope.get(_TICKET)
        if outer is not None and _is_open(outer, assembly.backend):
            assembly.find_key.strip(scope)
            case = await assembly.guard.rejudge(scope, outer)
            # One request is one record, that of the guard around this one.
            recorder = None
        elif assembly.holder is not None and scope in assembly.holder:
            await self._tell_holder(assembly, assembly.holder, scope, receive, send)
            return
        else:
            case = await assembly.guard.judge(scope)

        if case.denial is not None and self._is_only_reported(case.denial):
            self._reported(assembly, case, case.denial)
        if self._on_decision is not None:
            send = Watched(send, self._on_decision, case, scope, report=self._report, clock=self._clock)
        admission, subject = case.admission, case.subject
        try:
            if admission is None or subject is None:
                await self._answer_without_admission(assembly, case, scope, receive, send)
                return
            receipt: Receipt = admission.receipt
            slot = receipt.slot
            reading = None
            try:
                if case.denial is None:
                    # What report mode lets in has paid for nothing: a guard inside judges it anew.
                    scope[_TICKET] = admission
                # A new mapping: some hosts give all requests the same one.
                state = scope.get("state")
                scope["state"] = {**state, _STATE: admission} if state else {_STATE: admission}
                shown: Shown = subject.door or Shown.of(subject)
                scope["user"], scope["auth"] = shown.user, shown.credentials
                headers = None
                if self._ratelimit and receipt.left:
                    headers = shown.fields.render(receipt.left, receipt.ends, case.judged)
                out, streams = send, assembly.streams
                if slot is not None:
                    out = in_slot(send, slot)
                    headers = fields_of_slot(subject, headers, slot.left) if self._ratelimit else None
                # Who has paid nothing, on a free route or because report mode let them in, pays nothing afterwards.
                if assembly.meter is not None and receipt.cost and kind == "http":
                    reading = Reading(assembly.meter, admission)
                    out = with_meter(out, reading)
                if streams is None:
                    if recorder is not None:
                        inner = with_status(out, headers, case)
                    else:
                        inner = out if headers is None else with_headers(out, headers)
                elif kind == "http":
                    inner = with_streams(out, headers, streams, case)
                else:
                    inner, receive = with_socket(out, headers, streams, case), until_cut(receive, case)
                await self.app(scope, receive, inner)
            except BaseException as error:
                if case.stream is None or not await case.stream.ended(error):
                    raise
            else:
                if case.stream is not None:
                    await case.stream.ended()
            finally:
                if reading is not None:
                    reading.end()
                receipt.closed = True
                if slot is not None:
                    slot.leave()
                if receipt.settled:
                    await _put_away(receipt)
        finally:
            if isinstance(send, Watched):
                send.tell()
            if recorder is not None:
                note(recorder, case, scope, self._clock())

    async def _answer_without_admission(
        self, assembly: Assembly, case: Case, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Refuse; or let through whom report mode does not refuse and whom a guard around this one has let in."""
        self._look_for_canary(case)
        if case.denial is not None and not self._is_only_reported(case.denial):
            fields = fields_of_refusal(case) if self._ratelimit else []
            case.status = await assembly.replies.send(case.denial, fields, scope, receive, send)
            return
        show_nobody(scope)
        await self.app(scope, receive, send if assembly.recorder is None else with_status(send, None, case))

    async def _tell_holder(
        self, assembly: Assembly, holder: Holder, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Who asks what their key may spend is charged for nothing, and refused in report mode, too."""
        case = await assembly.guard.identify(scope)
        self._look_for_canary(case)
        if self._on_decision is not None:
            send = Watched(send, self._on_decision, case, scope, report=False, clock=self._clock)
        try:
            await holder.answer(case, scope, receive, send)
        finally:
            if isinstance(send, Watched):
                send.tell()
            if case.denial is not None and assembly.recorder is not None:
                note(assembly.recorder, case, scope, self._clock())

    def _look_for_canary(self, case: Case) -> None:
        if case.subject is not None and case.subject.group_rules.is_canary:
            self._canaries.called(case.subject.key, None if case.client is None else case.client.text)

    def _is_only_reported(self, denial: Denial) -> bool:
        return self._report and denial.code != "misconfigured"

    def _reported(self, assembly: Assembly, case: Case, denial: Denial) -> None:
        """Count and log what would have been refused. A good key without enough budget is admitted, uncharged."""
        self.would_refuse[denial.code] += 1
        log.warning("report mode: would refuse with %s: %s", denial.code, denial.detail)
        if case.subject is not None and denial.code in BUDGET_CODES:
            client = None if case.client is None else case.client.text
            case.admission = Admission(case.subject.key, client, Receipt.of_nothing(), assembly.backend)

    async def _start(self) -> str | None:
        return self._fault if self._assembly is None else await self._assembly.start()

    async def _stop(self) -> None:
        if self._assembly is not None:
            await self._assembly.stop()


_PLAIN_REPLIES = Replies(quota_status=429, max_client_wait=60.0)


async def _put_away(receipt: Receipt) -> None:
    """The response is out, so an outage is nothing to raise: what was charged is written with the next call."""
    try:
        await receipt.write_soon()
    except BudgetError:
        log.warning("the store of budgets is away; what this request was charged is written when it is back")


def _is_open(outer: object, backend: KeyLookup) -> bool:
    """Whether a guard around this one let the request in with the same backend. One that has ended is no ticket."""
    return isinstance(outer, Admission) and outer.realm is backend and not outer.receipt.closed


def _is_preflight(scope: Scope) -> bool:
    """Whether an OPTIONS is a true CORS preflight (Fetch standard): browsers send it without credentials."""
    names: set[Any] = {name.lower() for name, _ in scope["headers"]} if scope["type"] == "http" else set()
    return b"origin" in names and b"access-control-request-method" in names
