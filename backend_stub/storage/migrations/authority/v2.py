"""Proxies are invited, a removed proxy's URL may be another's; checks under way are counted; what expires is found."""

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    """From version 1."""
    op.create_table(
        "invited",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("group", sa.String(32), nullable=False),
        sa.Column("url", sa.String(255), nullable=False),
        sa.Column("nonce", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "checks",
        sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("contacts", sa.Integer, nullable=False),
        sa.Column("checked", sa.Integer, nullable=False),
        sa.Column("began_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_invitations_expires_at", "invitations", ["expires_at"])
    op.create_index("ix_codes_expires_at", "codes", ["expires_at"])
    names = {"uq": "%(table_name)s_%(column_0_name)s_key"}  # PostgreSQL's own; SQLite's have none
    with op.batch_alter_table("proxies", naming_convention=names) as proxies:
        proxies.drop_constraint("proxies_url_key", type_="unique")
