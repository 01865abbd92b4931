"""What stands out in the use of a key, and what does not."""

from __future__ import annotations

import pytest

from ak_guard.notation import HOUR
from ak_guard.usage.anomalies import (
    KNOWN_NETWORKS,
    Anomaly,
    anomalies,
    is_among,
    is_new_network,
    network_of,
    whole_network,
)
from ak_guard.usage.records import UsageRecord
from ak_guard.usage.summaries import Period, summary, sums_of

NOW = 1_800_014_400
WEEK = 7 * 24 * HOUR


def calls(
    hour: int, times: int = 5, *, ip: str = "203.0.113.7", cost: int = 2, code: str = "admitted"
) -> list[UsageRecord]:
    """Some requests, so many hours ago."""
    at = NOW - hour * HOUR - 600
    return [UsageRecord(at + one, "key_1", "default", ip, "GET", "/v1", 200, code, cost, 0.1) for one in range(times)]


def found(*records: list[UsageRecord]) -> list[Anomaly]:
    flat = [one for some in records for one in some]
    recent = Period.of(NOW - 24 * HOUR, NOW, "hour", NOW)
    usual = Period.of(NOW - 24 * HOUR - WEEK, NOW - 24 * HOUR, "hour", NOW)
    return list(anomalies(summary(recent, sums_of(flat)), summary(usual, sums_of(flat))))


HABIT = [one for hour in range(30, 130, 5) for one in calls(hour)]


def test_what_goes_on_as_before_stands_out_in_nothing() -> None:
    assert found(HABIT, calls(3), calls(2), calls(1)) == []


def test_without_a_habit_nothing_is_unusual() -> None:
    assert found(calls(100, 3), calls(2, 500, ip="198.51.100.9", cost=90)) == []


def test_a_new_network_is_told_with_its_calls_and_what_is_usual() -> None:
    (one,) = found(HABIT, calls(4, 3, ip="198.51.100.9"), calls(2, 4, ip="198.51.100.77"), calls(1, ip="203.0.113.99"))
    assert (one.kind, one.subject, one.calls, one.cost) == ("new_network", "198.51.100.0/24", 7, 14)
    assert one.at.timestamp() == NOW - 4 * HOUR - 600
    assert one.text == (
        "7 calls (14 units) from 198.51.100.0/24, a network this key never came from; it comes from 1 network"
    )


def test_an_hour_of_much_spending_is_told_beside_the_usual_hour() -> None:
    (one,) = found(HABIT, calls(2, 60))
    assert (one.kind, one.seen, one.usual) == ("velocity", 120, 10)
    assert one.text.startswith("120 units in the hour from ")
    assert one.text.endswith("usual are 10")
    # Somebody whose hours differ much is allowed another one of the large ones.
    assert found(HABIT, calls(50, 60), calls(2, 60)) == []


def test_many_addresses_are_told_where_there_were_few() -> None:
    spread = [calls(2, 1, ip=f"203.0.113.{number}") for number in range(100, 112)]
    (one,) = found(HABIT, *spread)
    assert (one.kind, one.seen, one.usual) == ("spread", 12, 1)
    assert one.text == "calls from 12 addresses; usual are 1"


def test_refusals_are_told_where_there_were_none() -> None:
    (one,) = found(HABIT, calls(2, 24, code="rate_limit_exceeded", cost=0), calls(2, 6))
    assert (one.kind, one.seen, one.usual) == ("refusals", 0.8, 0)
    assert one.text == "80% of 30 calls were refused; usual are 0%"


def test_networks_are_those_that_one_party_may_hold() -> None:
    assert network_of("203.0.113.7") == "203.0.113.0/24"
    assert network_of("2001:db8:1:2::3") == "2001:db8:1::/48"
    assert network_of("other") == "other"


@pytest.mark.parametrize(
    ("known", "whole", "among"),
    [
        ("198.51.100.9", "198.51.100.0/24", True),
        ("198.51.100.0/25", "198.51.100.0/24", True),
        ("198.51.96.0/20", "198.51.96.0/20", True),
        ("198.51.101.0/24", "198.51.101.0/24", False),
        ("2001:db8:1:2::5", "2001:db8:1::/48", False),
    ],
)
def test_a_network_that_is_ours_counts_as_large_as_networks_are_told_apart(known: str, whole: str, among: bool) -> None:
    assert whole_network(known) == whole
    assert is_among("198.51.100.0/24", [known]) is among
    before = {"203.0.113.7": 20}
    assert is_new_network("198.51.100.17", before, {KNOWN_NETWORKS: [known]}) is not among
    assert is_new_network("198.51.100.17", before, {KNOWN_NETWORKS: ["nonsense", known]}) is not among
