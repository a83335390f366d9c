"""jobs.lane becomes jobs.concurrency_group

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # SQLite renames a column since 3.25; alembic's own way there would copy the table.
    op.execute("ALTER TABLE jobs RENAME COLUMN lane TO concurrency_group")


def downgrade() -> None:
    op.execute("ALTER TABLE jobs RENAME COLUMN concurrency_group TO lane")
