"""A side is signed for its own day, so that only whether it is signed is kept; those that are not are found."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """From version 1. Who was signed for the day before is signed for the own day when it asks again."""
    op.add_column("submissions", sa.Column("signed", sa.Boolean, nullable=False, server_default=sa.false()))
    op.execute("UPDATE submissions SET signed = TRUE WHERE signed_day IS NOT NULL")
    op.drop_column("submissions", "signed_day")
    op.drop_index("ix_submissions_day", "submissions")
    op.create_index("ix_submissions_signed_day", "submissions", ["signed", "day"])
