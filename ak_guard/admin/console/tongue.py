"""A viewer's language and time zone: sentences from the gettext catalogues, numbers, moments and spans in words."""

from __future__ import annotations

import gettext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from zoneinfo import ZoneInfo

from markupsafe import Markup, escape

from ak_guard.notation import known_zone

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import tzinfo

#: The languages there are, each under the name that its readers know, with the value of `lang` (BCP 47).
LANGUAGES: Final = {"en": ("English", "en"), "zh": ("中文", "zh-Hans")}
LOCALES: Final = Path(__file__).parent / "locale"
_DOMAIN: Final = "console"

_TOGETHER, _APART = Markup(""), Markup(" ")

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


@lru_cache(maxsize=len(LANGUAGES))
def _catalogue(code: str) -> gettext.NullTranslations:
    # English is what the templates are written in.
    return gettext.translation(_DOMAIN, LOCALES, languages=[code], fallback=code == "en")


@lru_cache(maxsize=512)
def zone_named(name: str) -> tzinfo | None:
    """The time zone of this IANA name, None where this machine knows none."""
    return ZoneInfo(name) if len(name) <= 64 and known_zone(name) else None


def load_catalogues() -> None:
    """Read every catalogue now, so that no request waits for the disk."""
    for code in LANGUAGES:
        _catalogue(code)


def chosen_language(cookie: str | None, accept_language: str) -> str:
    """What the viewer chose, else the best of `Accept-Language` (RFC 9110 12.5.4), else English."""
    if cookie in LANGUAGES:
        return str(cookie)
    wanted = sorted(_ranges(accept_language), key=lambda entry: -entry[1])
    return next((code for tag, quality in wanted if quality and (code := tag.partition("-")[0]) in LANGUAGES), "en")


def _ranges(header: str) -> Iterable[tuple[str, float]]:
    for entry in header[:500].split(","):
        tag, _, parameters = entry.strip().partition(";")
        name, _, value = parameters.strip().partition("=")
        try:
            quality = float(value) if name.strip().lower() == "q" else 1.0
        except ValueError:
            quality = 0.0
        yield tag.strip().lower(), quality


@dataclass(frozen=True, slots=True)
class Tongue:
    """One language (`en`, `zh`), one time zone and the moment at which the page is made."""

    code: str
    zone: tzinfo
    now: datetime

    @property
    def lang(self) -> str:
        """The value of the attribute `lang`."""
        return LANGUAGES[self.code][1]

    @property
    def zone_name(self) -> str:
        return str(self.zone)

    def say(self, message: str, **values: object) -> Markup:
        """`message` in this language. It is text of ours and may hold markup; the values are escaped."""
        text = _catalogue(self.code).gettext(message)
        # What is marked as safe is a text of our own catalogues, and values that were escaped.
        return Markup(text % self._shown(values))  # noqa: S704

    def count(self, one: str, many: str, number: int, **values: object) -> Markup:
        """The form of a sentence that goes with `number`, which it may show as `%(n)s`."""
        text = _catalogue(self.code).ngettext(one, many, number)
        return Markup(text % self._shown({"n": number, **values}))  # noqa: S704  # as above

    def _shown(self, values: dict[str, Any]) -> dict[str, str]:
        # Escaped here and not by `Markup %`, which takes three times as long; a page says some hundred sentences.
        return {name: self.number(value) if isinstance(value, int) else escape(value) for name, value in values.items()}

    def number(self, value: int) -> str:
        return f"{value:,}"

    def listed(self, parts: Iterable[object]) -> Markup:
        """Parts of a sentence one after the other."""
        return self.say(", ").join(parts)  # type: ignore[arg-type]  # escapes whatever it joins

    def sentences(self, parts: Iterable[object]) -> Markup:
        """Whole sentences one after the other."""
        return (_TOGETHER if self.code == "zh" else _APART).join(parts)  # type: ignore[arg-type]  # as above

    # Times

    def local(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone)

    def clock(self, moment: datetime) -> str:
        return f"{self.local(moment):%H:%M}"

    def seconds_clock(self, moment: datetime) -> str:
        return f"{self.local(moment):%H:%M:%S}"

    def day(self, moment: datetime) -> Markup:
        """`26 Sep`, with the year where it is another one."""
        there = self.local(moment)
        parts = {"day": str(there.day), "month": self.say(_MONTHS[there.month - 1])}
        if there.year == self.local(self.now).year:
            return self.say("%(day)s %(month)s", **parts)
        return self.say("%(day)s %(month)s %(year)s", **parts, year=str(there.year))

    def read(self, typed: str) -> datetime:
        """What somebody typed, in UTC: ISO 8601, of this zone where it names none. Raises `ValueError`."""
        read = datetime.fromisoformat(typed)
        try:
            return (read if read.tzinfo else read.replace(tzinfo=self.zone)).astimezone(UTC)
        except OverflowError:
            raise ValueError("a moment outside of all calendars") from None

    def moment(self, moment: datetime) -> Markup:
        """`today 11:20`, `Thu 22 Oct 2026, 14:05`."""
        there, today = self.local(moment), self.local(self.now).date()
        if there.date() == today:
            return self.say("today %(time)s", time=self.clock(moment))
        return self.say(
            "%(weekday)s %(day)s %(month)s %(year)s, %(time)s",
            weekday=self.say(_DAYS[there.weekday()]),
            day=str(there.day),
            month=self.say(_MONTHS[there.month - 1]),
            year=str(there.year),
            time=self.clock(moment),
        )

    def span(self, seconds: float) -> Markup:
        """`42 s`, `38 min`, `1 h 54 min`, `2 d 9 h`, `21 days`: two parts at most, rounded up to what is shown."""
        whole = max(0, -int(-seconds // 1))
        if whole < _MINUTE:
            return self.say("%(n)s s", n=whole)
        minutes = -(-whole // _MINUTE)
        if minutes < 60:
            return self.say("%(n)s min", n=minutes)
        if minutes < 24 * 60:
            hours, rest = divmod(minutes, 60)
            return self.say("%(n)s h %(m)s min", n=hours, m=rest) if rest else self.say("%(n)s h", n=hours)
        days, hours = divmod(round(whole / _HOUR), 24)
        if days >= 7 or not hours:
            return self.count("%(n)s day", "%(n)s days", round(whole / _DAY))
        return self.say("%(n)s d %(h)s h", n=days, h=hours)

    def span_patterns(self) -> list[Markup]:
        """The seven shapes of `span` in its own order, for a script that counts on: `%n` is the greater part."""
        say = self.say
        return [
            say("%(n)s s", n="%n"),
            say("%(n)s min", n="%n"),
            say("%(n)s h", n="%n"),
            say("%(n)s h %(m)s min", n="%n", m="%m"),
            say("%(n)s d %(h)s h", n="%n", h="%m"),
            self.count("%(n)s day", "%(n)s days", 1, n="%n"),
            self.count("%(n)s day", "%(n)s days", 2, n="%n"),
        ]

    def after(self, seconds: float) -> datetime:
        """The moment that lies so many seconds ahead of the page."""
        return self.now + timedelta(seconds=seconds)

    def until(self, moment: datetime) -> Markup:
        """How long it is until then, in an element in which a script goes on counting."""
        exact = f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        span = self.span((moment - self.now).total_seconds())
        return Markup('<time datetime="{}" data-left>{}</time>').format(exact, span)

    def ago(self, moment: datetime) -> Markup:
        """`just now`, `4 s ago`, `26 min ago`, `yesterday`, `12 days ago`."""
        seconds = (self.now - moment).total_seconds()
        if seconds < 3:
            return self.say("just now")
        for size, message in ((_MINUTE, "%(n)s s ago"), (_HOUR, "%(n)s min ago"), (_DAY, "%(n)s h ago")):
            if seconds < size:
                return self.say(message, n=int(seconds // {_MINUTE: 1, _HOUR: _MINUTE, _DAY: _HOUR}[size]))
        days = int(seconds // _DAY)
        return self.say("yesterday") if days == 1 else self.say("%(n)s days ago", n=days)

    def length(self, seconds: int) -> Markup:
        """The length of a window: `5 h`, `1 day`, `90 min`."""
        if seconds % _DAY == 0:
            return self.count("%(n)s day", "%(n)s days", seconds // _DAY)
        if seconds % _HOUR == 0:
            return self.say("%(n)s h", n=seconds // _HOUR)
        if seconds % _MINUTE == 0:
            return self.say("%(n)s min", n=seconds // _MINUTE)
        return self.say("%(n)s s", n=seconds)


# What is said through a variable above, so that whoever collects the messages finds it:
# say("%(n)s s ago") say("%(n)s min ago") say("%(n)s h ago")
# say("Mon") say("Tue") say("Wed") say("Thu") say("Fri") say("Sat") say("Sun")
# say("Jan") say("Feb") say("Mar") say("Apr") say("May") say("Jun")
# say("Jul") say("Aug") say("Sep") say("Oct") say("Nov") say("Dec")
