"""What is owed stays owed until the store has confirmed it, under the number it was sent with."""

from __future__ import annotations

import threading

from ak_guard.budgets import Change, Window
from ak_guard.budgets.redis_debts import Batch, Debts

DAY, HOUR = Window(100, 86_400), Window(10, 3_600)


def debts_of(*units: int) -> Debts:
    debts = Debts()
    for count in units:
        debts.owe("key/a", [Change(DAY, count, None)], 1.0)
    return debts


def units(batches: tuple[Batch, ...]) -> list[list[int]]:
    return [[change.units for change, _ in batch.changes] for batch in batches]


def test_changes_of_one_window_are_merged_until_they_are_sent() -> None:
    debts = debts_of(1, 2, 4)
    debts.owe("key/a", [Change(HOUR, 5, None), Change(DAY, -1, 77)], 2.0)
    (batch,) = debts.take("key/a")
    assert batch.changes == (
        (Change(DAY, 7, None), 1.0),
        (Change(HOUR, 5, None), 2.0),
        (Change(DAY, -1, 77), 2.0),
    )
    debts.owe("key/a", [Change(DAY, 3, None)], 3.0)
    assert units(debts.take("key/a")) == [[7, 5, -1], [3]]


def test_what_was_not_confirmed_is_sent_again_under_its_number() -> None:
    debts = debts_of(1)
    first = debts.take("key/a")
    assert debts.take("key/a") == first
    debts.confirm("key/a", first)
    assert debts.take("key/a") == ()
    assert debts.subjects() == []


def test_a_confirmation_reaches_no_later_batch() -> None:
    debts = debts_of(1)
    first = debts.take("key/a")
    debts.owe("key/a", [Change(DAY, 2, None)], 1.0)
    second = debts.take("key/a")
    debts.confirm("key/a", first)
    assert debts.take("key/a") == second[1:]
    assert second[1].number > first[0].number
    debts.owe("key/a", [Change(DAY, 4, None)], 1.0)
    debts.confirm("key/a", second)
    assert units(debts.take("key/a")) == [[4]]


def test_what_nobody_answered_for_does_not_grow() -> None:
    debts = debts_of(1)
    assert debts.doubtful("key/a") == ()
    sent = debts.take("key/a")
    debts.unanswered("key/a")
    for _ in range(100):
        debts.owe("key/a", [Change(DAY, 1, None)], 1.0)
        assert debts.doubtful("key/a") == sent
    debts.confirm("key/a", sent)
    assert debts.doubtful("key/a") == ()
    assert units(debts.take("key/a")) == [[100]]


def test_subjects_are_apart() -> None:
    debts = debts_of(1)
    debts.owe("key/b", [Change(DAY, 2, None)], 1.0)
    assert debts.subjects(but="key/a") == ["key/b"]
    debts.confirm("key/a", debts.take("key/a"))
    assert debts.subjects() == ["key/b"]
    assert debts.take("key/a") == ()
    assert units(debts.take("key/b")) == [[2]]


def test_threads_lose_nothing() -> None:
    debts = Debts()

    def charge() -> None:
        for _ in range(1_000):
            debts.owe("key/a", [Change(DAY, 1, None)], 1.0)

    threads = [threading.Thread(target=charge) for _ in range(4)]
    for thread in threads:
        thread.start()
    counted = 0
    while any(thread.is_alive() for thread in threads) or debts.subjects():
        batches = debts.take("key/a")
        counted += sum(sum(counts) for counts in units(batches))
        debts.confirm("key/a", batches)
    assert counted == 4_000


def test_every_process_writes_under_a_name_of_its_own() -> None:
    debts = Debts()
    assert debts.writer == debts.writer != Debts().writer
