"""What changed, who follows it, and which settlements were written already."""

import sqlalchemy as sa
from alembic import op

from ak_guard.database.steps import add_column, create_index, create_table

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    create_table(
        "ak_revision",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
    )
    if not op.get_bind().scalar(sa.text("SELECT count(*) FROM ak_revision")):
        op.execute("INSERT INTO ak_revision (id, revision) VALUES (1, 0)")
    create_table(
        "ak_changes",
        sa.Column("revision", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("key_id", sa.String(64)),
        sa.Column("at", sa.Double, nullable=False),
    )
    create_table(
        "ak_workers",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("name", sa.String(200), nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("beat_at", sa.Double, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("stale_seconds", sa.Double, nullable=False),
        sa.Column("counters", sa.Text, nullable=False),
    )
    create_table(
        "ak_settled",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
    )
    create_index("ix_ak_settled_at", "ak_settled", ["at"])
    add_column("ak_windows", sa.Column("keep_until", sa.Double))
    windows = sa.table("ak_windows", *map(sa.column, ("slot", "start", "end", "keep_until")))
    length = sa.case((windows.c.slot.contains("/sliding/"), windows.c.end - windows.c.start), else_=0)
    op.execute(windows.update().values(keep_until=windows.c.end + length))
    create_index("ix_ak_windows_keep_until", "ak_windows", ["keep_until"])
    create_index("ix_ak_leases_deadline", "ak_leases", ["deadline"])


def downgrade() -> None:
    op.drop_index("ix_ak_leases_deadline", "ak_leases")
    op.drop_index("ix_ak_windows_keep_until", "ak_windows")
    op.drop_column("ak_windows", "keep_until")
    for table in ("ak_settled", "ak_workers", "ak_changes", "ak_revision"):
        op.drop_table(table)
