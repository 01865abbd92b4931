"""The tokens of one answer, as far as it has told them."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any, Final

from ak_guard.metering.token_usage import TokenUsage, token_usage

log: Final = logging.getLogger("ak_guard")

_USAGE: Final = b'"usage"'


class Count:
    """`told` is what the answer has said last. Streams may say it again and again while they go on."""

    __slots__ = ("_begun", "_events", "told")

    def __init__(self) -> None:
        self.told: TokenUsage | None = None
        # What a stream in the manner of Anthropic tells in advance: the input, which is not told again by all.
        self._begun: dict[str, Any] = {}
        self._events = 0

    @property
    def least(self) -> TokenUsage | None:
        """What it took at least: what was told in advance, and a token for each event since; None for nothing."""
        if not self._begun and not self._events:
            return None
        begun = token_usage(self._begun) or TokenUsage()
        return replace(begun, output=max(begun.output, self._events))

    def event(self, data: bytes) -> bool:
        """Look at the data of an event; whether the stream has told now what it took, and nothing is to follow."""
        if data == b"[DONE]":
            return True
        self._events += 1
        return self.document(data)

    def document(self, text: bytes | bytearray) -> bool:
        """Look for `usage` in JSON; whether it is there and is the last word."""
        # Most events of a stream hold none, and need not be read.
        found = _parsed(text) if _USAGE in text else {}
        if begun := _usage_of(found.get("message")):
            self._begun, self._events = begun, 0
        usage = _usage_of(found) or _usage_of(found.get("response"))
        told = token_usage({**self._begun, **usage}) if usage else None
        if told is None:
            return False
        self.told = told
        # The last chunk of a chat completion has no choices; one that has some may be followed by others.
        return not found.get("choices")


def _usage_of(document: Any) -> dict[str, Any]:
    """What stands under `usage`, without what is null."""
    usage = document.get("usage") if isinstance(document, dict) else None
    return {name: value for name, value in usage.items() if value is not None} if isinstance(usage, dict) else {}


def _parsed(text: bytes | bytearray) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        log.debug("an answer is not read for its tokens: %s", type(error).__name__)
        return {}
    return found if isinstance(found, dict) else {}
