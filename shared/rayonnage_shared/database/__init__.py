"""The one database: engine, tables, migrations."""
