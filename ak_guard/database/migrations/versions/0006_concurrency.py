"""How many requests of a key may run at once, and how many do."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import add_column, create_index, create_table

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    add_column("ak_keys", sa.Column("max_concurrency", sa.Integer))
    create_table(
        "ak_slots",
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("worker", sa.String(64), primary_key=True),
        sa.Column("held", sa.Integer, nullable=False),
        sa.Column("want", sa.Integer, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("deadline", sa.Double, nullable=False),
    )
    create_index("ix_ak_slots_deadline", "ak_slots", ["deadline"])


def downgrade() -> None:
    op.drop_table("ak_slots")
    op.drop_column("ak_keys", "max_concurrency")
