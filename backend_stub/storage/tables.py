"""What the parts write down: every table.

Each once-only rule is a unique constraint. Tables whose order of arrival would tell something are kept in the order of
their keys. Codes and invitations are there as SHA-256 only. No table has an address, and only the authority's
`members` is about persons. Whoever changes a table adds a step to `migrations/`.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    false,
)


@dataclass(frozen=True, slots=True)
class Part:
    """A part with a database. In PostgreSQL its tables are in a schema of its name; SQLite is always serialisable."""

    name: str
    tables: MetaData
    isolation: str


# The authority has few transactions, each with a rule of its own over several tables: they are serialisable, and those
# that another made impossible are done again. The server has many, over random keys: serialisable, they would be undone
# all the time for neighbours on a page of an index, so `matching` does without.
AUTHORITY = Part("authority", authority := MetaData(), "SERIALIZABLE")
SERVER = Part("server", server := MetaData(), "READ COMMITTED")

# --- authority ---

links = Table(
    "links",
    authority,
    Column("chain", String(16), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("hash", LargeBinary(32), nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    UniqueConstraint("chain", "hash"),
)
"""The two chains: parameters and publications."""

invitations = Table(
    "invitations",
    authority,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("expires_at", BigInteger, nullable=False, index=True),
)

members = Table(
    "members",
    authority,
    Column("invitation", ForeignKey(invitations.c.hash), primary_key=True),
    Column("nonce", LargeBinary(32), unique=True, nullable=False),
    Column("public", LargeBinary(48), unique=True, nullable=False),
    Column("request", LargeBinary(32), nullable=False),
    Column("issued", LargeBinary, nullable=False),
)
"""Who joined: T, and the answer to give again to the very same request (its SHA-256)."""

credentials = Table(
    "credentials",
    authority,
    Column("public", ForeignKey(members.c.public), primary_key=True),
    Column("issuer", Integer, primary_key=True, autoincrement=False),
    Column("until_day", Integer, nullable=False),
    Column("issued", LargeBinary, nullable=False),
)
"""What members got by renewing, one an issuer: given again to whoever proves to be the member."""

ended = Table(
    "ended",
    authority,
    Column("invitation", ForeignKey(members.c.invitation), primary_key=True),
)
"""Members who may not renew any more."""

proxies = Table(
    "proxies",
    authority,
    Column("name", String(32), primary_key=True),
    Column("group", String(32), nullable=False),
    Column("url", String(255), nullable=False),
    Column("public", LargeBinary(48), unique=True, nullable=False),
    Column("opening", LargeBinary(96), nullable=False),
    Column("removed", Boolean, nullable=False, default=False),
)
"""What group managers keep: each proxy's T and its opening key T~."""

invited = Table(
    "invited",
    authority,
    Column("name", String(32), primary_key=True),
    Column("group", String(32), nullable=False),
    Column("url", String(255), nullable=False),
    Column("nonce", LargeBinary(32), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
"""Proxies that were invited and have not been admitted yet."""

codes = Table(
    "codes",
    authority,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("onset", Integer, nullable=False),
    Column("expires_at", BigInteger, nullable=False, index=True),
    Column("spent_by", LargeBinary(32), nullable=True),
)
"""Report codes; `spent_by`: the digest of the report that was accepted."""

reports = Table(
    "reports",
    authority,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("code", ForeignKey(codes.c.hash), nullable=False, index=True),
    Column("answer", LargeBinary, nullable=True),
)
"""Attempts at codes by the digest of what was sent; the sealed answer once there is one, never a second one."""

checks = Table(
    "checks",
    authority,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("contacts", Integer, nullable=False),
    Column("checked", Integer, nullable=False),
    Column("began_at", BigInteger, nullable=False),
)
"""Reports that are being checked, by a random number."""

reported = Table(
    "reported",
    authority,
    Column("nullifier", LargeBinary(48), primary_key=True),
    Column("day", Integer, nullable=False, index=True),
    sqlite_with_rowid=False,
)

tokens = Table(
    "tokens",
    authority,
    Column("token", LargeBinary(16), primary_key=True),
    Column("day", Integer, nullable=False),
    Column("level", Integer, nullable=False),
    sqlite_with_rowid=False,
)
"""Waiting to be published."""

# --- server ---

submissions = Table(
    "submissions",
    server,
    Column("ccm", LargeBinary(32), primary_key=True),
    Column("nullifier", LargeBinary(48), primary_key=True),
    Column("day", Integer, nullable=False),
    Column("signed", Boolean, nullable=False, server_default=false()),
    Index("ix_submissions_signed_day", "signed", "day"),  # they are forgotten at different ages
    sqlite_with_rowid=False,
)
"""`signed`: another nullifier stood for the CCM. It stays so though the other side, a day older, is forgotten first."""

tickets = Table(
    "tickets",
    server,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("nullifier", LargeBinary(16), primary_key=True),
    Column("ccm", LargeBinary(16), nullable=False),
    sqlite_with_rowid=False,
)
"""What is taken of quotas on which day: a ticket's nullifier, and the CCM it serves, as hashes."""
