"""What the demo prints: one line for each rule, checked against what the line should say."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_GREEN: Final = "\x1b[32m"
_RED: Final = "\x1b[31m"
_BOLD: Final = "\x1b[1m"
_PLAIN: Final = "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `code` is that of the refusal, `-` where there was none."""

    status: int
    code: str = "-"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


class Board:
    """Print lines and count those that say something else than they should."""

    def __init__(self) -> None:
        self.lines = 0
        self.wrong = 0
        self._colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def title(self, text: str) -> None:
        print(f"\n{self._in(_BOLD, text)}")

    def line(self, sent: str, answer: Answer, status: int, code: str = "-", note: str = "", want: str = "") -> None:
        """Show one answer. It must have this status and code, and `note` must be `want` where that is given."""
        right = (answer.status, answer.code) == (status, code) and want in {"", note}
        self._print(right, f"{sent:<52} {answer.status}  {answer.code:<21} {note}", f"{status} {code} {want}")

    def say(self, what: str, said: str, want: str) -> None:
        """Show something that is no answer to a request. It must be `want`."""
        self._print(said == want, f"{what:<52} {said}", want)

    def _print(self, right: bool, text: str, wanted: str) -> None:
        self.lines += 1
        mark = self._in(_GREEN, "ok   ") if right else self._in(_RED, "WRONG")
        print(f"  {mark} {text}".rstrip())
        if not right:
            self.wrong += 1
            print(f"        expected: {wanted}".rstrip())

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colours else text
