"""The schema brings itself up to date, with Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from ak_guard.database.tables import HEAD

if TYPE_CHECKING:
    from sqlalchemy import Connection


class Unmigrated(Exception):
    """The schema is none that a migration leads on from."""


def is_current(connection: Connection) -> bool:
    """Whether there is nothing to do."""
    if not inspect(connection).has_table("ak_alembic"):
        return False
    return bool(connection.execute(text("SELECT version_num FROM ak_alembic")).scalar() == HEAD)


def upgrade(connection: Connection) -> None:
    """Run the migrations that are missing, in the transaction that is open. Nobody else may do so meanwhile.

    Raises `Unmigrated`.
    """
    if is_current(connection):
        return
    # Alembic is slow to import and seldom needed.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util.exc import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Unmigrated(str(error)) from error
