"""The runner itself: it knows what it does not know, and a wrong answer does not pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ak_guard import InputError, custom_keys
from ak_guard.backends import MemoryBackend
from tests.cases.answers import ANSWERS, SKIPPED, settled
from tests.cases.language import KeyTexts, UnknownWord, lengthened, load, read
from tests.cases.play import Stores, Story

if TYPE_CHECKING:
    from tests.cases.language import Case

CASES = [settled(case) for case in [*load("cases.yaml"), *load("more_cases.yaml")]]

ADMITTED = {"decision": "admit", "status": [200]}
CALL = {"headers": [["x-api-key", "alpha-key-1"]]}


def a_case(
    request: dict[str, Any] | None = None,
    expected: dict[str, Any] | None = None,
    key: dict[str, Any] | None = None,
    config: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    return {
        "id": "T-01",
        "setup": {"keys": [{"name": "A", "value": "alpha-key-1", **(key or {})}], "config": config or {}},
        "requests": [{**CALL, **(request or {})}],
        "expected": [{**ADMITTED, **(expected or {})}],
        **more,
    }


async def new_memory() -> Stores:
    return Stores(MemoryBackend())


async def play(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    await Story(case, new_memory, caplog).play()


async def test_a_case_whose_answer_is_right_passes(caplog: pytest.LogCaptureFixture) -> None:
    await play(read(a_case()), caplog)


@pytest.mark.parametrize(
    "raw",
    [
        a_case(sleeps=1),
        a_case(request={"colour": "red"}),
        a_case(request={"app": {"sings": True}}),
        a_case(request={"after": {"admin_dance": 1}}),
        a_case(request={"after": {"admin_patch": {"colour": "red"}}}),
        a_case(request={"preset": {"colour": "red"}}),
        a_case(request={"mode": "half open"}),
        a_case(request={"set": {"colour": "red"}}),
        a_case(request={"headers": [["x-api-key", {"octal": "7"}]]}),
        a_case(request={"scope_headers_type": "set"}),
        a_case(request={"type": "admin", "admin": {"op": "dance"}}),
        a_case(request={"type": "admin", "admin": {"op": "list", "colour": "red"}}),
        a_case(request={"type": "admin", "admin": {"op": "list"}}, expected={"colour": "red"}),
        a_case(expected={"colour": "red"}),
        a_case(expected={"decision": "perhaps"}),
        a_case(expected={"decision": "either"}),
        a_case(expected={"status": [200, 403]}),
        a_case(expected={"downstream": {"colour": "red"}}),
        a_case(expected={"retry_after": {"about": 5}}),
        a_case(key={"colour": "red"}),
        a_case(key={"groups": ["one", "two"]}),
        a_case(config={"colour": "red"}),
        a_case(config={"uniform_errors": True}),
        a_case(config={"groups": {"default": {"colour": "red"}}}),
        a_case(config={"windows": [{"limit": 1, "seconds": 60, "colour": "red"}]}),
        a_case(config={"windows": [{"limit": 1, "seconds": 60, "algorithm": "bucket"}]}),
    ],
    ids=lambda raw: str(raw)[-60:],
)
async def test_an_unknown_word_stops_the_case(raw: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnknownWord):
        await play(read(raw), caplog)


_OPPOSITE = {"admit": "reject", "reject": "admit", "config_error": "admit", "buildable": "config_error"}


@pytest.mark.parametrize("case", [case for case in CASES if case.id not in SKIPPED], ids=lambda case: case.id)
async def test_a_case_fails_when_any_one_decision_is_turned_round(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    for answer in case.expected:
        decision = answer["decision"]
        if "each" in answer:
            answer["each"] = [_OPPOSITE[each] for each in answer["each"]]
        elif decision in _OPPOSITE:
            answer["decision"] = _OPPOSITE[decision]
        elif "raised" in answer:
            answer["raised"] = "nothing"
        elif "admitted" in answer:
            answer["admitted"] += 1
        else:
            continue
        with pytest.raises((AssertionError, UnknownWord)):
            await play(case, caplog)
        answer["decision"] = decision
        break


def test_every_answer_and_skip_of_ours_belongs_to_a_case() -> None:
    sizes = {case.id: len(case.expected) for case in load("cases.yaml")}
    assert [place for place in ANSWERS if place[1] >= sizes.get(place[0], 0)] == []
    assert SKIPPED.keys() <= sizes.keys()
    assert not SKIPPED.keys() & {case_id for case_id, _ in ANSWERS}


def test_no_two_cases_share_a_name() -> None:
    names = [case.id for case in CASES]
    assert len(names) == len(set(names))


def test_a_short_text_is_lengthened_to_a_key_that_may_be_chosen_and_always_to_the_same() -> None:
    with pytest.raises(InputError):
        custom_keys.check("alpha-key-1", peppered=False)
    custom_keys.check(lengthened("alpha-key-1"), peppered=False)
    assert lengthened("alpha-key-1") == lengthened("alpha-key-1")
    assert lengthened(lengthened("alpha-key-1")) == lengthened("alpha-key-1")


def test_a_text_is_replaced_where_it_stands_alone_and_nowhere_else() -> None:
    texts = KeyTexts()
    texts.stands_for("k1", "SECRET")
    sent = {"query": "a=k1&b=k12&c=ak1", "headers": [["x-api-key", "Bearer k1"], ["cookie", "x-k1; k1"]]}
    assert texts.put_into(sent) == {
        "query": "a=SECRET&b=k12&c=ak1",
        "headers": [["x-api-key", "Bearer SECRET"], ["cookie", "x-k1; SECRET"]],
    }
