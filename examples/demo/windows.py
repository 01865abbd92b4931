"""Is there enough: several windows at once, all or nothing, and what the work really cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.demo.board import Answer
    from examples.demo.stage import Stage


async def show(stage: Stage) -> None:
    await _three_windows(stage)
    await _all_or_nothing(stage)
    await _settlement(stage)


async def _three_windows(stage: Stage) -> None:
    board, send = stage.board, stage.send
    board.title("Limits of 2/5h, 3/1d and 4/7d hold at once")
    key_id, key = await stage.new("prod-api", limits=["2/5h", "3/1d", "4/7d"])
    for call, left in (("first", "5h 1, 1d 2, 7d 3"), ("second", "5h 0, 1d 1, 7d 2")):
        answer = await send("/v1/whoami", key)
        board.line(f"{call} call", answer, 200, note=await stage.left(key_id), want=f"left: {left}")
    refused = await send("/v1/whoami", key)
    board.line("third call", refused, 429, "rate_limit_exceeded", _why(refused), "Retry-After: 18000, full: 5h")
    stage.clock.move("5h")
    answer = await send("/v1/whoami", key)
    board.line("5 hours later", answer, 200, note=await stage.left(key_id), want="left: 5h 1, 1d 0, 7d 1")
    refused = await send("/v1/whoami", key)
    board.line("next call", refused, 429, "rate_limit_exceeded", _why(refused), "Retry-After: 68400, full: 1d")
    stage.clock.move("19h")
    answer = await send("/v1/whoami", key)
    board.line("1 day after the first call", answer, 200, note=await stage.left(key_id), want="left: 5h 1, 1d 2, 7d 0")
    refused = await send("/v1/whoami", key)
    board.line("next call", refused, 429, "rate_limit_exceeded", _why(refused), "Retry-After: 518400, full: 7d")
    stage.clock.move("6d")
    answer = await send("/v1/whoami", key)
    board.line("7 days after the first call", answer, 200, note=answer.headers["ratelimit"])


async def _all_or_nothing(stage: Stage) -> None:
    board, send = stage.board, stage.send
    board.title("All or nothing: a refused request costs nothing anywhere")
    key_id, key = await stage.new("prod-images", limits=["6/5h", "100/7d"], quota=50)
    answer = await send("/v1/image", key)
    before = await stage.left(key_id)
    board.line("an image costs 5 units", answer, 200, note=before, want="left: 5h 1, 7d 95, quota 45")
    refused = await send("/v1/image", key)
    after = await stage.left(key_id)
    board.line("a second image: the 5 h window is short", refused, 429, "rate_limit_exceeded", after, before)
    answer = await send("/v1/whoami", key)
    after = await stage.left(key_id)
    board.line("a call of 1 unit still fits", answer, 200, note=after, want="left: 5h 0, 7d 94, quota 44")
    key_id, key = await stage.new("dev-images", limits=["4/5h"])
    refused = await send("/v1/image", key)
    waits = "Retry-After" if "retry-after" in refused.headers else "no Retry-After, it can never pass"
    board.line(
        "an image under a limit of 4/5h", refused, 429, "cost_exceeds_limit", waits, "no Retry-After, it can never pass"
    )


async def _settlement(stage: Stage) -> None:
    board, send = stage.board, stage.send
    board.title("Charged when the work is done")
    key_id, key = await stage.new("prod-chat", limits=["10/1d"])
    answer = await send("/v1/chat", key, method="POST", json={"text": "one unit for each word"})
    board.line("a reply of 5 words", answer, 200, note=await stage.left(key_id), want="left: 1d 5")
    answer = await send("/v1/chat", key, method="POST", json={"text": "a long reply may pass the limit once"})
    board.line("a reply of 8 words may pass the limit", answer, 200, note=await stage.left(key_id), want="left: 1d 0")
    refused = await send("/v1/whoami", key)
    board.line("then the key waits for its window", refused, 429, "rate_limit_exceeded", _why(refused))


def _why(refused: Answer) -> str:
    full = ", ".join(refused.body["violated-policies"])
    return f"Retry-After: {refused.headers['retry-after']}, full: {full}"
