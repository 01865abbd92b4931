"""Steps of migrations that may have been made already: some databases commit each one, and may stop in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from alembic import op
from sqlalchemy import BigInteger, Integer, LargeBinary, inspect
from sqlalchemy.dialects.mysql import MEDIUMBLOB, VARBINARY

if TYPE_CHECKING:
    from sqlalchemy import Column


def create_table(name: str, *columns: Column[Any]) -> None:
    """Make a table that is not there yet. MariaDB and MySQL too compare its texts as they stand, to the last blank."""
    if inspect(op.get_bind()).has_table(name):
        return
    mariadb = getattr(op.get_bind().dialect, "is_mariadb", False)
    collation = "utf8mb4_nopad_bin" if mariadb else "utf8mb4_0900_bin"
    options: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": collation}
    op.create_table(name, *columns, **options)


def create_index(name: str, table: str, columns: list[str]) -> None:
    """Make an index that is not there yet."""
    if name not in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, columns)


def drop_index(name: str, table: str) -> None:
    """Remove an index that is still there."""
    if name in {index["name"] for index in inspect(op.get_bind()).get_indexes(table)}:
        op.drop_index(name, table)


def add_column(table: str, column: Column[Any]) -> None:
    """Add a column that is not there yet."""
    if column.name not in {there["name"] for there in inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column)


def digest() -> Any:
    """A type for 32 bytes that MariaDB and MySQL can index too."""
    return LargeBinary(32).with_variant(VARBINARY(32), "mysql")


def blob() -> Any:
    """A type for packed records; without more being said MariaDB and MySQL keep 64 kB."""
    return LargeBinary().with_variant(MEDIUMBLOB, "mysql", "mariadb")


def number() -> Any:
    """A type for ids that grow; SQLite counts up only where it is called INTEGER."""
    return BigInteger().with_variant(Integer, "sqlite")
