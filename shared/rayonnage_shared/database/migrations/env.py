"""Alembic's entry: migrations always run on a connection that `migrate` opened."""

from alembic import context
from sqlmodel import SQLModel

from rayonnage_shared.database import tables

assert tables is not None  # its import registers the tables below
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
