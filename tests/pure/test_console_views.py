"""What the console makes of numbers and rules: gauges, words, charts, languages. No page and no store."""

from __future__ import annotations

import string
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ak_guard import ApiKey, Group, Limit
from ak_guard.admin.console.charts import Column, drawn, step_for
from ak_guard.admin.console.draft import draft_of, read, window_text
from ak_guard.admin.console.gauges import gauges_of, length_of, window_gauge
from ak_guard.admin.console.in_words import Spoken, in_words, reachable
from ak_guard.admin.console.problems import problem_words
from ak_guard.admin.console.rows import row_of
from ak_guard.admin.console.tongue import Tongue, chosen_language
from ak_guard.admin.console.usage import sliced
from ak_guard.admin.console.waiting import note_of
from ak_guard.backends.workers import Confirmation, Worker
from ak_guard.listing import ListedKey
from ak_guard.status import BudgetStatus, Status
from ak_guard.usage.summaries import Bucket
from tests import catalogues

NOW = datetime(2026, 10, 8, 12, 5, tzinfo=UTC)
EN, ZH = Tongue("en", ZoneInfo("Europe/Berlin"), NOW), Tongue("zh", ZoneInfo("Asia/Shanghai"), NOW)


def window(used: int, *, limit: int = 1_000, name: str = "5h", resets: timedelta | None, held: int = 0) -> BudgetStatus:
    moment = None if resets is None else NOW + resets
    return BudgetStatus(name, limit, "units", used, held, limit - used - held, moment)


@pytest.mark.parametrize(
    ("used", "resets", "level", "percent", "left", "mark"),
    [
        (0, None, "", "0%", "not started", None),
        (410, timedelta(hours=1, minutes=54), "", "41%", "1 h 54 min", 62.0),
        (799, timedelta(hours=5), "", "79%", "5 h", 0.0),
        (800, timedelta(hours=1), "near", "80%", "1 h", 80.0),
        (999, timedelta(minutes=15), "near", "99%", "15 min", 95.0),
        (1_000, timedelta(minutes=38), "full", "Full", "free in 38 min", 87.3),
        (1_000, timedelta(seconds=1), "full", "Full", "free in 1 s", 100.0),
    ],
)
def test_a_gauge_says_by_words_what_its_bar_shows(
    used: int, resets: timedelta | None, level: str, percent: str, left: str, mark: float | None
) -> None:
    gauge = window_gauge(window(used, resets=resets), EN)
    assert (gauge.level, gauge.percent, gauge.left.striptags(), gauge.mark) == (level, percent, left, mark)
    assert gauge.width == used / 10


def test_held_units_stand_after_the_used_ones() -> None:
    gauge = window_gauge(window(600, held=50, resets=timedelta(hours=1)), EN)
    assert (gauge.width, gauge.held) == (60.0, 5.0)
    assert gauge.exact == "600 used, 50 held, 350 of 1,000 left"


@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15))
def test_a_bar_never_leaves_its_track(limit: int, used: int, held: int) -> None:
    status = BudgetStatus("5h", limit, "units", used, held, max(0, limit - used - held), NOW + timedelta(hours=9))
    gauge = window_gauge(status, EN)
    assert 0 <= gauge.width <= 100
    assert gauge.width + gauge.held <= 100.0001
    assert gauge.mark is not None
    assert 0 <= gauge.mark <= 100
    assert (gauge.level == "full") == (status.remaining == 0)


def test_a_sliding_window_has_no_mark_and_a_quota_neither() -> None:
    quota = BudgetStatus("quota", 100, "units", 100, 0, 0, None)
    sliding = window(5, name="1h-sliding", resets=timedelta(minutes=10))
    gauges = gauges_of(Status(quota, (sliding,)), EN)
    assert gauges.quota is not None
    assert (gauges.quota.mark, gauges.windows[0].mark) == (None, None)
    assert (gauges.quota.percent, gauges.quota.left, gauges.level) == ("Used up", "0 left", "full")


def test_the_length_of_a_window_is_read_from_its_name() -> None:
    assert [length_of(name) for name in ("5h", "1d-calendar", "shared-1m", "7d-requests-sliding", "odd")] == [
        18_000,
        86_400,
        60,
        604_800,
        None,
    ]


FULL = Status(None, (window(1_000, resets=timedelta(hours=1)),))
SPENT = Status(BudgetStatus("quota", 5, "units", 5, 0, 0, None), FULL.windows)
SHARED = Status(None, (window(1_000, name="shared-1h", resets=timedelta(minutes=1)),))


@pytest.mark.parametrize(
    ("key", "status", "until", "word", "expiry", "edge"),
    [
        (ApiKey("k", "a", enabled=False, updated_at=NOW), SPENT, None, "Disabled", "changed 8 Oct", "off"),
        (ApiKey("k", "a", expires_at=NOW), SPENT, None, "Expired", "on 8 Oct", "off"),
        (ApiKey("k", "a"), SPENT, None, "Quota used up", "never expires", "is-full"),
        (ApiKey("k", "a"), FULL, None, "Window full", "never expires", "is-full"),
        (ApiKey("k", "a"), SHARED, None, "Group window full", "never expires", "is-full"),
        (ApiKey("k", "a"), None, timedelta(minutes=42), "Rotating", "old secret 42 min more", ""),
        (ApiKey("k", "a", expires_at=NOW + timedelta(days=6)), None, None, "Active", "ends in 6 days", ""),
    ],
)
def test_one_word_for_a_key_the_first_that_holds(
    key: ApiKey, status: Status | None, until: timedelta | None, word: str, expiry: str, edge: str
) -> None:
    listed = ListedKey(key, old_secret_until=None if until is None else NOW + until)
    row = row_of(listed, status, EN)
    assert (row.state.word, row.expiry.striptags(), row.edge) == (word, expiry, edge)


def said(**rules: object) -> list[str]:
    base = {
        "group": Group("default"),
        "allow_ips": (),
        "deny_ips": (),
        "quota": None,
        "limits": None,
        "expires_at": None,
    }
    spoken = Spoken("default", **{**base, **rules})  # type: ignore[arg-type]  # given by name in each test
    return [str(sentence.words) for sentence in in_words(spoken, EN)]


def test_rules_are_read_back_in_words() -> None:
    assert said(
        group=Group("paid", routes=["POST /v1/chat/*"], multiplier=2, shared_limits=["600/1m"]),
        allow_ips=("203.0.113.0/24",),
        deny_ips=("203.0.113.9",),
        quota=20_000,
        limits=(Limit.parse("200/5h"), Limit.parse("500 requests/1d calendar Europe/Berlin")),
        expires_at=NOW + timedelta(days=400),
        max_concurrency=1,
    ) == [
        "May call POST /v1/chat/*, nothing else.",
        "Each unit of cost counts 2 times.",
        "Only from 203.0.113.0/24.",
        "Never from 203.0.113.9.",
        "At most 200 units in 5 h from the first call, 500 requests in 1 day by the calendar (Europe/Berlin).",
        "All keys of the group together: 600 units in 1 min from the first call.",
        "At most 1 request runs at once.",
        "Stops after 20,000 units in all.",
        "Ends by itself: Fri 12 Nov 2027, 13:05.",
    ]


@pytest.mark.parametrize(
    ("rules", "contradiction"),
    [
        ({"quota": 0}, "A quota of 0 refuses every call that costs anything."),
        (
            {"allow_ips": ("10.0.0.0/9",), "deny_ips": ("10.0.0.0/8",)},
            "No address may call: each allowed one is denied too, and deny wins.",
        ),
        (
            {"limits": (Limit.parse("10/1h"), Limit.parse("241/1d"))},
            "The window of 1 day can never fill: that of 1 h lets no more than 240 units through in that time.",
        ),
        (
            {"limits": (Limit.parse("500/1h"), Limit.parse("400/1d"))},
            "The window of 1 h can never fill: that of 1 day ends at 400 units.",
        ),
        (
            {"quota": 4_001, "limits": (Limit.parse("2000/7d"),), "expires_at": NOW + timedelta(days=14)},
            "That quota can never be reached: no more than 4,000 units fit into 14 days of these windows.",
        ),
        ({"group": None}, "No group named default is stored. Calls are refused unless the app defines it."),
    ],
)
def test_contradictions_are_found(rules: dict[str, object], contradiction: str) -> None:
    assert contradiction in said(**rules)


@pytest.mark.parametrize(
    "rules",
    [
        {"allow_ips": ("10.0.0.0/8",), "deny_ips": ("10.0.0.0/9",)},
        {"limits": (Limit.parse("10/1h"), Limit.parse("240/1d"))},
        {"quota": 4_000, "limits": (Limit.parse("2000/7d"),), "expires_at": NOW + timedelta(days=14)},
        {"quota": 10**9, "limits": (Limit.parse("5 requests/7d"),), "expires_at": NOW + timedelta(days=14)},
        {"quota": 10**9, "limits": (Limit.parse("5/7d"),)},
    ],
)
def test_what_can_come_true_is_no_contradiction(rules: dict[str, object]) -> None:
    assert not any("never" in text and "Never" not in text and "can" in text for text in said(**rules))


def test_a_window_of_the_calendar_may_be_open_at_both_ends() -> None:
    spoken = Spoken(
        "default", Group("default"), (), (), None, (Limit.parse("10/1d calendar"),), NOW + timedelta(days=1)
    )
    assert reachable(spoken, NOW) == 20


LIMITS = st.builds(
    Limit,
    st.integers(1, 10**15 - 1),
    st.sampled_from([60, 3_600, 18_000, 86_400, 604_800]),
    st.sampled_from(["units", "requests"]),
    st.sampled_from(["first-use", "calendar", "sliding"]),
)


@given(
    st.builds(
        ApiKey,
        st.just("key_1"),
        st.text(string.ascii_letters + string.digits + "-_ ä密", min_size=1).filter(str.strip).map(str.strip),
        quota=st.none() | st.integers(0, 10**15 - 1),
        limits=st.none() | st.lists(LIMITS, max_size=4, unique_by=lambda limit: limit.name).map(tuple),
        allow_ips=st.sampled_from([(), ("10.0.0.0/8",), ("203.0.113.1", "2001:db8::/32")]),
        expires_at=st.none() | st.just(NOW + timedelta(days=3)),
        max_concurrency=st.none() | st.integers(1, 1_000_000),
        owner=st.none() | st.just("web team"),
    )
)
def test_a_key_s_form_sent_back_unchanged_is_the_same_key(key: ApiKey) -> None:
    rules = read(draft_of(key, EN), EN, peppered=False, current=key)
    assert rules.problems == []
    assert {name: getattr(key, name) for name in rules.arguments()} == rules.arguments()


def test_a_window_of_another_zone_keeps_it_in_the_form() -> None:
    assert window_text(Limit.parse("5/7d calendar Asia/Tokyo sunday")).anchor == "calendar Asia/Tokyo sunday"


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("", "en"),
        ("fr", "en"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB, zh", "en"),
        ("fr, zh;q=0.4, en;q=0.6", "en"),
        ("zh;q=0", "en"),
        ("zh;q=nonsense, en;q=0.1", "en"),
    ],
)
def test_the_language_is_the_best_of_those_wanted(header: str, code: str) -> None:
    assert chosen_language(None, header) == code
    assert chosen_language("zh", header) == "zh"
    assert chosen_language("xx", header) == code


def test_moments_and_spans_in_both_languages() -> None:
    later = NOW + timedelta(days=14)
    assert EN.moment(later) == "Thu 22 Oct 2026, 14:05"
    assert ZH.moment(later) == "2026年10月22日（周四）20:05"  # noqa: RUF001  # punctuation of Chinese
    assert EN.moment(NOW) == "today 14:05"
    spans = [1, 59.2, 61, 3_600, 6_840, 86_399, 86_400, 205_200, 21 * 86_400]
    assert [str(EN.span(seconds)) for seconds in spans] == [
        "1 s",
        "1 min",
        "2 min",
        "1 h",
        "1 h 54 min",
        "1 day",
        "1 day",
        "2 d 9 h",
        "21 days",
    ]
    assert str(EN.ago(NOW - timedelta(hours=30))) == "yesterday"


def test_what_is_put_into_a_sentence_is_escaped() -> None:
    assert "<" not in EN.say("Delete %(name)s", name="<b>")
    assert problem_words("<img> is no route", EN) == "&lt;img&gt; is no route"


def test_every_message_has_a_translation_and_the_compiled_catalogue_is_new() -> None:
    catalogue = catalogues.translated("zh")
    wanted = {message.id for message in catalogues.collected() if message.id}
    assert wanted == {message.id for message in catalogue if message.id}, "run: python -m tests.catalogues"
    missing = [m.id for m in catalogue if m.id and not (all(m.string) if isinstance(m.string, tuple) else m.string)]
    assert missing == []
    assert catalogues.path_of("zh", "mo").read_bytes() == catalogues.compiled(catalogue), (
        "run: python -m tests.catalogues"
    )


def test_a_translation_has_the_places_of_its_message() -> None:
    for message in catalogues.translated("zh"):
        if message.id:
            assert _places(message.string) <= _places(message.id)
            for text in message.string if isinstance(message.string, tuple) else [message.string]:
                # What cannot be filled in would break its page.
                assert str(text) % dict.fromkeys(_places(message.id), "1")


def _places(texts: object) -> set[str]:
    """The names that stand in a message, or in all its forms."""
    whole = " ".join(map(str, texts)) if isinstance(texts, list | tuple) else str(texts)
    return {part.partition(")")[0] for part in whole.split("%(")[1:]}


@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), min_size=1, max_size=40))
def test_a_chart_keeps_its_bars_between_base_and_roof(values: list[tuple[int, int]]) -> None:
    chart = drawn([Column("00:00", value, "") for value in values], height=132, kinds=("ok", "no"))
    for bar, (yes, no) in zip(chart.bars, values, strict=True):
        assert len(bar.parts) == (yes > 0) + (no > 0)
        for part in bar.parts:
            assert part.y >= 12 - 1.6
            assert part.y + part.height <= chart.base + 0.11
    assert 1 <= len(chart.grid) <= 3 or max(map(sum, values)) == 0
    assert chart.bars[-1].x + chart.bars[-1].width <= 100


def test_the_lines_of_a_chart_are_round_numbers() -> None:
    assert [step_for(peak) for peak in (0, 3, 4, 7, 16, 61, 248)] == [1, 1, 2, 5, 10, 50, 100]


def test_the_running_hour_is_in_the_last_bar() -> None:
    buckets = [Bucket(NOW + timedelta(hours=hour), 1, 0, hour, {}) for hour in range(8)]
    assert [(one.calls, one.cost) for one in sliced(buckets, 3)] == [(2, 1), (3, 9), (3, 18)]


def test_a_worker_that_is_silent_is_named_and_nothing_is_called_done() -> None:
    silent = Worker("w", "worker-3", NOW, NOW, NOW + timedelta(seconds=65), 1, (), True, 6)
    note = note_of(Confirmation(5.0, ("worker-1", "worker-2"), (silent,)), EN.say("prod-web is disabled."), EN)
    assert note.kind == "warn"
    assert note.text == (
        "Stored, but only 2 of 3 workers confirmed after 5 s. "
        "worker-3 was last heard of at 14:05:00; without word it lets nobody in from 14:06:05 on."
    )
    done = note_of(Confirmation(0.42, ("a", "b", "c"), ()), EN.say("prod-web is disabled."), EN)
    assert (done.kind, done.text) == ("good", "All 3 workers confirmed in 0.4 s.")
