"""The people who run it: disable, enable, delete, rotate, explain."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.demo.stage import Stage


async def show(stage: Stage) -> None:
    board, send, keys = stage.board, stage.send, stage.keys
    board.title("Disable, enable, rotate, delete: at once")
    key_id, key = await stage.new("prod-api", limits=["100/5h"])
    board.line("a good key", await send("/v1/whoami", key), 200)
    await keys.disable(key_id)
    board.line("disabled", await send("/v1/whoami", key), 401, "api_key_disabled")
    await keys.enable(key_id)
    board.line("enabled again", await send("/v1/whoami", key), 200)

    renewed = (await keys.rotate(key_id, grace="1h")).secret
    board.line("rotated with an hour of grace: the old secret", await send("/v1/whoami", key), 200)
    answer = await send("/v1/whoami", renewed)
    board.line("the new secret, same key", answer, 200, note=await stage.left(key_id), want="left: 5h 96")
    stage.clock.move("1h")
    board.line("an hour later: the old secret", await send("/v1/whoami", key), 401, "invalid_api_key")
    board.line("an hour later: the new secret", await send("/v1/whoami", renewed), 200)

    await keys.delete(key_id)
    board.line("deleted", await send("/v1/whoami", renewed), 401, "invalid_api_key")

    board.title("Explain: what would become of a request, and when it would pass")
    key_id, key = await stage.new("contractor", allow_ips=["203.0.113.0/24"], limits=["1/5h"])
    board.line("its only call in 5 hours", await send("/v1/whoami", key, ip="203.0.113.7"), 200)
    for ip, status, wait in (("203.0.113.7", 429, "in 18000 s"), ("198.51.100.9", 403, "never")):
        refused = await send("/v1/whoami", key, ip=ip)
        told = await keys.explain(key_id, ip=ip, path="/v1/whoami")
        passes = "never" if told.passes_at is None else f"in {told.passes_at.timestamp() - stage.clock():.0f} s"
        board.line(f"again from {ip}", refused, status, told.code, f"passes {passes}", f"passes {wait}")
