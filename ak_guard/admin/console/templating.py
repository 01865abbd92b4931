"""The templates, compiled when the console is put together, so that no request waits for the disk."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ak_guard.admin.console.assets import assets
from ak_guard.admin.console.cookies import SHORTCUTS_COOKIE, THEME_COOKIE
from ak_guard.admin.console.tongue import load_catalogues

if TYPE_CHECKING:
    from ak_guard.admin.console.visit import Visit

ROOM: Final = Path(__file__).parent
# What a button says that would change something and cannot; the banner has this id.
_OFF: Final = Markup(' disabled aria-describedby="stale"')


@cache
def templates() -> Templates:
    """The pages; compiled once in a process, because nothing in them changes."""
    return Templates()


class Templates:
    """All pages of the console."""

    def __init__(self) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(ROOM / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            undefined=StrictUndefined,
        )
        for name in self._environment.list_templates():
            self._environment.get_template(name)
        self._assets = assets()
        self._version = version("ak_guard")
        load_catalogues()

    def render(self, template: str, visit: Visit, /, **values: Any) -> str:
        cookies = visit.request.cookies
        return self._environment.get_template(template).render(
            say=visit.tongue.say,
            count=visit.tongue.count,
            tongue=visit.tongue,
            href=visit.href,
            asset=lambda file: Markup(f"{visit.href('/static/' + file)}?v={self._assets[file].mark}"),  # noqa: S704  # a digest
            here=visit.here,
            this_page=visit.root + visit.here,
            other=visit.other_language,
            who=visit.who,
            may_edit=visit.may("edit"),
            may_own=visit.may("own"),
            proof=visit.proof,
            theme=cookies.get(THEME_COOKIE) if cookies.get(THEME_COOKIE) in {"light", "dark"} else None,
            shortcuts=cookies.get(SHORTCUTS_COOKIE) != "off",
            version=self._version,
            spans="|".join(visit.tongue.span_patterns()),
            off=_OFF if values.get("stale") else Markup(),
            nav=values.pop("nav", "keys"),
            **values,
        )
