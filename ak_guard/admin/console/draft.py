"""A key as somebody types it: every field kept as text, and what can be read of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ak_guard import custom_keys, inputs
from ak_guard.admin.console.problems import problem_words
from ak_guard.errors import InputError
from ak_guard.keys import holds_key, holds_minted
from ak_guard.notation import parse_duration
from ak_guard.records import DEFAULT_GROUP, Limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup
    from starlette.datastructures import FormData

    from ak_guard.admin.console.tongue import Tongue
    from ak_guard.records import ApiKey

#: What an expiry can be chosen from, beside a date and never.
EXPIRIES: Final = ("1d", "7d", "14d", "90d")
#: So many windows may a form hold; one spare row is always there.
MAX_WINDOWS: Final = 12

_DIGITS: Final = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class WindowText:
    """One row of the windows as it was typed. `anchor` is `first-use`, `sliding` or `calendar` with its zone."""

    amount: str = ""
    length: str = ""
    unit: str = "units"
    anchor: str = "first-use"

    @property
    def empty(self) -> bool:
        return not self.amount and not self.length


@dataclass(frozen=True, slots=True)
class Draft:
    """All fields as text. `expires` is a length such as `14d`, `date`, `never`, `keep`, or empty: not chosen yet."""

    name: str = ""
    group: str = DEFAULT_GROUP
    expires: str = ""
    date: str = ""
    allow_ips: str = ""
    deny_ips: str = ""
    quota: str = ""
    windows: tuple[WindowText, ...] = ()
    no_windows: bool = False
    at_once: str = ""
    key: str = ""
    owner: str = ""
    stored_in: str = ""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a field; `anchor` is the id of the control on the page."""

    field: str
    text: Markup
    anchor: str


@dataclass(slots=True)
class Rules:
    """What a draft says, as far as it can be read, and what cannot."""

    name: str = ""
    group: str = DEFAULT_GROUP
    expires_at: datetime | None = None
    ends_chosen: bool = False
    allow_ips: tuple[str, ...] = ()
    deny_ips: tuple[str, ...] = ()
    quota: int | None = None
    limits: tuple[Limit, ...] | None = None
    max_concurrency: int | None = None
    key: str | None = None
    owner: str | None = None
    stored_in: str | None = None
    problems: list[Problem] = field(default_factory=list)

    def arguments(self) -> dict[str, Any]:
        """Those of `KeyManager.create` and `update` that both have."""
        return {
            "name": self.name,
            "group": self.group,
            "expires_at": self.expires_at,
            "allow_ips": self.allow_ips,
            "deny_ips": self.deny_ips,
            "quota": self.quota,
            "limits": self.limits,
            "max_concurrency": self.max_concurrency,
            "owner": self.owner,
        }


def draft_from(form: FormData) -> Draft:
    """What stands in a form."""

    def text(name: str) -> str:
        value = form.get(name, "")
        return value.strip() if isinstance(value, str) else ""

    columns = [
        [value.strip() for value in form.getlist(f"window_{part}") if isinstance(value, str)]
        for part in ("amount", "length", "unit", "anchor")
    ]
    rows = [WindowText(*row) for row in zip(*columns, strict=False)][:MAX_WINDOWS]
    return Draft(
        **{name: text(name) for name in ("name", "expires", "date", "quota", "at_once", "key", "owner", "stored_in")},
        group=text("group") or DEFAULT_GROUP,
        allow_ips=text("allow_ips").replace("\r\n", "\n"),
        deny_ips=text("deny_ips").replace("\r\n", "\n"),
        windows=tuple(row for row in rows if not row.empty),
        no_windows=bool(text("no_windows")),
    )


def draft_of(key: ApiKey, tongue: Tongue) -> Draft:
    """The form of a key that exists."""
    return Draft(
        name=key.name,
        group=key.group,
        expires="never" if key.expires_at is None else "keep",
        date="" if key.expires_at is None else f"{tongue.local(key.expires_at):%Y-%m-%dT%H:%M}",
        allow_ips="\n".join(key.allow_ips),
        deny_ips="\n".join(key.deny_ips),
        quota="" if key.quota is None else f"{key.quota:,}",
        windows=tuple(window_text(limit) for limit in key.limits or ()),
        no_windows=key.limits == (),
        at_once="" if key.max_concurrency is None else str(key.max_concurrency),
        owner=key.owner or "",
        stored_in=str(key.metadata.get("stored_in", "")),
    )


def window_text(limit: Limit) -> WindowText:
    """A limit as a row of the form."""
    head, _, anchor = str(limit).partition("/")[2].partition(" ")
    return WindowText(f"{limit.amount:,}", head, limit.unit, anchor or "first-use")


def read(draft: Draft, tongue: Tongue, *, peppered: bool, current: ApiKey | None = None) -> Rules:
    """Read a draft. Whatever cannot be read is told with the value typed and the rule that it breaks."""
    rules = Rules(group=draft.group)
    reader = _Reader(rules, tongue, current)
    reader.name(draft.name)
    reader.expiry(draft)
    rules.allow_ips = reader.networks("allow_ips", draft.allow_ips)
    rules.deny_ips = reader.networks("deny_ips", draft.deny_ips)
    reader.quota(draft.quota)
    reader.windows(draft)
    reader.at_once(draft.at_once)
    reader.custom_key(draft.key, peppered=peppered)
    rules.owner = reader.words("owner", draft.owner)
    rules.stored_in = reader.words("stored_in", draft.stored_in)
    return rules


class _Reader:
    def __init__(self, rules: Rules, tongue: Tongue, current: ApiKey | None) -> None:
        self._rules = rules
        self._tongue = tongue
        self._current = current

    def _wrong(self, name: str, text: Markup, anchor: str | None = None) -> None:
        self._rules.problems.append(Problem(name, text, anchor or name))

    def name(self, typed: str) -> None:
        try:
            self._rules.name = inputs.name(typed)
        except InputError:
            say = self._tongue.say
            missing = say("A key needs a name, such as prod-api.")
            unfit = self._unfit(typed, say("A name has at most 200 printable characters."))
            self._wrong("name", unfit if typed else missing)

    def _unfit(self, typed: str, too_long: Markup) -> Markup:
        """What is wrong with a text that everybody may read and that cannot be kept."""
        seen = self._tongue.say("This looks like a key, and everybody here can read it. Write something else.")
        return seen if holds_key(typed) else too_long

    def expiry(self, draft: Draft) -> None:
        tongue, rules = self._tongue, self._rules
        rules.ends_chosen = True
        if draft.expires == "never":
            return
        if draft.expires == "keep" and self._current is not None:
            rules.expires_at = self._current.expires_at
        elif draft.expires == "date":
            rules.expires_at = self._date(draft.date)
        elif draft.expires in EXPIRIES:
            rules.expires_at = tongue.now + timedelta(seconds=parse_duration(draft.expires))
        else:
            rules.ends_chosen = False
            self._wrong("expires", tongue.say("Choose when this key ends, or that it never does."), "expires-1")

    def _date(self, typed: str) -> datetime | None:
        tongue = self._tongue
        try:
            moment = tongue.read(typed)
            inputs.moment("expires_at", moment)
        except ValueError:
            text = tongue.say("“%(typed)s” is not a date and time. Write it as 2027-01-31T18:00.", typed=typed[:40])
            self._wrong("expires", text, "date")
            return None
        if moment <= tongue.now and self._current is None:
            text = tongue.say("%(moment)s has passed already; choose a later time.", moment=tongue.moment(moment))
            self._wrong("expires", text, "date")
        return moment

    def networks(self, name: str, typed: str) -> tuple[str, ...]:
        good: list[str] = []
        for number, line in enumerate(typed.split("\n"), 1):
            for entry in re.split(r"[\s,;]+", line.strip()):
                if not entry:
                    continue
                try:
                    good.extend(inputs.networks(name, [entry]))
                except InputError:
                    text = self._tongue.say(
                        "Line %(n)s is not an address: %(typed)s. "
                        "Write 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32; a prefix ends at 32, for IPv6 at 128.",
                        n=number,
                        typed=entry[:60],
                    )
                    self._wrong(name, text)
        return tuple(dict.fromkeys(good))

    def quota(self, typed: str) -> None:
        if not typed:
            return
        amount = _whole(typed)
        try:
            self._rules.quota = inputs.quota(typed if amount is None else amount)
        except InputError:
            text = "“%(typed)s” is not a whole number of units. Write it as 20000 or 20,000."
            # say("“%(typed)s” is not a whole number of units. Write it as 20000 or 20,000.")
            self._wrong("quota", self._tongue.say(text, typed=typed[:40]))

    def at_once(self, typed: str) -> None:
        if not typed:
            return
        amount = _whole(typed)
        try:
            self._rules.max_concurrency = inputs.max_concurrency(typed if amount is None else amount)
        except InputError:
            self._wrong("at_once", self._tongue.say("“%(typed)s” is not a whole number from 1 up.", typed=typed[:40]))

    def windows(self, draft: Draft) -> None:
        if not draft.windows:
            self._rules.limits = () if draft.no_windows else None
            return
        if draft.no_windows:
            text = self._tongue.say("There are windows, and “no windows at all” is ticked. Clear one of the two.")
            self._wrong("windows", text, "no_windows")
            return
        read = [(number, limit) for number, row in enumerate(draft.windows, 1) if (limit := self._window(number, row))]
        seen: dict[str, int] = {}
        for number, limit in read:
            if limit.name in seen:
                text = self._tongue.say(
                    "Windows %(one)s and %(other)s have the same length and would share one counter. Keep one.",
                    one=seen[limit.name],
                    other=number,
                )
                self._wrong("windows", text, f"length-{number}")
            seen.setdefault(limit.name, number)
        self._rules.limits = tuple(limit for _, limit in read)

    def _window(self, number: int, row: WindowText) -> Limit | None:
        say = self._tongue.say
        amount = _whole(row.amount)
        if not amount:
            text = say("“%(typed)s” is not a whole number from 1 up.", typed=row.amount[:40])
            self._wrong("windows", text, f"amount-{number}")
            return None
        try:
            parse_duration(row.length)
        except InputError:
            text = say("“%(typed)s” is not a length of time. Write it as 1d, 24h or 90m.", typed=row.length[:40])
            self._wrong("windows", text, f"length-{number}")
            return None
        anchor = "" if row.anchor == "first-use" else f" {row.anchor}"
        try:
            return Limit.parse(f"{amount} {row.unit}/{row.length}{anchor}")
        except InputError as error:
            self._wrong("windows", problem_words(error.problem, self._tongue), f"length-{number}")
            return None

    def custom_key(self, typed: str, *, peppered: bool) -> None:
        if not typed:
            return
        try:
            custom_keys.check(typed, peppered=peppered)
        except InputError as error:
            text = self._tongue.say(
                "This text cannot be a key: it %(problem)s.", problem=problem_words(error.problem, self._tongue)
            )
            self._wrong("key", text)
        self._rules.key = typed

    def words(self, name: str, typed: str) -> str | None:
        if not typed:
            return None
        if name == "stored_in" and holds_minted(typed):
            self._wrong(name, self._tongue.say("This looks like a key. Write where it is kept, never the key itself."))
            return None
        try:
            return inputs.owner(typed)
        except InputError:
            self._wrong(name, self._unfit(typed, self._tongue.say("At most 200 printable characters.")))
            return None


def _whole(typed: str) -> int | None:
    """A whole number as people write it, with commas, points or blanks between its groups."""
    plain = re.sub(r"(?<=[0-9])[,\u00a0\u2019 '_](?=[0-9]{3})", "", typed)
    return int(plain) if _DIGITS.fullmatch(plain) and len(plain) <= 16 else None


def with_address(draft: Draft, address: str) -> Draft:
    """The draft with one more allowed address."""
    lines = [line for line in draft.allow_ips.split("\n") if line.strip()]
    return replace(draft, allow_ips="\n".join([*lines, address]))


def without_key_text(draft: Draft) -> Draft:
    """The draft to be shown again: a key's own text is typed anew and is never sent back."""
    return replace(draft, key="")


def metadata_with(current: Mapping[str, Any], stored_in: str | None) -> dict[str, Any]:
    """A key's metadata with the note about where it is kept."""
    kept = {name: value for name, value in current.items() if name != "stored_in"}
    return kept if stored_in is None else {**kept, "stored_in": stored_in}


def spare(windows: Sequence[WindowText]) -> list[WindowText]:
    """The rows to show: what is there, and one to fill in; three where there is none."""
    return [*windows, *[WindowText()] * (1 if windows else 3)]
