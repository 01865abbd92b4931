"""Indexes for lists of keys: to count them by state, and in SQLite one of all that they are narrowed and sorted by."""

from alembic import op

from ak_guard.database.steps import create_index, drop_index

revision = "0008"
down_revision = "0007"

_LISTED = ["enabled", "expires_at", "group_name", "environment", "owner", "quota", "created_at", "folded", "id"]


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        create_index("ix_ak_keys_listed", "ak_keys", _LISTED)
    else:
        create_index("ix_ak_keys_enabled_expires_at", "ak_keys", ["enabled", "expires_at"])
        create_index("ix_ak_keys_group_name_enabled_expires_at", "ak_keys", ["group_name", "enabled", "expires_at"])
    drop_index("ix_ak_keys_group_name", "ak_keys")


def downgrade() -> None:
    create_index("ix_ak_keys_group_name", "ak_keys", ["group_name"])
    for name in ("ix_ak_keys_listed", "ix_ak_keys_group_name_enabled_expires_at", "ix_ak_keys_enabled_expires_at"):
        drop_index(name, "ak_keys")
