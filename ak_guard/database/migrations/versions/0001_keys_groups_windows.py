"""Keys, their secrets, groups, and the windows they spend from."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import create_index, create_table, digest

revision = "0001"
down_revision = None


def upgrade() -> None:
    create_table(
        "ak_groups",
        sa.Column("name", sa.String(200), primary_key=True),
        sa.Column("routes", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("shared_limits", sa.JSON, nullable=False),
        sa.Column("multiplier", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
    )
    create_table(
        "ak_keys",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("group_name", sa.String(200), nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("allow_ips", sa.JSON, nullable=False),
        sa.Column("deny_ips", sa.JSON, nullable=False),
        sa.Column("quota", sa.BigInteger),
        sa.Column("limits", sa.JSON),
        sa.Column("owner", sa.String(200)),
        sa.Column("metadata", sa.JSON, nullable=False),
        sa.Column("hint", sa.String(64), nullable=False),
        sa.Column("folded", sa.Text, nullable=False),
    )
    create_index("ix_ak_keys_group_name", "ak_keys", ["group_name"])
    create_index("ix_ak_keys_created_at_id", "ak_keys", ["created_at", "id"])
    create_table(
        "ak_secrets",
        sa.Column("digest", digest(), primary_key=True),
        sa.Column("pepper_id", sa.String(16)),
        sa.Column("key_id", sa.String(64), sa.ForeignKey("ak_keys.id", ondelete="CASCADE"), nullable=False),
        sa.Column("valid_until", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
    )
    create_index("ix_ak_secrets_key_id", "ak_secrets", ["key_id"])
    create_table(
        "ak_windows",
        sa.Column("subject", sa.String(255), primary_key=True),
        sa.Column("slot", sa.String(64), primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("start", sa.Double, nullable=False),
        sa.Column("end", sa.Double),
        sa.Column("used", sa.BigInteger, nullable=False),
        sa.Column("before", sa.BigInteger, nullable=False),
    )
    create_table(
        "ak_leases",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("worker", sa.String(64), nullable=False),
        sa.Column("deadline", sa.Double, nullable=False),
        sa.Column("units", sa.JSON, nullable=False),
    )
    create_index("ix_ak_leases_subject", "ak_leases", ["subject"])


def downgrade() -> None:
    for table in ("ak_leases", "ak_windows", "ak_secrets", "ak_keys", "ak_groups"):
        op.drop_table(table)
