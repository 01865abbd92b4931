"""Keys are found by their owner too, and by the address of their last use."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import create_index, drop_index

revision = "0009"
down_revision = "0008"

_AT_ONCE = 1_000


def upgrade() -> None:
    create_index("ix_ak_last_used_address", "ak_last_used", ["address"])
    _fold(owners=True)


def downgrade() -> None:
    drop_index("ix_ak_last_used_address", "ak_last_used")
    _fold(owners=False)


def _fold(*, owners: bool) -> None:
    keys = sa.table("ak_keys", *map(sa.column, ("id", "name", "hint", "owner", "folded")))
    owned = sa.select(keys).where(keys.c.owner.is_not(None))
    rows = [
        {"key": row.id, "text": " ".join([row.name, row.hint, *([row.owner] if owners else [])]).casefold()}
        for row in op.get_bind().execute(owned)
    ]
    change = keys.update().where(keys.c.id == sa.bindparam("key")).values(folded=sa.bindparam("text"))
    for start in range(0, len(rows), _AT_ONCE):
        op.get_bind().execute(change, rows[start : start + _AT_ONCE])
