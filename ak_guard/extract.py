"""Find the key: in a header, a bearer token, a cookie, the query, or a websocket subprotocol."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable
from urllib.parse import unquote_to_bytes

from ak_guard.errors import ConfigurationError
from ak_guard.keys import MAX_KEY_BYTES
from ak_guard.records import Denial, checked_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping

    Scope = MutableMapping[str, Any]

#: Where clients put a key by themselves: the SDKs of OpenAI, Anthropic, Azure and Google, and browsers' realtime.
DEFAULT_EXTRACTORS: Final = (
    "bearer",
    "header:x-api-key",
    "header:api-key",
    "header:x-goog-api-key",
    "subprotocol:openai-insecure-api-key.",
)

_BLANKS: Final = b" \t"
# RFC 9110 5.6.2: what a name of a header or a cookie may be made of.
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VISIBLE: Final = re.compile(r"[\x21-\x7e]+")
_WORDS: Final = "bearer, header:NAME, cookie:NAME, query:NAME or subprotocol:PREFIX"


@runtime_checkable
class Extractor(Protocol):
    """A place where a key may stand. Implement it to look somewhere else."""

    def find(self, scope: Scope) -> list[bytes]:
        """Every value that stands there, blank ones left out, without changing the scope."""
        ...

    def remove(self, scope: Scope) -> None:
        """Take the values out of the scope, in place."""
        ...


class Header:
    """A header whose whole value is the key. Names are compared without regard to case."""

    __slots__ = ("name",)
    always_removed = False

    def __init__(self, name: str) -> None:
        self.name: bytes = name.lower().encode("latin-1")

    def value_of(self, line: bytes) -> bytes:
        """The key in one line of this header, empty when there is none."""
        return line.strip(_BLANKS)

    def find(self, scope: Scope) -> list[bytes]:
        values = (self.value_of(line) for name, line in scope["headers"] if name.lower() == self.name)
        return [value for value in values if value]

    def remove(self, scope: Scope) -> None:
        scope["headers"] = [
            (name, line) for name, line in scope["headers"] if name.lower() != self.name or not self.value_of(line)
        ]


class Bearer(Header):
    """`Authorization: Bearer KEY` (RFC 6750 2.1). The scheme's case and repeated spaces do not matter."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("authorization")

    def value_of(self, line: bytes) -> bytes:
        if line.startswith(b"Bearer "):  # as nearly everybody writes it
            return line[7:].strip(_BLANKS)
        if line[:1] in _BLANKS:
            line = line.strip(_BLANKS)
        return line[7:].strip(_BLANKS) if line[:7].lower() == b"bearer " else b""


class Cookie:
    """A cookie of this name; every `Cookie` header is read (RFC 6265 5.4 allows several over HTTP/2)."""

    __slots__ = ("name",)
    always_removed = False

    def __init__(self, name: str) -> None:
        self.name: bytes = name.encode("latin-1")

    def find(self, scope: Scope) -> list[bytes]:
        pairs = (pair for name, line in scope["headers"] if name.lower() == b"cookie" for pair in line.split(b";"))
        values = (self._value_of(pair) for pair in pairs)
        return [value for value in values if value]

    def remove(self, scope: Scope) -> None:
        headers = []
        for name, line in scope["headers"]:
            if name.lower() != b"cookie":
                headers.append((name, line))
            elif kept := b";".join(pair for pair in line.split(b";") if not self._value_of(pair)).strip(_BLANKS):
                headers.append((name, kept))
        scope["headers"] = headers

    def _value_of(self, pair: bytes) -> bytes:
        name, _, value = pair.strip(_BLANKS).partition(b"=")
        return value.strip(_BLANKS).strip(b'"') if name.rstrip(_BLANKS) == self.name else b""


class Query:
    """A query parameter. It is always taken out of the scope, in place, so that access logs do not show it.

    The other parameters keep their bytes.
    """

    __slots__ = ("name",)
    always_removed = True

    def __init__(self, name: str) -> None:
        self.name: bytes = name.encode()

    def find(self, scope: Scope) -> list[bytes]:
        query = scope.get("query_string") or b""
        values = (_unquoted(value) for name, _, value in _pairs(query) if _unquoted(name) == self.name)
        return [stripped for value in values if (stripped := value.strip(_BLANKS))]

    def remove(self, scope: Scope) -> None:
        kept = [
            name + equals + value
            for name, equals, value in _pairs(scope.get("query_string") or b"")
            if _unquoted(name) != self.name
        ]
        scope["query_string"] = b"&".join(kept)


class Subprotocol:
    """A websocket subprotocol that carries the key behind a prefix, as browsers must send it.

    It is always removed: a server may only choose among subprotocols that mean something.
    """

    __slots__ = ("prefix",)
    always_removed = True

    def __init__(self, prefix: str) -> None:
        self.prefix: str = prefix

    def find(self, scope: Scope) -> list[bytes]:
        offered = scope.get("subprotocols") or ()
        values = (text[len(self.prefix) :] for text in offered if text.startswith(self.prefix))
        return [value.encode("utf-8", "surrogatepass") for value in values if value.strip()]

    def remove(self, scope: Scope) -> None:
        scope["subprotocols"] = [text for text in scope["subprotocols"] if not text.startswith(self.prefix)]
        prefix = self.prefix.encode()
        headers = []
        for name, line in scope["headers"]:
            if name.lower() != b"sec-websocket-protocol":
                headers.append((name, line))
                continue
            offered = (part.strip(_BLANKS) for part in line.split(b","))
            if kept := b", ".join(part for part in offered if not part.startswith(prefix)):
                headers.append((name, kept))
        scope["headers"] = headers


def _pairs(query: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [pair.partition(b"=") for pair in query.split(b"&") if pair]


def _unquoted(value: bytes) -> bytes:
    return unquote_to_bytes(value.replace(b"+", b" "))


class KeyFinder:
    """Look in every place, and answer one key or a `Denial`.

    Equal values count as one key; different ones are refused, because a proxy in front may have judged the other.
    """

    __slots__ = ("_by_header", "_elsewhere", "_lengths", "_removed")

    def __init__(self, extractors: Iterable[str | Extractor] | None = None, *, forward_key: bool = True) -> None:
        words = DEFAULT_EXTRACTORS if extractors is None else checked_list("extractors", extractors, "'bearer'")
        places = [_extractor(word) for word in words]
        if not places:
            raise ConfigurationError(f"extractors: the list is empty, so no key could be found; name {_WORDS}")
        # Headers are read in one pass over the request; only the other places are asked one by one.
        self._by_header: dict[bytes, Header] = {}
        for place in places:
            if isinstance(place, Header) and self._by_header.setdefault(place.name, place) is not place:
                raise ConfigurationError(f"extractors: the header {place.name.decode()} is named twice")
        self._lengths = frozenset(map(len, self._by_header))
        elsewhere = [place for place in places if not isinstance(place, Header)]
        removed = [place for place in places if not forward_key or getattr(place, "always_removed", False)]
        self._elsewhere = {kind: _where(elsewhere, kind) for kind in ("http", "websocket")}
        self._removed = {kind: _where(removed, kind) for kind in ("http", "websocket")}

    def find(self, scope: Scope) -> bytes | Denial:
        """Return the key's bytes or the refusal that its absence or shape deserves."""
        kind: str = scope["type"]
        by_header, lengths = self._by_header, self._lengths
        found: list[bytes] = []
        # A loop and no comprehension, which would be a call of its own.
        for name, line in scope["headers"]:
            # Names should be in lower case, but ASGI does not demand it. Most have another length and end here.
            if len(name) in lengths:
                place = by_header.get(name.lower())
                if place is not None and (value := place.value_of(line)):
                    found.append(value)
        for elsewhere in self._elsewhere[kind]:
            found += elsewhere.find(scope)
        if not found:
            return Denial("missing_api_key", "No API key was sent.")
        if self._removed[kind]:
            self.strip(scope)
        key = found[0]
        if len(found) > 1 and len(set(found)) > 1:
            if max(map(len, found)) > MAX_KEY_BYTES:
                return _too_large()
            return Denial("ambiguous_credentials", "Different API keys were sent in one request.")
        return key if len(key) <= MAX_KEY_BYTES else _too_large()

    def strip(self, scope: Scope) -> None:
        """Take out of the scope what the app or the server's log must not see."""
        for removed in self._removed[scope["type"]]:
            if removed.find(scope):
                removed.remove(scope)


def _too_large() -> Denial:
    return Denial("credential_too_large", f"The API key has more than {MAX_KEY_BYTES} bytes.")


def _where(places: list[Extractor], kind: str) -> tuple[Extractor, ...]:
    """The places that a scope of this type can have."""
    return tuple(place for place in places if kind == "websocket" or not isinstance(place, Subprotocol))


def _extractor(word: str | Extractor) -> Extractor:
    if isinstance(word, Extractor) and not isinstance(word, type):
        return word
    kind, _, name = word.partition(":") if isinstance(word, str) else ("", "", "")
    if kind == "bearer" and not name:
        return Bearer()
    makers: dict[str, Callable[[str], Extractor]] = {
        "header": Header,
        "cookie": Cookie,
        "query": Query,
        "subprotocol": Subprotocol,
    }
    token = kind in {"header", "cookie"}
    if kind not in makers or not (_TOKEN if token else _VISIBLE).fullmatch(name):
        raise ConfigurationError(f"extractors: {word!r} is not understood; write {_WORDS}")
    return makers[kind](name)
