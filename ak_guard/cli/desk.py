"""Where one command works: the store it asks, and how it answers people and scripts."""

# No `from __future__ import annotations` in files of commands: typer reads the annotations when the command starts.

import asyncio
import getpass
import json
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, TextIO, TypeVar

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from ak_guard.backends import KeyLookup, MemoryBackend
from ak_guard.cli import exits
from ak_guard.errors import ConfigurationError
from ak_guard.manager import KeyManager
from ak_guard.settings import configured

T = TypeVar("T")

# A pipe has no width; tables are not folded for it.
_PIPE_WIDTH: Final = 160

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        metavar="URL",
        help="Where keys are kept: sqlite:///keys.db. Default: AK_GUARD_BACKEND or ak_guard.toml.",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Answer with one JSON document. Errors stay text on standard error.")
]


@dataclass(frozen=True, slots=True)
class Given:
    """What stood before the subcommand: `ak-guard --json keys list`."""

    db: str | None = None
    as_json: bool = False


def remember(context: typer.Context, db: str | None, as_json: bool) -> None:
    """Keep the options of this level for the command below; without a command show the help."""
    above = context.obj or Given()
    context.obj = Given(db or above.db, as_json or above.as_json)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(exits.USAGE)


class Desk:
    """Runs one command's work against the store and prints what came of it. One that `serves` may keep it in memory."""

    def __init__(
        self,
        context: typer.Context,
        db: str | None,
        as_json: bool,
        *,
        serves: bool = False,
        default: str | None = None,
    ) -> None:
        given = context.obj or Given()
        self.as_json: bool = as_json or given.as_json
        self.now: datetime = datetime.now(UTC)
        self.backend: KeyLookup | str = _checked(
            db or given.db or configured(("backend",)).get("backend", default), serves
        )

    def run(self, work: Callable[[KeyManager], Awaitable[T]], *, makes: bool = False) -> T:
        """Open the store, do the work, close it again. Only with `makes` may the work begin a new database."""
        manager = KeyManager(self.backend, actor=f"cli:{_user()}")
        missing = _missing_file(manager)
        if missing and not makes:
            raise ConfigurationError(f"backend: no database at {missing}; `ak-guard init` makes one")

        async def opened() -> T:
            async with manager:
                if missing:
                    self.note(f"made the database {missing}")
                return await work(manager)

        return asyncio.run(opened())

    def answer(self, document: dict[str, Any], *shown: RenderableType) -> None:
        """Print the document for a script, or what is shown for people."""
        if self.as_json:
            print_json(document)
            return
        print_parts(*shown)

    def note(self, text: str) -> None:
        """Say something to people beside the answer."""
        typer.echo(text, err=True)

    def note_delay(self) -> None:
        """Say when running apps see the change that was made."""
        self.note("Running apps follow within a second, as long as they reach the database.")


def print_json(document: dict[str, Any]) -> None:
    """One document on standard output, in letters that it can show."""
    plain = (sys.stdout.encoding or "").lower() not in {"utf-8", "utf8"}
    typer.echo(json.dumps(document, indent=2, ensure_ascii=plain))


def print_parts(*shown: RenderableType, aside: bool = False) -> None:
    """Print for people; `aside` where standard output holds something else."""
    screen = console(sys.stderr if aside else sys.stdout)
    for part in shown:
        # What says that it is not to be wrapped may be longer than the screen is wide.
        screen.print(part, soft_wrap=isinstance(part, Text) and bool(part.no_wrap))


def _user() -> str:
    """Who runs this; a process may belong to nobody that the system knows by name."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):
        name = ""
    return name[:100] if name.isprintable() and name.strip() else "unknown"


def _missing_file(manager: KeyManager) -> Path | None:
    """The absolute path of the SQLite file, where it is one and is not there yet."""
    url = getattr(getattr(manager.backend, "database", None), "url", None)
    # With `uri=true` the driver reads more than a path from it.
    if url is None or url.get_backend_name() != "sqlite" or "uri" in url.query:
        return None
    file = Path(url.database).absolute()
    return None if file.exists() else file


def _checked(backend: KeyLookup | str | None, serves: bool) -> KeyLookup | str:
    if backend is None:
        raise ConfigurationError("backend: none is given; add --db sqlite:///keys.db or set AK_GUARD_BACKEND")
    in_memory = isinstance(backend, MemoryBackend) or (isinstance(backend, str) and backend.startswith("memory:"))
    if in_memory and not serves:
        raise ConfigurationError(
            "backend: memory:// is private to the process that opens it, so this command would see no keys"
        )
    return backend


def console(stream: TextIO | None = None) -> Console:
    """Where things are printed for people."""
    stream = stream or sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def examples(*lines: str) -> str:
    """The last section of a command's help."""
    return "\n".join(["Examples:", *(f"$ ak-guard {line}" for line in lines)]).replace("[", r"\[")
