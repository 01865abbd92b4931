"""The words of a case: reading the file, and telling loudly when a word is not known."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from ak_guard import InputError, custom_keys

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

HERE: Final = Path(__file__).parent

#: The moment called 0 s. Windows of any length up to 7 and of 30 days, aligned to the epoch, begin there, and so do a
#: day and a month of the calendar: Thursday, 1 July 2027, 00:00 UTC.
BASE: Final = 1_814_400_000.0


class UnknownWord(Exception):
    """A case says something that the runner cannot play. It must be taught the word, never pass over it."""

    def __init__(self, place: str, word: object) -> None:
        super().__init__(f"{place}: the word {word!r} is not known to the runner")


@dataclass(frozen=True, slots=True)
class Case:
    id: str
    keys: list[dict[str, Any]]
    config: dict[str, Any]
    requests: list[dict[str, Any]]
    expected: list[dict[str, Any]]

    @property
    def has_websockets(self) -> bool:
        return any(request.get("type") == "websocket" for request in self.requests)


def load(name: str) -> list[Case]:
    return [read(raw) for raw in yaml.safe_load((HERE / name).read_text(encoding="utf-8"))]


def read(raw: Mapping[str, Any]) -> Case:
    # `from`, `area` and `peers_disagree` tell people where a case comes from.
    known_only(raw, {"id", "area", "from", "setup", "requests", "expected", "peers_disagree"}, "case")
    setup = raw["setup"]
    known_only(setup, {"keys", "config"}, f"{raw['id']} setup")
    case = Case(raw["id"], setup["keys"], setup["config"], raw["requests"], raw["expected"])
    if len(case.requests) != len(case.expected) and case.requests:
        raise ValueError(f"{case.id}: {len(case.requests)} requests and {len(case.expected)} answers")
    return case


def known_only(mapping: Mapping[str, Any], words: Iterable[str], place: str) -> None:
    for word in mapping:
        if word not in words:
            raise UnknownWord(place, word)


def lengthened(text: str) -> str:
    """A text that may serve as a custom key: `text` itself, or `text` with random-looking characters behind it."""
    try:
        custom_keys.check(text, peppered=False)
    except InputError:
        return f"{text}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
    return text


class KeyTexts:
    """What the short key texts of a case stand for, wherever the case sends or forbids them."""

    def __init__(self) -> None:
        self._secrets: dict[str, str] = {}

    def stands_for(self, text: str, secret: str) -> None:
        self._secrets[text] = secret

    @property
    def secrets(self) -> list[str]:
        return list(self._secrets.values())

    def put_into(self, value: Any) -> Any:
        """`value` with every known text replaced by what it stands for; longer words around a text are left alone."""
        if isinstance(value, str):
            for text, secret in self._secrets.items():
                if secret not in value:
                    value = re.sub(rf"(?<![\w-]){re.escape(text)}(?![\w-])", secret, value)
            return value
        if isinstance(value, list):
            return [self.put_into(item) for item in value]
        if isinstance(value, dict):
            return {word: self.put_into(item) for word, item in value.items()}
        return value
