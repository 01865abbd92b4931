"""The console's catalogues: `python -m tests.catalogues` collects what templates and code say and compiles the rest.

English is what stands in the templates; each other language has a `console.po` that people edit and a `console.mo` that
is read at run time.
"""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING, Final

from babel.messages.catalog import Catalog
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from ak_guard.admin.console.tongue import LANGUAGES, LOCALES

if TYPE_CHECKING:
    from pathlib import Path

CONSOLE: Final = LOCALES.parent
KEYWORDS: Final = {"say": None, "count": (1, 2), "sayable": None}
_OPTIONS: Final = {"silent": "false", "trimmed": "true"}


def collected() -> Catalog:
    """Every message that the console can say."""
    found = Catalog(domain="console", project="ak_guard", charset="utf-8")
    for file in sorted([*CONSOLE.glob("*.py"), *CONSOLE.glob("templates/*.html")]):
        with file.open("rb") as source:
            if file.suffix == ".py":
                # Words that are said through a variable stand in a comment: say("…").
                plain = BytesIO(source.read().replace(b"# say(", b"say("))
                messages = extract("python", plain, KEYWORDS)
            else:
                messages = extract("jinja2", source, KEYWORDS, options=_OPTIONS)
            for _, message, _, _ in messages:
                if message and message != " ":
                    found.add(message)
    return found


def path_of(code: str, ending: str) -> Path:
    return LOCALES / code / "LC_MESSAGES" / f"console.{ending}"


def translated(code: str) -> Catalog:
    """The catalogue that people edit."""
    with path_of(code, "po").open("rb") as file:
        return read_po(file, locale=code, domain="console")


def compiled(catalogue: Catalog) -> bytes:
    out = BytesIO()
    write_mo(out, catalogue)
    return out.getvalue()


def main() -> None:
    for code in LANGUAGES:
        if code == "en":
            continue
        catalogue = translated(code)
        catalogue.update(collected(), no_fuzzy_matching=True)
        catalogue.obsolete.clear()
        with path_of(code, "po").open("wb") as file:
            write_po(file, catalogue, sort_output=True, omit_header=False, width=120)
        path_of(code, "mo").write_bytes(compiled(catalogue))


if __name__ == "__main__":
    main()
