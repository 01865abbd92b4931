"""How a command ends: one table from what went wrong to an exit code, one line on standard error and a hint."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

from ak_guard import keys
from ak_guard.errors import AkGuardError, InputError, LocksOut, NotFound, Unconfirmed

if TYPE_CHECKING:
    from collections.abc import Sequence

DONE: Final = 0
SETUP: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
REFUSED: Final = 4
UNCONFIRMED: Final = 5
FOUND: Final = 6

# The text of a generated key, wherever it was typed by mistake; messages must not repeat it.
_SECRET: Final = re.compile(rf"{keys.SHAPE}(?![0-9A-Za-z])")

_HINTS: Final = {
    "limits": "write --limit 1000/5h, once for each window, or --no-limits",
    "shared_limits": "write --shared-limit 1000/5h, once for each window",
    "allow_ips": "write --allow-ip 203.0.113.7 or --allow-ip 203.0.113.0/24, once for each network",
    "deny_ips": "write --deny-ip 203.0.113.7 or --deny-ip 203.0.113.0/24, once for each network",
    "quota": "write --quota 100000, in units",
    "expires_at": "write --expires-at 2027-01-31T12:00:00Z",
    "expires_in": "write --expires-in 30d",
    "grace": "write --grace 1h, or --no-grace for none",
    "--page-size": "write --page-size 50",
    "key": "leave --custom-key out to have a good one generated",
    "at": "write --at 2027-01-31T12:00:00Z",
    "metadata": "write --metadata team=billing, once for each entry",
    "routes": "write --route 'POST /v1/chat/*', once for each route",
    "multiplier": "write --multiplier 2 or --multiplier 0.5",
    "--quota": "write --quota 100000, in units",
    "--cost": "write --cost 20, in units",
    "--report": "name a file in a folder that is there: --report leak.md",
    "--timeout": "write --timeout 10, in seconds",
}
# Only what is handed on to uvicorn is an error of this field; others say themselves of which command they are.
_RUN_HINT: Final = "`ak-guard run --help` and `uvicorn --help` show what can be written"
_DATABASE_HINT: Final = "the database is named by --db URL, AK_GUARD_BACKEND or ak_guard.toml"
_SETTINGS_HINT: Final = "`ak-guard settings` lists what can be set, and where it is set"
# `mode: …`, `AK_GUARD_MODE: …`, `mode in ak_guard.toml: …`, `ak_guard.toml: …`
_FIELD: Final = re.compile(r"(?:[a-z_]+|AK_GUARD_[\w.]+|(?:[a-z_]+ in )?\S+\.toml\S*): ")
_SETUP_HINTS: Final = {
    "pepper": "it is read from AK_GUARD_PEPPER; the app needs the same one",
    "limits: the running guards": "set AK_GUARD_LIMITS to the `limits` of the app, such as redis://127.0.0.1:6379/0",
    "backend: HTTPBackend": "run it where the keys are, or name their database: --db sqlite:///keys.db",
    "backend: memory:": "a file serves both: --db sqlite:///keys.db here and backend='sqlite:///keys.db' in the app",
}


class ExitingGroup(TyperGroup):
    """The whole command: whatever a subcommand raises ends here, without a trace-back."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def answer() -> Any:
            return super(ExitingGroup, self).main(args, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return answer()
        try:
            ended = answer()
        except (AkGuardError, typer.TyperException, typer.Abort, UnicodeError) as error:
            ended = _tell(error)
        sys.exit(ended if isinstance(ended, int) else DONE)


def _tell(error: Exception) -> int:
    code, problem, hint = _verdict(error)
    typer.echo(f"error: {_one_line(problem)}", err=True)
    if hint:
        typer.echo(f"hint: {_one_line(hint)}", err=True)
    return code


def _verdict(error: Exception) -> tuple[int, str, str]:
    match error:
        case LocksOut():
            return USAGE, str(error), "--force saves it all the same"
        case InputError():
            return USAGE, str(error), _RUN_HINT if error.field == "usage" else _HINTS.get(error.field, "")
        case Unconfirmed():
            return (
                UNCONFIRMED,
                str(error),
                "`ak-guard workers` shows who follows once the store can be asked again",
            )
        case NotFound():
            return (
                NOT_FOUND,
                f"not found: {error}",
                "`ak-guard keys list`, `groups list` and `admin-token list` show what there is",
            )
        case AkGuardError():
            problem = _with_field(str(error))
            hints = (hint for start, hint in _SETUP_HINTS.items() if problem.startswith(start))
            return SETUP, problem, next(hints, _DATABASE_HINT if problem.startswith("backend: ") else _SETTINGS_HINT)
        case typer.Abort():
            return USAGE, "input: it ended before an answer was given; nothing was changed", ""
        case UnicodeError():
            return USAGE, "input: it holds bytes that are no text", "arguments and standard input are read as UTF-8"
    problem = _usage(error)
    return USAGE, problem, _HINTS.get(problem.partition(":")[0]) or _where_help_is(error)


def _with_field(problem: str) -> str:
    """Outages name no field of their own; what failed is the backend."""
    return problem if _FIELD.match(problem) else f"backend: {problem}"


def _usage(error: Exception) -> str:
    """What the parser of arguments found, as `--option: problem` where it is about one option."""
    message = str(getattr(error, "message", error)).removeprefix("Value error, ")
    if message.startswith("Input should be a valid integer"):
        message = "must be a whole number"
    options = getattr(getattr(error, "param", None), "opts", ())
    if message and options:
        return f"{options[-1]}: {message}"
    text = getattr(error, "format_message", lambda: message)()
    return f"usage: {text}"


def _where_help_is(error: Exception) -> str:
    path = getattr(getattr(error, "ctx", None), "command_path", "ak-guard")
    return f"`{path} --help` shows what can be written"


def _one_line(text: str) -> str:
    return _SECRET.sub(lambda found: keys.hint(found[0]), " ".join(text.split()))
