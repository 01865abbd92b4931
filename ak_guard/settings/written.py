"""What is written outside the code: one file, and the environment, which wins."""

from __future__ import annotations

import os
import re
import tomllib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ak_guard.errors import ConfigurationError
from ak_guard.settings.catalogue import CATALOGUE, CONFIG_VARIABLE, OTHER_VARIABLES, PREFIX, TEST_PREFIX, variable
from ak_guard.settings.spelling import unknown
from ak_guard.settings.values import from_table, from_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

FILE: Final = "ak_guard.toml"
PROJECT: Final = "pyproject.toml"

# Kubernetes tells every container of the services around it in the manner of Docker's links: where one is named
# ak-guard, with _SERVICE_HOST or _PORT_9000_TCP_ADDR behind our prefix. Nobody has misspelled anything then.
_SERVICE_LINK: Final = re.compile(
    r"AK_GUARD_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT(?:_\d+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?)"
)


class Written(NamedTuple):
    """A setting as it is written: where (`AK_GUARD_MODE`, or `mode in /srv/ak_guard.toml`), and what."""

    source: str
    raw: Any
    in_file: bool

    def read(self, setting: str) -> Any:
        """The value; raises `ConfigurationError` naming the source."""
        read = from_table if self.in_file else from_text
        return read(CATALOGUE[setting], self.raw, self.source)


class Outside(NamedTuple):
    """Everything that is written, by setting, and the file, where there is one. `strangers` says what nobody knows."""

    file: Path | None
    settings: Mapping[str, Written]
    strangers: tuple[str, ...]


def outside() -> Outside:
    """Look into the file and the environment of the process. Raises `ConfigurationError` for a file it cannot read."""
    file, table = _file()
    found = {name: Written(f"{name} in {file}", table[name], in_file=True) for name in CATALOGUE if name in table}
    strangers = [f"{file}: {unknown(name, CATALOGUE)}" for name in table if name not in CATALOGUE]
    variables = {variable(name): name for name in CATALOGUE}
    for name, text in _environment():
        if name in variables:
            found[variables[name]] = Written(name, text, in_file=False)
        elif name not in OTHER_VARIABLES and not _SERVICE_LINK.fullmatch(name):
            strangers.append(unknown(name, [*variables, *OTHER_VARIABLES]))
    return Outside(file, found, tuple(strangers))


def _environment() -> Iterator[tuple[str, str]]:
    for name, text in sorted(os.environ.items()):
        # An empty variable is how shells and container files say that it is not set.
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and text.strip():
            yield name, text


def _file() -> tuple[Path | None, Mapping[str, Any]]:
    named = os.environ.get(CONFIG_VARIABLE, "").strip()
    if named:
        file = Path(named)
        table = _table(file)
        if table is None:
            where = f" [tool.ak_guard] in {file}" if file.name == PROJECT and file.exists() else f" file {file}"
            raise ConfigurationError(f"{CONFIG_VARIABLE}: there is no{where}")
        return file, table
    for file in (Path(FILE), Path(PROJECT)):
        table = _table(file)
        if table is not None:
            return file, table
    return None, {}


def _table(file: Path) -> Mapping[str, Any] | None:
    """The settings of a file; None where it is not there, or is that of a project and holds none."""
    try:
        text = file.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: cannot be read ({type(error).__name__})") from error
    if file.name != PROJECT:
        return _parsed(text, file)
    if "ak_guard" not in text:
        return None
    tool = _parsed(text, file).get("tool")
    table = tool.get("ak_guard") if isinstance(tool, dict) else None
    if table is not None and not isinstance(table, dict):
        raise ConfigurationError(f"{file}: tool.ak_guard must be a table of settings")
    return table


@lru_cache(maxsize=4)
def _parsed(text: str, file: Path) -> Mapping[str, Any]:
    """The document. Kept by its text, because the files of big projects take milliseconds."""
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{file}: is no TOML ({error})") from None
