"""`ak-guard scan`: find keys in files and logs, and say whose they are."""

# No `from __future__ import annotations`: see desk.py.

import gzip
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, NamedTuple, cast

import typer
from rich.text import Text

from ak_guard import documents, keys, scanner
from ak_guard.cli import exits
from ak_guard.cli.complete import keys as names
from ak_guard.cli.desk import AsJson, Db, Desk, examples
from ak_guard.cli.find import find_key
from ak_guard.cli.show import name_of
from ak_guard.errors import ConfigurationError, InputError
from ak_guard.manager import KeyManager
from ak_guard.records import ApiKey

_STDIN: Final = "-"
# A repository keeps its history packed; `git log -p | ak-guard scan -` looks into it.
_SKIPPED: Final = frozenset({".git", ".venv", "node_modules", "__pycache__"})


class Found(NamedTuple):
    """A key in a file, and who holds it: None where nobody does or nobody was asked."""

    file: str
    hit: scanner.Hit
    key: ApiKey | None


def scan(
    context: typer.Context,
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Files, folders, or - for standard input.")],
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="KEY", help="Look for this key only, by id or name.", autocompletion=names),
    ] = None,
    no_db: Annotated[bool, typer.Option("--no-db", help="Do not ask whose they are.")] = False,
    db: Db = None,
    as_json: AsJson = False,
) -> None:
    """Find keys in files and logs by their shape and checksum, and say whose they are. No key is shown.

    Compressed logs (.gz) are read too. Custom keys have no shape of their own and are not found.
    Ends with 6 where a key was found.
    """
    if no_db and key is not None:
        raise InputError("--no-db", "cannot be given together with --key: only the database knows whose a key is")
    # A store that is not asked need not be named, and one that is named is not opened.
    desk = Desk(context, "memory://" if no_db else db, as_json, serves=no_db)
    hits = [(name, hit) for name in files for name, hit in _hits(name, desk)]

    async def work(manager: KeyManager) -> list[Found]:
        wanted = None if key is None else (await find_key(manager, key)).id
        found = []
        known: dict[bytes, ApiKey | None] = {}
        for name, hit in hits:
            digest = keys.digest(hit.text)
            if digest not in known:
                held = await manager.backend.find(digest)
                known[digest] = None if held is None else held.key
            owner = known[digest]
            if wanted is None or (owner is not None and owner.id == wanted):
                found.append(Found(name, hit, owner))
        return found

    found = [Found(name, hit, None) for name, hit in hits] if no_db else desk.run(work)
    document = {"found": [_document(one, desk) for one in found]}
    desk.answer(document, *([_line(one, desk) for one in found] or [Text("No keys were found.")]))
    if found:
        raise typer.Exit(exits.FOUND)


def _hits(name: str, desk: Desk) -> Iterator[tuple[str, scanner.Hit]]:
    if name == _STDIN:
        yield from ((name, hit) for hit in scanner.scan(sys.stdin.buffer))
        return
    path = Path(name)
    if not path.exists():
        raise ConfigurationError(f"files: there is no {name}")
    for file in _files(path):
        try:
            with _opened(file) as stream:
                yield from ((str(file), hit) for hit in scanner.scan(stream))
        except (OSError, EOFError) as error:
            desk.note(f"{file} cannot be read: {getattr(error, 'strerror', None) or type(error).__name__}")


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for inside in sorted(path.iterdir()):
        if inside.is_dir():
            if not inside.is_symlink() and inside.name not in _SKIPPED:
                yield from _files(inside)
        elif inside.is_file():
            yield inside


@contextmanager
def _opened(file: Path) -> Iterator[BinaryIO]:
    with file.open("rb") as raw:
        if file.suffix != ".gz":
            yield raw
            return
        with gzip.open(raw) as unpacked:
            yield cast("BinaryIO", unpacked)


def _line(one: Found, desk: Desk) -> Text:
    """As `grep -n` tells it, so that editors and other commands can follow."""
    state = "nobody's" if one.key is None else documents.state(one.key, desk.now)
    return Text.assemble(
        one.file if one.file.isprintable() else repr(one.file),
        f":{one.hit.line}:{one.hit.column}  {one.hit.hint}  ",
        *(() if one.key is None else (name_of(one.key), f" {one.key.id}  ")),
        (state, "red" if state == "active" else ""),
        no_wrap=True,
    )


def _document(one: Found, desk: Desk) -> dict[str, Any]:
    return {
        "file": one.file,
        "line": one.hit.line,
        "column": one.hit.column,
        "hint": one.hit.hint,
        "key": None if one.key is None else documents.key(one.key, desk.now),
    }


def add_to(app: typer.Typer) -> None:
    """Make this a command of `ak-guard`."""
    app.command(epilog=examples("scan -", "scan --key prod-api -", "scan --no-db -"))(scan)
