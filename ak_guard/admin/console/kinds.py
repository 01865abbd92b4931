"""What a key is for: the page's advice as forms that are filled in already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ak_guard.admin.console.draft import Draft, WindowText
from ak_guard.canary import CANARY_GROUP

if TYPE_CHECKING:
    from markupsafe import Markup

    from ak_guard.admin.console.tongue import Tongue

_BUSY: Final = (WindowText("1,000", "5h"), WindowText("3,000", "1d"), WindowText("10,000", "7d"))
_SLOW: Final = (WindowText("100", "5h"), WindowText("300", "1d"), WindowText("1,000", "7d"))
_SHORT: Final = (WindowText("200", "5h"), WindowText("500", "1d"), WindowText("2,000", "7d"))

#: Each form under the word of the address that asks for it.
DRAFTS: Final = {
    "production": Draft(expires="90d", windows=_BUSY),
    "fixed-server": Draft(expires="90d", windows=_BUSY),
    "contractor": Draft(expires="14d", quota="4,000", windows=_SHORT),
    "tight-budget": Draft(expires="90d", quota="2,000", windows=_SLOW),
    "canary": Draft(group=CANARY_GROUP, expires="never"),
    "blank": Draft(),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One template as it is offered."""

    id: str
    word: Markup
    about: Markup
    chosen: bool


def kinds(chosen: str, tongue: Tongue) -> list[Kind]:
    """The templates in the order in which they are offered."""
    say = tongue.say
    offered = (
        ("production", say("Server in production"), say("Three windows, ends in 90 days unless you extend it")),
        ("fixed-server", say("Fixed server"), say("Callable from its address only")),
        ("contractor", say("Temporary contractor"), say("Ends in 14 days, own small quota")),
        ("tight-budget", say("Tight budget"), say("A quota, and slower windows")),
        ("canary", say("Canary"), say("Planted where nobody should look; any call is an alarm")),
        ("blank", say("Blank"), say("Nothing filled in")),
    )
    return [Kind(id_, word, about, id_ == chosen) for id_, word, about in offered]
