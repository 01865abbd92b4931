"""What only a person or a pipe can say: secrets, which never come from arguments, and confirmations."""

from __future__ import annotations

import getpass
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import typer

from ak_guard.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    text.encode()  # what came as bytes that are no text is told as such, before anything looks it up
    return text


def confirm_by_name(name: str, question: str) -> None:
    """Go on only when the name is typed; raises `InputError` for anything else."""
    with _interruptible():
        typer.echo(f"{question} Type its name to go on: ", err=True, nl=False)
        line = sys.stdin.readline(_LONGEST_LINE)
    if not line:
        typer.echo(err=True)
        raise typer.Abort
    if line.strip() != name.strip():
        raise InputError("name", "this is another name; nothing was deleted (--yes deletes without asking)")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Inside a running loop asyncio keeps the first Ctrl-C to itself, and a question would go on waiting."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
