"""What each host tells of a request it was handed on."""

from __future__ import annotations

from typing import Any, Final

STREAM: Final = ("one ", "two ", "three")


def told(admission: Any, *, started: bool) -> dict[str, Any]:
    """Whose request it is, as the host itself sees it, and whether the host's own start-up ran."""
    return {"key": admission.key.name, "client": admission.client, "started": started}
