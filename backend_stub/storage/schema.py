"""How a part's tables come to be those of this program: made, or brought there from an older program's by `migrations`.

A database that has no version is from before versions were kept, which is the first.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import inspect, text
from sqlalchemy.schema import CreateSchema

from protocol.errors import StorageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from backend_stub.storage.tables import Part

log = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "schema_version"
FIRST = "1"


def prepare(connection: Connection, part: Part) -> None:
    """Make the tables of this part, or bring them up to date, alone. Raises StorageError where they are newer."""
    if connection.dialect.name == "postgresql":
        # Two that start at once on a fresh database would both make everything. SQLite lets one in at a time.
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:name))"), {"name": f"spot {part.name}"})
        if not inspect(connection).has_schema(part.name):
            connection.execute(CreateSchema(part.name))
    scripts = steps(part)
    newest = str(scripts.get_current_head())
    context = MigrationContext.configure(
        connection,
        opts={
            "version_table": VERSION_TABLE,
            "fn": lambda now, _context: scripts._upgrade_revs("head", now),  # noqa: SLF001 - as Alembic's own commands
        },
    )
    version = context.get_current_revision()
    if version == newest:
        return
    if version is None:
        there = set(inspect(connection).get_table_names())
        version = FIRST if there & part.tables.tables.keys() else None
        if version is None:
            part.tables.create_all(connection)
        context.stamp(scripts, version or newest)
    if version is not None:
        _upgrade(context, scripts, part, version)


def steps(part: Part) -> ScriptDirectory:
    """The steps from version to version of this part's tables."""
    home = MIGRATIONS / part.name
    return ScriptDirectory(home, version_locations=[home])


def _upgrade(context: MigrationContext, scripts: ScriptDirectory, part: Part, version: str) -> None:
    try:
        scripts.get_revision(version)
    except CommandError:
        raise StorageError(
            f"the {part.name}'s database is of a newer program (its version is {version}, this program knows "
            f"{scripts.get_current_head()}); upgrade this program, or bring back a copy from before"
        ) from None
    with Operations.context(context):
        context.run_migrations()
    log.info("the %s's database was brought from version %s to %s", part.name, version, scripts.get_current_head())
