"""How Alembic runs here: over the connection it is given, inside the transaction that is already open."""

from alembic import context

from ak_guard.database.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table="ak_alembic",
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
