"""What a door shows of a key: to the app who holds it, to the client what is left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ak_guard.integrations.starlette_auth import KeyUser
from ak_guard.ratelimit_fields import Headers, RateLimitFields, with_concurrency

if TYPE_CHECKING:
    from starlette.authentication import AuthCredentials

    from ak_guard.guard import Case
    from ak_guard.subject import Subject


@dataclass(frozen=True, slots=True)
class Shown:
    """Put together once for each key that is remembered."""

    user: KeyUser
    credentials: AuthCredentials
    fields: RateLimitFields

    @classmethod
    def of(cls, subject: Subject) -> Shown:
        """Also kept in `subject.door`, where it is looked for first."""
        user = KeyUser(subject.key)
        shown = subject.door = cls(user, user.credentials, RateLimitFields(subject.budget.shown))
        return shown


def fields_of_slot(subject: Subject, headers: Headers | None, left: int) -> Headers:
    """The fields with the cap on requests at a time, of which `left` more may run."""
    gate = subject.budget.gate
    return headers or [] if gate is None else with_concurrency(headers or [], gate.limit, left)


def fields_of_refusal(case: Case) -> Headers:
    """How the budgets stood that refused a request; nothing where others refused it."""
    if case.subject is None:
        return []
    if case.shortage is not None:
        shown: Shown = case.subject.door or Shown.of(case.subject)
        return shown.fields.render(case.shortage.left, case.shortage.ends, case.judged)
    crowded = case.denial is not None and case.denial.code == "concurrency_limit_exceeded"
    return fields_of_slot(case.subject, None, 0) if crowded else []
