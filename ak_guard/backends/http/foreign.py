"""Somebody else's key service, which speaks no protocol of ours: how it is asked, and what its answer means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ak_guard.backends.base import Found


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: `path` goes behind the address of the service, `document` is sent as JSON."""

    path: str
    document: Any = None
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


class Translation(Protocol):
    """What `HTTPBackend(url, translation=…)` needs of a service that answers "verify this key" in its own way.

    A key is known by the SHA-256 of its text: the text itself stays with the guard. Asking must change nothing there,
    because it is done again where an answer was lost.
    """

    #: Asked while the service is away, to find out when it is back: any answer below 500 will do.
    probed: str

    def ask(self, digest: bytes) -> Asked:
        """How to ask who holds the secret with this digest."""
        ...

    def found(self, status: int, answer: Any) -> Found | None:
        """The key that an answer below 500 describes, None where it says that nobody holds the secret.

        `answer` is its JSON, None where it has none. Whatever is raised for an answer that makes no sense is taken for
        an outage, so that nobody is let in or turned away by mistake.
        """
        ...
