"""A backup: all parts of a folder, with settings, keys and tables, in one sealed file.

Inside the seal (`age`) it is a tar: `manifest.json`; each part's files as they are, so keys sealed under the part's
own passphrase stay so; and each table in pieces of MessagePack, so that what came from SQLite can go to PostgreSQL.
"""

from __future__ import annotations

import io
import os
import re
import secrets
import tarfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec
from sqlalchemy import func, select

from backend_stub import settings
from backend_stub.authority import service as authority
from backend_stub.keyring import age, sealing
from backend_stub.server import service as server
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol.errors import Malformed, Misuse, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from backend_stub.keyring.passphrases import Passphrase
    from backend_stub.storage.tables import Part

FORMAT = 1
MANIFEST = "manifest.json"
FILES, TABLES = "files", "tables"
ROWS = 5000  # in one piece of a table
FILE_LIMIT = 1 << 24  # bytes of one of a part's files
PIECE_LIMIT = 1 << 30  # of one piece of a table: publications can be large
SERVER = "server"
_PART = re.compile(r"[a-z0-9][a-z0-9-]*")
DATABASES: dict[str, tuple[str, Part]] = {
    authority.FOLDER: (authority.DATABASE, tables.AUTHORITY),
    SERVER: (server.DATABASE, tables.SERVER),
}
"""The parts that have a database: its file, its tables."""


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says of itself. made_at: seconds since 1970 by the backend's clock."""

    format: int
    made_at: int
    parts: tuple[str, ...]


class Piece(msgspec.Struct, frozen=True):
    """Some rows of a table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a backup: a part's file, or some rows of one of its tables."""

    part: str
    kind: Literal["files", "tables"]
    name: str
    data: bytes

    def rows(self) -> list[dict[str, Any]]:
        """The rows of a table. Raises Malformed."""
        try:
            piece = msgspec.msgpack.decode(self.data, type=Piece)
            return [dict(zip(piece.columns, row, strict=True)) for row in piece.rows]
        except (ValueError, RecursionError):
            raise Malformed("a table in this backup makes no sense; take another backup") from None


def database_of(part: str) -> tuple[str, Part] | None:
    """The file and the tables of a part's database; None for one that keeps none."""
    return DATABASES.get(part)


# --- writing ---


async def write(
    folder: Path, file: Path, passphrase: Passphrase, now: float, progress: Callable[[int, int], None] | None = None
) -> Manifest:
    """Back up what is in this folder, while it runs or not; the file is there whole or not at all.

    progress: is told how many rows were written, and of how many. Raises Misuse, StorageError.
    """
    manifest = Manifest(FORMAT, int(now), tuple(settings.parts(folder)))
    with _sealed(file, passphrase) as archive:
        _add(archive, MANIFEST, msgspec.json.encode(manifest))
        for part in manifest.parts:
            await _add_part(archive, folder / part, progress or (lambda _done, _all: None))
    return manifest


async def _add_part(archive: tarfile.TarFile, part: Path, progress: Callable[[int, int], None]) -> None:
    known = database_of(part.name)
    if known is None:
        _add_files(archive, part)
        return
    file, kept = known
    tables = kept.tables
    opened = db.opened(part / file, kept, settings.database_url(part))
    async with opened as database, database.snapshot() as connection:
        every = 0
        for table in tables.sorted_tables:
            every += await connection.scalar(select(func.count()).select_from(table)) or 0
        # Only now: keys are written before anything names them, so these have all that the snapshot needs.
        _add_files(archive, part)
        done = 0
        for table in tables.sorted_tables:
            columns = tuple(str(column.name) for column in table.columns)
            result = await connection.stream(select(table).order_by(*table.primary_key.columns))
            number = 0
            async for rows in result.partitions(ROWS):
                piece = Piece(columns, tuple(tuple(row) for row in rows))
                _add(archive, f"{part.name}/{TABLES}/{table.name}/{number:06}", msgspec.msgpack.encode(piece))
                number += 1
                done += len(rows)
                progress(done, every)


def _add_files(archive: tarfile.TarFile, part: Path) -> None:
    told = settings.read_part(part)
    chains_again = part / told.static if isinstance(told, settings.AuthoritySettings) and told.static else None
    for file in sorted(part.rglob("*")):
        if chains_again is not None and file.is_relative_to(chains_again):
            continue  # they are in the tables, and are written anew
        if file.is_file() and not file.is_symlink() and not _left_out(file):
            name = file.relative_to(part).as_posix()
            _add(archive, f"{part.name}/{FILES}/{name}", file.read_bytes())


def _left_out(file: Path) -> bool:
    return file.name.startswith(tuple(name for name, _ in DATABASES.values())) or file.name.endswith(sealing.FRESH)


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(data), 0o600
    archive.addfile(member, io.BytesIO(data))


@contextmanager
def _sealed(file: Path, passphrase: Passphrase) -> Iterator[tarfile.TarFile]:
    """A tar that is sealed as it is written, and gets its name when it is whole."""
    fresh = file.with_name(f".{file.name}{sealing.FRESH}")
    if file.exists():
        raise Misuse(f"{file} is there already, and a backup overwrites nothing; choose another name")
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            writer = age.Writer(out, passphrase, secrets.token_bytes)
            with tarfile.open(fileobj=cast("BinaryIO", writer), mode="w|", format=tarfile.PAX_FORMAT) as archive:
                yield archive
            writer.close()
            out.flush()
            os.fsync(out.fileno())
        fresh.rename(file)
    except OSError as error:
        raise StorageError(f"{file} cannot be written ({error.strerror}); make room, or choose another place") from None
    finally:
        fresh.unlink(missing_ok=True)


# --- reading ---


def read(file: Path, passphrase: Passphrase) -> Iterator[Manifest | Entry]:
    """What is in a backup, its manifest first, each piece checked before it is given out.

    Only at the end is it known that all of it was there. Raises Misuse, Locked, Malformed.
    """
    try:
        with file.open("rb") as opened:
            reader = age.Reader(opened, passphrase, str(file))
            with tarfile.open(fileobj=cast("BinaryIO", reader), mode="r|") as archive:
                yield from _entries(archive)
            while reader.read(age.CHUNK):  # to the end of the seal, not only of the tar in it
                pass
    except OSError as error:
        raise Misuse(f"{file} cannot be read ({error.strerror}); name a backup") from None
    except tarfile.TarError:
        raise Malformed(f"{file} is sealed well, but no backup; name another") from None


def _entries(archive: tarfile.TarFile) -> Iterator[Manifest | Entry]:
    manifest: Manifest | None = None
    for member in archive:
        stream = archive.extractfile(member)
        if stream is None or member.size > PIECE_LIMIT:
            raise Malformed("there is something in this backup that does not belong there; take another one")
        data = stream.read()
        if manifest is None:
            manifest = _manifest(member.name, data)
            yield manifest
        else:
            yield _entry(member.name, manifest, data)
    if manifest is None:
        raise Malformed("this backup is empty; take another one")


def _manifest(name: str, data: bytes) -> Manifest:
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (ValueError, RecursionError):
        manifest = None
    if name != MANIFEST or manifest is None or not all(map(_PART.fullmatch, manifest.parts)):
        raise Malformed("this is no backup of a backend; name another file")
    if manifest.format != FORMAT:
        raise Misuse(f"this backup has format {manifest.format}; restore it with the program that made it")
    return manifest


def _entry(name: str, manifest: Manifest, data: bytes) -> Entry:
    """Names are taken apart here and nowhere put together from dots: whoever made the file had the passphrase only."""
    part, _, rest = name.partition("/")
    kind, _, path = rest.partition("/")
    if (
        part not in manifest.parts
        or kind not in (FILES, TABLES)
        or any(step in ("", ".", "..") for step in path.split("/"))
    ):
        raise Malformed("there is something in this backup that does not belong there; take another one")
    if kind == TABLES:
        return Entry(part, "tables", path.partition("/")[0], data)
    if len(data) > FILE_LIMIT:
        raise Malformed("a file in this backup is too large; take another one")
    return Entry(part, "files", path, data)
