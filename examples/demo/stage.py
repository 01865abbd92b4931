"""What every part of the demo works with: the running app, its keys, a clock to move and a client."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from httpx2 import AsyncClient, Response
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from examples.demo.board import Answer, Board

if TYPE_CHECKING:
    from fastapi import FastAPI

    from ak_guard import KeyManager
    from ak_guard.testing import ManualClock


@dataclass(frozen=True, slots=True)
class Stage:
    app: FastAPI
    address: str
    keys: KeyManager
    #: Stands still until it is moved, so that seven days take no time.
    clock: ManualClock
    client: AsyncClient
    board: Board

    async def send(
        self, path: str, key: str | None = None, *, ip: str | None = None, method: str = "GET", **more: Any
    ) -> Answer:
        """Send one request, with `key` as a bearer token, as if a proxy had it from the address `ip`."""
        headers: dict[str, str] = dict(more.pop("headers", {}))
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        if ip is not None:
            headers["x-forwarded-for"] = ip
        return answer_of(await self.client.request(method, path, headers=headers, **more))

    async def new(self, name: str, **rules: Any) -> tuple[str, str]:
        """Create a key; its id and its secret."""
        issued = await self.keys.create(name, **rules)
        return issued.key.id, issued.secret

    async def left(self, key_id: str) -> str:
        """What is left of a key's budgets, such as `5h 3, 1d 8`."""
        status = await self.keys.status(key_id)
        budgets = [*status.windows, *([status.quota] if status.quota else [])]
        return "left: " + ", ".join(f"{budget.name} {budget.remaining}" for budget in budgets)

    async def open_websocket(self, path: str, key: str | None = None) -> tuple[Answer, str]:
        """The answer to a websocket's handshake, and the first message where it was accepted."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        try:
            async with connect(f"ws://{self.address}{path}", additional_headers=headers, proxy=None) as socket:
                return Answer(101), str(await socket.recv())
        except InvalidStatus as refused:
            response = refused.response
            return answer_of(Response(response.status_code, content=bytes(response.body))), ""


def answer_of(response: Response) -> Answer:
    try:
        body = response.json()
    except ValueError:
        body = response.text
    code = body.get("code", "-") if isinstance(body, dict) else "-"
    return Answer(response.status_code, code, response.headers, body)
