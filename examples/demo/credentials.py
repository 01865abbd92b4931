"""Who is it: where a key may stand and what is no key."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from ak_guard import InputError

if TYPE_CHECKING:
    from examples.demo.stage import Stage


async def show(stage: Stage) -> None:
    board, send = stage.board, stage.send
    _, good = await stage.new("prod-api")
    _, other = await stage.new("staging-web")

    board.title("Whose is it?")
    answer = await send("/v1/whoami")
    board.line("no key", answer, 401, "missing_api_key", answer.headers["www-authenticate"], 'Bearer realm="api"')
    board.line(
        "a key that nobody holds", await send("/v1/whoami", "nobody-" + secrets.token_hex(12)), 401, "invalid_api_key"
    )
    # The last six characters are a checksum, so this is refused without a look-up.
    typo = good[:-1] + ("A" if good[-1] != "A" else "B")
    board.line("a good key with one wrong letter", await send("/v1/whoami", typo), 401, "invalid_api_key")
    answer = await send("/v1/whoami", good)
    board.line(
        "a good key, Authorization: Bearer", answer, 200, note=f"hello {answer.body['key']}", want="hello prod-api"
    )
    answer = await send("/v1/whoami", headers={"x-api-key": good})
    board.line("a good key, x-api-key", answer, 200, note=f"hello {answer.body['key']}", want="hello prod-api")
    both = await send("/v1/whoami", good, headers={"x-api-key": good})
    board.line("the same key in two places", both, 200)
    both = await send("/v1/whoami", good, headers={"x-api-key": other})
    board.line("two different keys in one request", both, 400, "ambiguous_credentials")
    board.line("a key of 600 bytes", await send("/v1/whoami", "k" * 600), 431, "credential_too_large")
    board.line("a public path without a key", await send("/health"), 200)
    preflight = {"origin": "https://app.example", "access-control-request-method": "GET"}
    answer = await send("/v1/whoami", method="OPTIONS", headers=preflight)
    board.line("a CORS preflight without a key reaches the app", answer, 405)

    board.title("A key of your own choice")
    chosen = "Vq7-mTz2.Lw9x_Rk4-Hd8p"
    await stage.new("billing-worker", key=chosen)
    answer = await send("/v1/whoami", chosen)
    board.line("a custom key", answer, 200, note=f"hello {answer.body['key']}", want="hello billing-worker")
    try:
        await stage.new("dev-local", key="my-secret-password-1234")
        said = "accepted"
    except InputError as error:
        said = str(error)
    board.say("my-secret-password-1234 as a custom key", said, "key: is a placeholder that everybody knows")
