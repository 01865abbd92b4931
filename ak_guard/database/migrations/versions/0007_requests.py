"""Requests that created a key, so that one sent again makes no second one."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import create_index, create_table

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    create_table(
        "ak_requests",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("content", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )
    create_index("ix_ak_requests_at", "ak_requests", ["at"])


def downgrade() -> None:
    op.drop_table("ak_requests")
