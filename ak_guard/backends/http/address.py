"""Where a key service is, who asks it, and how long an answer may take: checked when it is typed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

import httpx2

from ak_guard.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Others stand for a connection or are set from the token.
_NOT_OURS: Final = {"authorization", "host", "content-length", "content-type", "connection", "transfer-encoding"}


class Patience(NamedTuple):
    """How long each step may take, in seconds."""

    connect: float
    read: float

    @property
    def whole(self) -> float:
        """From the first to the last byte, also where each single step is quick enough."""
        return self.connect + self.read


@dataclass(frozen=True, slots=True)
class Address:
    """What every request to a key service has in common. The token shows in no `repr`."""

    base: str
    headers: httpx2.Headers
    tls: ssl.SSLContext
    patience: Patience

    def __repr__(self) -> str:
        return f"Address({self.base!r})"


def address_of(
    url: str,
    *,
    token: str | None,
    headers: Mapping[str, str],
    ca: str | None,
    certificate: str | tuple[str, str] | None,
    tls: ssl.SSLContext | None,
    patience: Patience,
) -> Address:
    """Check all of it. Raises `ConfigurationError` that repeats no token and no password."""
    for name, seconds in patience._asdict().items():
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 60:
            raise ConfigurationError(f"{name}: {seconds!r} must be seconds above 0 and up to 60")
    return Address(_base(url), _headers(token, headers), _tls(url, ca, certificate, tls), patience)


def is_open_wire(base: str) -> bool:
    """Whether a token sent there can be read on the way: plain HTTP to another machine."""
    parts = urlsplit(base)
    if parts.scheme == "https" or parts.hostname == "localhost":
        return False
    try:
        return not ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return True


def _base(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        raise ConfigurationError(
            "backend: an address of a key service is written https://keys.internal or http://127.0.0.1:9000"
        )
    if "@" in parts.netloc:
        raise ConfigurationError("backend: the address of a key service holds no user or password; give token= instead")
    if parts.query or parts.fragment:
        raise ConfigurationError("backend: the address of a key service ends with its path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _headers(token: str | None, headers: Mapping[str, str]) -> httpx2.Headers:
    given = httpx2.Headers({"accept": "application/json", "user-agent": "ak_guard"})
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str) or not name or name.lower() in _NOT_OURS:
            raise ConfigurationError(f"headers: {name!r} cannot be set here")
        if not (name + value).isprintable() or not (name + value).isascii():
            raise ConfigurationError(f"headers: {name!r} must have printable ASCII text")
        given[name] = value
    if token:
        if not all("!" <= letter <= "~" for letter in token):
            raise ConfigurationError("token: must be printable ASCII without blanks")
        given["authorization"] = f"Bearer {token}"
    return given


def _tls(
    url: str, ca: str | None, certificate: str | tuple[str, str] | None, given: ssl.SSLContext | None
) -> ssl.SSLContext:
    if given is not None:
        if ca or certificate:
            raise ConfigurationError("tls: a context stands alone; load ca and certificate into it")
        return given
    if not url.startswith("https:"):
        if ca or certificate:
            raise ConfigurationError("ca: plain http:// has no certificates; write https://")
        # Not used, and trusts nobody; the default one would read all certificates of the machine.
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context = ssl.create_default_context(cafile=ca)
        if certificate is not None:
            context.load_cert_chain(*((certificate,) if isinstance(certificate, str) else certificate))
    except (OSError, ValueError) as error:
        # Of a file that is missing, of one that holds no certificate, or no key that fits.
        raise ConfigurationError(f"ca, certificate: cannot be loaded ({type(error).__name__})") from error
    return context
