"""Who may manage keys."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import create_index, create_table, digest

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    create_table(
        "ak_admin_tokens",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("hint", sa.String(64), nullable=False),
        sa.Column("digest", digest(), nullable=False),
        sa.Column("pepper_id", sa.String(16)),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
    )
    create_index("ix_ak_admin_tokens_digest", "ak_admin_tokens", ["digest"])


def downgrade() -> None:
    op.drop_table("ak_admin_tokens")
