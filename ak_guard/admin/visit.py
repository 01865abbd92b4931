"""One request to the admin API: who asks, what they may, and the keys in their name."""

# No `from __future__ import annotations`: FastAPI reads them when the app is made.

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fastapi import Request

from ak_guard.admin.door import IDENTITY
from ak_guard.admin.tokens import AdminIdentity, AdminTokens
from ak_guard.errors import AkGuardError, Conflict
from ak_guard.manager import KeyManager
from ak_guard.records import ApiKey, Group
from ak_guard.tokens import Deed
from ak_guard.versions import version_of


class Refused(AkGuardError):
    """The answer is a problem instead: `code` is one of the table in `problems.py`."""

    def __init__(self, code: str, detail: str, *, errors: Sequence[Mapping[str, str]] = ()) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors


@dataclass(frozen=True, slots=True)
class Visit:
    """Whoever asks; what is changed through `keys` and `tokens` stands under their name in the audit trail."""

    who: AdminIdentity
    keys: KeyManager
    tokens: AdminTokens
    now: datetime


def asked_version(current: ApiKey | Group, if_match: str | None, *, required: bool = False) -> str | None:
    """The version that is to be changed, by `If-Match`; None for any. Raises `Conflict` where it is none of them.

    The store compares it once more, where nobody can come between.
    """
    if if_match is None:
        if required:
            detail = "Send If-Match with the ETag of what you changed, or * to overwrite whatever is there."
            raise Refused("precondition_required", detail)
        return None
    tags = [tag.strip() for tag in if_match.split(",")]
    if "*" in tags:
        return None
    version = version_of(current)
    if _etag(version) not in tags:
        raise Conflict("it was changed meanwhile")
    return version


def visitor(
    keys: KeyManager, tokens: AdminTokens, deed: Deed, *, query: bool = False
) -> Callable[[Request], Awaitable[Visit]]:
    """A dependency that lets in who may do this. Where no `query` is read, none may be sent."""

    async def visit(request: Request) -> Visit:
        who: AdminIdentity = request.scope[IDENTITY]
        if not who.may(deed):
            raise Refused("forbidden", f"A token of the role {who.role} may not do this.")
        if request.query_params and not query:
            errors = [{"field": name[:100], "problem": "is not known here"} for name in request.query_params]
            raise Refused("invalid", f"{errors[0]['field']}: is not known here", errors=errors)
        actor = who.acting("api:")
        now = datetime.fromtimestamp(keys.clock(), UTC)
        return Visit(who, keys.acting_as(actor), tokens.acting_as(actor), now)

    return visit


def tagged(record: ApiKey | Group) -> dict[str, str]:
    """The header that tells the version of what is answered."""
    return {"ETag": _etag(version_of(record))}


def given(asked: Any) -> dict[str, Any]:
    """The members that were sent, also those that are null."""
    return {name: getattr(asked, name) for name in asked.model_fields_set}


def _etag(version: str) -> str:
    return f'"{version}"'
