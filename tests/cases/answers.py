"""Where the products that the cases come from disagree, our one answer; and what we leave out on purpose.

Each answer stands beside the sentence of the design that demands it. `ANSWERS` maps (case, number of the request) to
what our answer changes in the case's own; None takes a word out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from tests.cases.language import Case


class Answer(NamedTuple):
    reason: str
    words: dict[str, Any]


_AMBIGUOUS: Final = Answer(
    "different keys in one request | 400 | ambiguous_credentials",
    {"decision": "reject", "status": [400], "code": "ambiguous_credentials"},
)

ANSWERS: Final[dict[tuple[str, int], Answer]] = {
    ("ES-03", 1): Answer(
        "Only a true CORS preflight passes without a key; the layer that answers it is the app's own (Starlette: 400)",
        {"wire_status": [400]},
    ),
    ("ES-12", 2): Answer(
        'on_unavailable="allow": count budgets locally while their store is down; never for keys',
        {"decision": "reject", "status": [503], "code": "key_service_unavailable"},
    ),
    ("EX-04", 0): _AMBIGUOUS,
    ("EX-04", 1): _AMBIGUOUS,
    ("EX-05", 0): _AMBIGUOUS,
    ("EX-10", 1): Answer(
        'extractors say where to look ("header:x-api-key"): a header of another name is no place, so there is no key',
        {"decision": "reject", "status": [401], "code": "missing_api_key"},
    ),
    ("EX-15", 0): Answer(
        "forward_key=False: the credential is removed before the app sees the scope, wherever it stood",
        {"downstream": {"headers_absent": ["x-api-key"], "headers_present": ["test"], "query_key": "removed"}},
    ),
    ("EX-26", 1): Answer(
        "extractors say where to look: a query nobody asked about is no place", {"decision": "admit", "status": [200]}
    ),
    ("EX-31", 0): _AMBIGUOUS,
    ("EX-31", 1): _AMBIGUOUS,
    ("IP-16", 0): Answer("A bad entry is an input error when it is typed", {"decision": "config_error", "status": []}),
    ("PR-12", 3): Answer(
        "a blank or junk entry ends the walk and the socket peer counts",
        {"decision": "reject", "status": [403], "code": "ip_not_allowed", "client_seen": "127.0.0.1"},
    ),
    ("PR-22", 0): Answer(
        "walked from the right, the first untrusted entry is the client",
        {"decision": "admit", "client_seen": "172.16.0.3"},
    ),
    ("PR-24", 0): Answer(
        "a blank or junk entry ends the walk and the socket peer counts",
        {"decision": "reject", "status": [403], "code": "ip_not_allowed", "client_seen": "127.0.0.1"},
    ),
    ("QU-09", 0): Answer(
        "quota used up | 429 | insufficient_quota; one decision takes from all or from none",
        {"status": [429], "code": "insufficient_quota"},
    ),
    ("QU-14", 1): Answer("a refusal changes no counter anywhere", {"window_remaining": [4]}),
    ("QU-14", 2): Answer("a refusal changes no counter anywhere", {"window_remaining": [3]}),
    ("ST-10", 0): Answer(
        "Fail closed: only lifespan passes by name; anything but http and websocket raises",
        {"decision": "observe", "app_called": False, "raised": "AkGuardError"},
    ),
    ("ST-15", 2): Answer(
        "Admitted responses carry RateLimit and RateLimit-Policy: no other rate limit header is ours to touch",
        {"decision": "admit", "acceptable_headers": ["77 only"], "header_count": 1, "remaining_header": 7},
    ),
    ("WI-10", 2): Answer(
        "A window is [start, start + length): free again exactly at its end", {"decision": "admit", "status": [200]}
    ),
    ("WI-11", 3): Answer(
        "Sliding is the weighted two-bucket counter: floor(10 * 1.7 / 2) = 8 of 10 still count, 2 pass",
        {"decision": "either", "status": [429], "code": "rate_limit_exceeded", "admitted": 2, "rejected": 3},
    ),
    ("WI-32", 0): Answer(
        "bad input raises ValueError subclasses that name the field", {"decision": "config_error", "status": []}
    ),
    ("WI-37", 0): Answer(
        "budget store unreachable and no lease left | 503 | limits_unavailable | short Retry-After",
        {
            "code": "limits_unavailable",
            "headers_absent": ["ratelimit", "ratelimit-limit"],
            "retry_after": {"min": 1, "max": 10},
        },
    ),
    ("WI-43", 0): Answer(
        "limits=[] means none, and windows of any amounts hold at once; an amount or length of 0 is bad input",
        {"each": ["buildable", "buildable", "config_error", "config_error"]},
    ),
    ("WS-06", 3): _AMBIGUOUS._replace(words={**_AMBIGUOUS.words, "identity": None}),
}

SKIPPED: Final[dict[str, str]] = {
    "ES-07": "no uniform_errors: whether a key is disabled or expired is told to a caller that holds the full secret",
    "GR-03": 'A key has one group (create(…, group="default")); here each key has two',
    "GR-04": 'A key has one group (create(…, group="default")); here the key has two',
}


def settled(case: Case) -> Case:
    """The case with our answers in the places where others differ."""
    expected = [
        {word: value for word, value in {**answer, **_ours(case.id, number)}.items() if value is not None}
        for number, answer in enumerate(case.expected)
    ]
    return replace(case, expected=expected)


def _ours(case_id: str, number: int) -> dict[str, Any]:
    answer = ANSWERS.get((case_id, number))
    return answer.words if answer else {}
