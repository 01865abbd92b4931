"""The command `ak-guard`: keys and groups from a terminal or a script. Needs the extras `cli` and `sql`."""

from __future__ import annotations

import io
import sys
from pathlib import Path

_NEEDED = {"typer", "rich"}


def main() -> None:
    """Run the command with the arguments of the process; ends by `SystemExit`."""
    try:
        from ak_guard.cli.app import app  # noqa: PLC0415  # typer and rich may be missing
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        sys.stderr.write("error: the command needs an extra; run: pip install 'ak_guard[sql,cli]'\n")
        sys.exit(1)
    # Settings may name a backend or a function of the app that is worked on; what is installed comes first.
    sys.path.append(str(Path.cwd()))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a letter gets its number; an answer never ends half-way for that.
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="ak-guard")
