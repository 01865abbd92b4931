"""What the name of each key says of its environment, so that lists can be narrowed to one."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import add_column
from ak_guard.records import ApiKey

revision = "0003"
down_revision = "0002"

_AT_ONCE = 1_000


def upgrade() -> None:
    add_column("ak_keys", sa.Column("environment", sa.String(16)))
    keys = sa.table("ak_keys", *map(sa.column, ("id", "name", "environment")))
    named = [(row.id, ApiKey(row.id, row.name).environment) for row in op.get_bind().execute(sa.select(keys))]
    told = [{"key": key_id, "said": said} for key_id, said in named if said is not None]
    change = keys.update().where(keys.c.id == sa.bindparam("key")).values(environment=sa.bindparam("said"))
    for start in range(0, len(told), _AT_ONCE):
        op.get_bind().execute(change, told[start : start + _AT_ONCE])


def downgrade() -> None:
    op.drop_column("ak_keys", "environment")
