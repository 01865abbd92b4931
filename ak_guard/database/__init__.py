"""The database under keys and budgets: engines, tables, migrations. Installed by the extra `sql`."""
