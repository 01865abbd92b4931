"""What the key service and the admin API answer instead: one table from a code to status and title, one shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TABLE: Final[dict[str, tuple[int, str]]] = {
    "bad_request": (400, "The request cannot be read"),
    "unauthorized": (401, "A token is needed"),
    "forbidden": (403, "The token may not do this"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "This method is not for this path"),
    "too_slow": (408, "The body did not come in time"),
    "conflict": (409, "The id was used for something else"),
    "precondition_failed": (412, "Somebody else changed it meanwhile"),
    "too_large": (413, "The body is too large"),
    "unsupported_media_type": (415, "The body must be JSON"),
    "invalid": (422, "A value is wrong"),
    "precondition_required": (428, "Say which version is changed"),
    "too_many_failures": (429, "Too many wrong tokens"),
    "internal": (500, "The service failed"),
    "store_unavailable": (503, "The store cannot be reached"),
    "misconfigured": (503, "The setup cannot do this"),
    "too_busy": (503, "Too many requests are under way"),
}
_CODES: Final[dict[int, str]] = {status: code for code, (status, _) in reversed(_TABLE.items())}
_RETRY_SECONDS: Final = 1


def problem(
    code: str,
    detail: str,
    *,
    errors: Sequence[Mapping[str, str]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """A body of RFC 9457 with the member `code`, and `errors` (field and problem) where values are wrong."""
    status, title = _TABLE[code]
    body: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    if errors:
        body["errors"] = list(errors)
    more = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else {}
    return JSONResponse(
        body,
        status,
        headers={"Cache-Control": "no-store", **more, **(headers or {})},
        media_type="application/problem+json",
    )


def answer(document: Mapping[str, Any], status: int = 200, *, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """What was asked for, which nobody on the way may keep."""
    return JSONResponse(document, status, headers={"Cache-Control": "no-store", **(headers or {})})


def code_of(status: int) -> str:
    """The code for a status that a framework chose."""
    return _CODES.get(status, "internal" if status >= 500 else "bad_request")
