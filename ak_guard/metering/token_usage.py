"""How many tokens an answer took, as the APIs of OpenAI and Anthropic tell it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ak_guard.notation import MAX_AMOUNT

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """The tokens of one answer; no token is counted in two places.

    `input` leaves out what was read from the prompt cache (`cache_read`) or written to it (`cache_write`).
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0

    @property
    def total(self) -> int:
        return self.input + self.output + self.cache_read + self.cache_write


def token_usage(told: Mapping[str, Any]) -> TokenUsage | None:
    """What an object `usage` tells; None where it tells nothing that can be believed.

    One absurd number makes the others no better: to leave only it out could turn a dear answer into a cheap one.
    """
    names = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "total_tokens", *_BESIDE)
    numbers = {name: told[name] for name in names if told.get(name) is not None}
    if not numbers or not all(_is_count(number) for number in numbers.values()):
        return None
    taken = numbers.get("input_tokens", numbers.get("prompt_tokens", 0))
    given = numbers.get("output_tokens", numbers.get("completion_tokens", 0))
    read, written = (numbers.get(name, 0) for name in _BESIDE)
    if "total_tokens" in numbers or "prompt_tokens" in numbers or _details(told) is not None:
        # OpenAI counts the cached ones within the input, Anthropic beside it. Some proxies tell it in both ways.
        read, written = min(taken, _cached(told)), 0
        taken -= read
    # A total holds what no part tells, such as thoughts. They count as output, which is the dearer.
    given += max(0, numbers.get("total_tokens", 0) - taken - given - read)
    usage = TokenUsage(taken, given, read, written)
    return usage if usage.total <= MAX_AMOUNT else None


_BESIDE = ("cache_read_input_tokens", "cache_creation_input_tokens")


def _details(told: Mapping[str, Any]) -> Any:
    return told.get("input_tokens_details") or told.get("prompt_tokens_details")


def _cached(told: Mapping[str, Any]) -> int:
    details = _details(told)
    cached: Any = details.get("cached_tokens") if isinstance(details, dict) else None
    return cached if _is_count(cached) else 0


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_AMOUNT
