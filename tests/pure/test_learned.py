"""Which allow list is proposed out of what a key did."""

from __future__ import annotations

from datetime import UTC, datetime

from ak_guard.usage.learned import learned_addresses
from ak_guard.usage.records import UsageRecord
from ak_guard.usage.summaries import Period, UsageSummary, summary, sums_of

DAY = 86_400
NOON = 1_800_014_400.0
NEWS = datetime.fromtimestamp(NOON - DAY, UTC)


def calls(ip: str | None, count: int, at: float = NOON - 3 * DAY, code: str = "admitted") -> list[UsageRecord]:
    return [UsageRecord(at + n, "key_1", "default", ip, "GET", "/", 200, code, 1, 0.1) for n in range(count)]


def told(*batches: list[UsageRecord]) -> UsageSummary:
    return summary(Period.of(NOON - 30 * DAY, None, "hour", NOON), sums_of([one for batch in batches for one in batch]))


def test_addresses_come_with_the_most_calls_first_and_three_of_a_network_are_that_network() -> None:
    usage = told(
        calls("198.51.100.9", 3),
        *(calls(f"203.0.113.{last}", 30 - last) for last in (7, 8, 9)),
        calls("2001:db8:1:2::5", 2),
    )
    assert learned_addresses(usage, news=NEWS) == ("203.0.113.0/24", "198.51.100.9", "2001:db8:1:2::5")


def test_who_was_refused_or_is_no_address_is_not_proposed() -> None:
    usage = told(
        calls("203.0.113.7", 5),
        calls("198.51.100.9", 50, code="ip_not_allowed"),
        calls("other", 9),
        calls(None, 9),
    )
    assert learned_addresses(usage, news=NEWS) == ("203.0.113.7",)


def test_a_network_that_is_news_is_left_out_unless_it_is_ours_or_there_is_no_habit() -> None:
    news = [calls("198.51.100.9", 40, NOON - 60), calls("203.0.113.99", 1, NOON - 60)]
    habit = told(calls("203.0.113.7", 20), *news)
    assert learned_addresses(habit, news=NEWS) == ("203.0.113.7", "203.0.113.99")
    assert learned_addresses(habit, news=NEWS, ours=["198.51.100.0/24"]) == (
        "198.51.100.9",
        "203.0.113.7",
        "203.0.113.99",
    )
    assert "198.51.100.9" in learned_addresses(habit, news=NEWS, ours=["198.51.96.0/20"])
    young = told(calls("203.0.113.7", 19), *news)
    assert set(learned_addresses(young, news=NEWS)) == {"198.51.100.9", "203.0.113.7", "203.0.113.99"}
    assert learned_addresses(told(), news=NEWS) == ()
