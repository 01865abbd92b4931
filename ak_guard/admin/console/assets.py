"""Stylesheet, script and icon, read once: they are small, and no request waits for the disk."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.responses import Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

_ROOM: Final = Path(__file__).parent / "static"
_KINDS: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_FOR_EVER: Final = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """A file; `mark` changes with its content, so that a new version has a new address."""

    content: bytes
    kind: str
    mark: str


@cache
def assets() -> Mapping[str, Asset]:
    """All of them by name."""
    found = {}
    for file in _ROOM.iterdir():
        content = file.read_bytes()
        found[file.name] = Asset(content, _KINDS[file.suffix], sha256(content).hexdigest()[:12])
    return found


async def serve(request: Request) -> Response:
    """One file; under the address that holds its mark browsers keep it for ever."""
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return Response(status_code=404)
    tag = f'"{asset.mark}"'
    kept = _FOR_EVER if request.query_params.get("v") == asset.mark else "no-cache"
    headers = {"etag": tag, "cache-control": kept}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(asset.content, media_type=asset.kind, headers=headers)
