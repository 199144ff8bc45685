"""Members renew their credentials, and can be ended."""

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    """From version 2."""
    op.create_table(
        "credentials",
        sa.Column("public", sa.LargeBinary(48), sa.ForeignKey("members.public"), primary_key=True),
        sa.Column("issuer", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("until_day", sa.Integer, nullable=False),
        sa.Column("issued", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "ended",
        sa.Column("invitation", sa.LargeBinary(32), sa.ForeignKey("members.invitation"), primary_key=True),
    )
