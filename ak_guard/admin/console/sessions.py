"""Who is signed in: signed cookies, what is wanted back with every form, throttled failures, and the way out."""

from __future__ import annotations

import hmac
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachetools import TTLCache
from itsdangerous import BadSignature, URLSafeSerializer

from ak_guard.address import bucket_of
from ak_guard.admin.turns import Turns

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from ak_guard.admin.tokens import AdminIdentity

#: A session ends so long after signing in, in seconds, unless its token ends before.
SESSION_SECONDS: Final = 12 * 3_600
#: So many wrong tokens from one address close the form to it for a minute.
FAILURES: Final = 5
FAILURE_SECONDS: Final = 60

_ADDRESSES: Final = 10_000
# So many sessions of one token at a time.
_SESSIONS: Final = 100


@dataclass(frozen=True, slots=True)
class Session:
    """One sign-in. `proof` stands in every form of it; times are seconds since the epoch."""

    id: str
    token_id: str
    began: float
    ends: float
    proof: str

    def proves(self, given: str) -> bool:
        """Whether a form was made for this session."""
        return hmac.compare_digest(self.proof.encode(), given.encode("utf-8", "surrogatepass"))


class Sessions:
    """The sign-ins of one process. Its signing key lives with it, so that a restart signs everybody out."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._signer = URLSafeSerializer(secrets.token_bytes(32), salt="session")
        self._doors = URLSafeSerializer(secrets.token_bytes(32), salt="door")
        # By token, and by session when each ends. Those that live are kept and not those that were left: whatever is
        # forgotten here signs somebody out, and never in again.
        self._live: dict[str, dict[str, float]] = {}
        self._failures: TTLCache[str, int] = TTLCache(_ADDRESSES, FAILURE_SECONDS, clock)
        self._turns = Turns()

    def begin(self, who: AdminIdentity) -> str:
        """The cookie of a new session of this identity."""
        now = self._clock()
        ends = now + SESSION_SECONDS
        if who.expires_at is not None:
            ends = min(ends, who.expires_at.timestamp())
        session = Session(secrets.token_urlsafe(12), who.id, now, ends, secrets.token_urlsafe(24))
        self._enter(session)
        return _text(
            self._signer.dumps([session.id, session.token_id, session.began, session.ends, session.proof]),
        )

    def read(self, cookie: str | None) -> Session | None:
        """The session of a cookie, None for one that is forged, over or signed out."""
        if not cookie:
            return None
        try:
            session = Session(*self._signer.loads(cookie))
        except (BadSignature, TypeError):
            return None
        if self._clock() >= session.ends or session.id not in self._live.get(session.token_id, ()):
            return None
        return session

    def end(self, session: Session) -> None:
        """Sign out here."""
        self._live.get(session.token_id, {}).pop(session.id, None)

    def end_everywhere(self, token_id: str) -> None:
        """Sign out all sessions that this token began until now."""
        self._live.pop(token_id, None)

    def _enter(self, session: Session) -> None:
        alive = {
            token_id: kept
            for token_id, sessions in self._live.items()
            if (kept := {one: ends for one, ends in sessions.items() if ends > session.began})
        }
        mine = alive.setdefault(session.token_id, {})
        # Of one token the oldest is signed out, so that nobody can sign others out by signing in.
        while len(mine) >= _SESSIONS:
            del mine[next(iter(mine))]
        mine[session.id] = session.ends
        self._live = alive

    # Before anybody is known

    def door(self) -> str:
        """A proof for the sign-in form, kept in a cookie of its own until the form comes back."""
        return _text(self._doors.dumps(secrets.token_urlsafe(16)))

    def opens(self, cookie: str | None, given: str) -> bool:
        """Whether a sign-in form was made for the browser that sends it."""
        if not cookie or not hmac.compare_digest(cookie.encode(), given.encode("utf-8", "surrogatepass")):
            return False
        try:
            self._doors.loads(cookie)
        except BadSignature:
            return False
        return True

    def turn_of(self, client: str | None) -> asyncio.Lock:
        """Held while a token of this address is looked at and counted."""
        return self._turns.of(bucket_of(client))

    def is_closed_to(self, client: str | None) -> bool:
        """Whether an address has tried too many wrong tokens in the last minute."""
        return self._failures.get(bucket_of(client), 0) >= FAILURES

    def failed(self, client: str | None) -> None:
        """Count a wrong token. The minute goes on from the newest."""
        bucket = bucket_of(client)
        self._failures[bucket] = self._failures.get(bucket, 0) + 1


def _text(signed: Any) -> str:
    return signed.decode() if isinstance(signed, bytes) else str(signed)
