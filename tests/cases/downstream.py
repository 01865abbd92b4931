"""What the app behind the guard gets to see of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from tests.cases.language import UnknownWord

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cases.guarded import Visit


def check_downstream(visit: Visit, wanted: dict[str, Any]) -> None:
    scope, admission = visit.scope, visit.admission
    headers = {name.lower().decode() for name, _ in scope["headers"]}
    query: str = scope["query_string"].decode()
    checks: dict[str, Callable[[Any], bool]] = {
        "query_string": lambda value: query == value,
        "query_string_equivalent_to": lambda value: parse_qsl(query) == parse_qsl(value),
        "must_not_contain": lambda value: value not in repr({**scope, "visit": None}),
        "headers_absent": lambda names: not headers & set(names),
        "headers_present": lambda names: set(names) <= headers,
        "header": lambda value: (value[0].encode(), value[1].encode()) in list(scope["headers"]),
        "query_key": lambda value: value == ("kept" if query else "removed"),
        "subprotocols": lambda value: scope["subprotocols"] == value,
        "state": lambda value: value == ("present" if admission else "absent"),
        "remaining": lambda value: admission is not None and admission.remaining == value,
        "cost": lambda value: admission is not None and admission.cost == value,
        "body": lambda value: b"".join(message["body"] for message in visit.received).decode() == value,
    }
    for word, value in wanted.items():
        if word not in checks:
            raise UnknownWord("downstream", word)
        assert checks[word](value), f"downstream {word}: not {value!r}"
