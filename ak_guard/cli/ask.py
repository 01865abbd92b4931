"""What only a person or a pipe can say: secrets, which never come from arguments, and confirmations."""

from __future__ import annotations

import getpass
import sys
from typing import Final

import typer

from ak_guard.errors import InputError

_LONGEST_LINE: Final = 4_096


def secret(prompt: str, *, twice: bool = False) -> str:
    """The text of a key: the first line of a pipe, or typed without echo."""
    if not sys.stdin.isatty():
        text = sys.stdin.readline(_LONGEST_LINE).strip()
    else:
        text = getpass.getpass(f"{prompt}: ").strip()
        if twice and text and getpass.getpass(f"{prompt} (again): ").strip() != text:
            raise InputError("key", "the two entries differ")
    if not text:
        raise InputError("key", "nothing came from standard input")
    return text


def confirm_by_name(name: str, question: str) -> None:
    """Go on only when the name is typed; raises `InputError` for anything else."""
    typer.echo(f"{question} Type its name to go on: ", err=True, nl=False)
    line = sys.stdin.readline(_LONGEST_LINE)
    if not line:
        typer.echo(err=True)
        raise typer.Abort
    if line.strip() != name.strip():
        raise InputError("name", "this is another name; nothing was deleted (--yes deletes without asking)")
