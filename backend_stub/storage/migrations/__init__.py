"""The steps by which a database of an older program becomes today's (Alembic): a folder a part, a file a version."""
