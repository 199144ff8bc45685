"""Each submission takes up a ticket of its sender's quota."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """From version 2."""
    op.create_table(
        "tickets",
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("nullifier", sa.LargeBinary(16), primary_key=True),
        sa.Column("ccm", sa.LargeBinary(16), nullable=False),
        sqlite_with_rowid=False,
    )
