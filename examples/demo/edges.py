"""At the edges: websockets, streams, strangers who guess, and a guard that is configured wrongly."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final

from httpx2 import AsyncClient

from ak_guard import ApiKeyMiddleware
from examples import fastapi_app
from examples.demo.board import Answer
from examples.demo.server import serving
from examples.demo.stage import answer_of

if TYPE_CHECKING:
    from examples.demo.stage import Stage

_ATTEMPTS: Final = 32
_STRANGER: Final = "198.51.100.66"


async def show(stage: Stage) -> None:
    await _connections(stage)
    await _flood(stage)
    await _misconfigured(stage)


async def _connections(stage: Stage) -> None:
    board = stage.board
    _, key = await stage.new("prod-api", limits=["100/5h"])
    board.title("Websockets and streams")
    answer, _ = await stage.open_websocket("/v1/live")
    board.line("a websocket without a key, refused before accept", answer, 401, "missing_api_key")
    answer, message = await stage.open_websocket("/v1/live", key)
    board.line("a websocket with a key", answer, 101, note=message, want="hello prod-api")

    headers = {"authorization": f"Bearer {key}"}
    read = []
    async with asyncio.timeout(10), stage.client.stream("GET", "/v1/stream", headers=headers) as response:
        async for part in response.aiter_text():
            read.append(part)
            stage.app.state.read_first.set()
    answer = Answer(response.status_code)
    board.line(
        "a stream: part one is here before part two is made", answer, 200, note=" | ".join(read), want="first  | second"
    )


async def _flood(stage: Stage) -> None:
    board = stage.board
    _, key = await stage.new("staging-web")
    board.title("Someone guesses keys from one address")
    answers = [await stage.send("/v1/whoami", "guess-" + secrets.token_hex(16), ip=_STRANGER) for _ in range(_ATTEMPTS)]
    unknown = sum(answer.code == "invalid_api_key" for answer in answers)
    last = answers[-1]
    board.line(
        f"{_ATTEMPTS} unknown keys from {_STRANGER}",
        last,
        429,
        "too_many_failures",
        f"after {unknown} times 401",
        "after 30 times 401",
    )
    answer = await stage.send("/v1/whoami", "guess-" + secrets.token_hex(16), ip="198.51.100.67")
    board.line("one unknown key from another address", answer, 401, "invalid_api_key")
    board.line("a good key from another address", await stage.send("/v1/whoami", key, ip="198.51.100.67"), 200)
    board.line("the same key from the guesser's address", await stage.send("/v1/whoami", key, ip=_STRANGER), 200)


async def _misconfigured(stage: Stage) -> None:
    stage.board.title("A guard with a wrong setting lets nothing through")
    wrong = ApiKeyMiddleware(fastapi_app.app, backend="memory://", failure_limit="30/fortnight")
    # A server that runs the lifespan protocol refuses to start; this one does not run it.
    async with serving(wrong, lifespan="off") as address, AsyncClient(base_url=f"http://{address}") as client:
        answer = answer_of(await client.get("/v1/whoami", headers={"authorization": "Bearer " + "k" * 24}))
    stage.board.line("failure_limit='30/fortnight'", answer, 503, "misconfigured")
