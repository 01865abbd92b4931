"""May it: groups and routes, addresses, expiry, quota."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from examples.demo.stage import Stage

OFFICE, ELSEWHERE = "203.0.113.7", "198.51.100.9"


async def show(stage: Stage) -> None:
    await _groups(stage)
    await _addresses(stage)
    await _expiry_and_quota(stage)


async def _groups(stage: Stage) -> None:
    board, send = stage.board, stage.send
    board.title("Groups: which routes, at what price, with which limits")
    _, reader = await stage.new("staging-web", group="reader")
    board.line("group reader (GET /v1/*): GET /v1/whoami", await send("/v1/whoami", reader), 200)
    posted = await send("/v1/chat", reader, method="POST", json={"text": "hello"})
    board.line("group reader: POST /v1/chat", posted, 403, "group_not_allowed")
    _, lost = await stage.new("dev-local", group="no-such-group")
    board.line("a key of a group that does not exist", await send("/v1/whoami", lost), 403, "group_not_allowed")
    paid_id, paid = await stage.new("prod-web", group="priority", quota=10)
    answer = await send("/v1/whoami", paid)
    board.line("group priority pays double", answer, 200, note=await stage.left(paid_id), want="left: quota 8")
    _, one = await stage.new("team-one", group="team")
    _, two = await stage.new("team-two", group="team")
    for _ in range(2):
        await send("/v1/whoami", one)
    board.line("group team shares 3 requests a day: third call", await send("/v1/whoami", two), 200)
    refused = await send("/v1/whoami", two)
    board.line(
        "group team: fourth call", refused, 429, "rate_limit_exceeded", _full(refused.body), "full: shared-1d-requests"
    )


async def _addresses(stage: Stage) -> None:
    board, send = stage.board, stage.send
    board.title("Addresses")
    _, fixed = await stage.new("billing-worker", allow_ips=["203.0.113.0/24"])
    board.line(f"allow list 203.0.113.0/24: from {OFFICE}", await send("/v1/whoami", fixed, ip=OFFICE), 200)
    refused = await send("/v1/whoami", fixed, ip=ELSEWHERE)
    board.line(f"allow list: from {ELSEWHERE}", refused, 403, "ip_not_allowed")
    _, shunned = await stage.new("customer-support-tool", allow_ips=["198.51.100.0/24"], deny_ips=[ELSEWHERE])
    board.line("deny list: from 198.51.100.8", await send("/v1/whoami", shunned, ip="198.51.100.8"), 200)
    refused = await send("/v1/whoami", shunned, ip=ELSEWHERE)
    board.line(f"deny list: from {ELSEWHERE}, denied beats allowed", refused, 403, "ip_not_allowed")
    seen = await send("/v1/whoami", fixed, ip=f"198.51.100.1, {OFFICE}")
    board.line(
        "a forged X-Forwarded-For entry further left",
        seen,
        200,
        note=f"client {seen.body['client']}",
        want=f"client {OFFICE}",
    )
    seen = await send("/v1/whoami", fixed, ip="203.0.113.0, junk")
    board.line("junk in X-Forwarded-For: the proxy itself counts", seen, 403, "ip_not_allowed")


async def _expiry_and_quota(stage: Stage) -> None:
    board, send = stage.board, stage.send
    board.title("Expiry and quota")
    _, short = await stage.new("contractor", expires_in="1h")
    board.line("a key for one hour", await send("/v1/whoami", short), 200)
    stage.clock.move("1h")
    board.line("the same key one hour later", await send("/v1/whoami", short), 401, "api_key_expired")
    budget_id, budget = await stage.new("event", quota=2)
    for call in ("first", "second"):
        board.line(f"quota 2: {call} call", await send("/v1/whoami", budget), 200, note=await stage.left(budget_id))
    refused = await send("/v1/whoami", budget)
    retry = refused.headers["x-should-retry"]
    board.line(
        "quota 2: third call", refused, 429, "insufficient_quota", f"x-should-retry: {retry}", "x-should-retry: false"
    )
    await stage.keys.update(budget_id, quota=3)
    board.line("quota raised to 3", await send("/v1/whoami", budget), 200)


def _full(body: dict[str, list[str]]) -> str:
    return "full: " + ", ".join(body["violated-policies"])
