"""Bringing a backup back: everything is checked first, then done whole or not at all.

What is older than the present must not do harm: the chains go on where the world last saw them (`catching_up`), and
codes and invitations that may have been used since are withdrawn.
"""

from __future__ import annotations

import os
import ssl
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
from sqlalchemy import delete, insert, select, update

from backend_stub import settings
from backend_stub.authority import catching_up, chains
from backend_stub.authority import service as authority
from backend_stub.authority.catching_up import CatchingUp, Known
from backend_stub.keyring import keys, sealing
from backend_stub.network import calling
from backend_stub.operations import backup, founding
from backend_stub.storage import database as db
from backend_stub.storage import tables
from protocol import chain, messages
from protocol.errors import KeyChanged, Malformed, Misuse
from protocol.messages import Head, Parameters
from protocol.parameters import Trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection

    from backend_stub.clock import Clock
    from backend_stub.keyring.passphrases import Passphrase
    from backend_stub.operations.backup import Entry, Manifest


@dataclass(frozen=True, slots=True)
class Choice:
    """How to go about it.

    links_from: URLs of those who may have newer links; none: the operator knows that there are none. keep_codes: leave
    unused codes and invitations usable. database: the PostgreSQL to restore into, empty for SQLite; None: as before.
    """

    links_from: Sequence[str] = ()
    nothing_newer: bool = False
    keep_codes: bool = False
    database: str | None = None


@dataclass(slots=True)
class Found:
    """What the first reading of a backup saw."""

    manifest: Manifest
    rows: Counter[str] = field(default_factory=Counter)
    known: Known | None = None


@dataclass(slots=True)
class Restored:
    """What was restored. rows: by table; links: signed after the backup; lost: keys made after it, so not in it."""

    made_at: int
    parts: tuple[str, ...]
    rows: dict[str, int]
    sealed: bool = False
    links: int = 0
    withdrawn: int = 0
    removed: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


async def restore(
    file: Path,
    folder: Path,
    passphrase: Passphrase,
    choice: Choice,
    clock: Clock | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Restored:
    """Bring this backup back into an empty folder. Raises SpotError, and leaves nothing behind then.

    clock: in place of the one in the authority's settings. progress: is told how many rows are back, and of how many.
    """
    with founding.in_place(folder) as building:
        found = check(file, passphrase)
        before = await _caught_up(found, choice)
        done = Restored(found.manifest.made_at, found.manifest.parts, dict(found.rows))
        if found.known is not None and before is not None:
            done.links = len(found.known.links)
            done.lost = catching_up.lost_keys(before, found.known.parameters)
        await _Filling(building, found, choice, done, clock, progress or (lambda _done, _all: None)).fill(
            file, passphrase
        )
        return done


def check(file: Path, passphrase: Passphrase) -> Found:
    """Read a backup to its end. Raises Misuse, Locked, Malformed."""
    found: Found | None = None
    newest: dict[str, dict[str, Any]] = {}
    for entry in backup.read(file, passphrase):
        if isinstance(entry, backup.Manifest):
            found = Found(entry)
        elif found is not None and entry.kind == backup.TABLES:
            table = _table(entry)
            rows = entry.rows()
            found.rows[f"{entry.part}/{table.name}"] += len(rows)
            if table is tables.links:
                newest = _newest([*newest.values(), *rows])
    if found is None:
        raise Malformed(f"{file} is empty; name another backup")
    if authority.FOLDER in found.manifest.parts:
        found.known = _known(newest)
    return found


def _newest(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["chain"]: row for row in sorted(rows, key=lambda row: int(row["number"]))}


def _known(newest: dict[str, dict[str, Any]]) -> Known:
    heads = {name: Head(number=row["number"], hash=row["hash"]) for name, row in newest.items()}
    if chains.PARAMETERS not in heads:
        raise Malformed("this backup has no parameters; take another one")
    current = messages.decode(Parameters, newest[chains.PARAMETERS]["body"])
    return Known(Trusted(heads[chains.PARAMETERS], current), heads.get(chains.PUBLICATIONS, chain.EMPTY))


async def _caught_up(found: Found, choice: Choice) -> Parameters | None:
    """The parameters in the backup, after what is newer was added to what is known. Raises SpotError."""
    if found.known is None:
        return None
    before = found.known.parameters
    if choice.links_from:
        async with calling.session(_trusting(before.roots)) as asking:
            await CatchingUp(asking, choice.links_from).catch_up(found.known)
        if found.known.parameters.chain_key != before.chain_key:
            raise KeyChanged(
                "the chain key was changed after this backup, so it cannot sign what comes next; take a newer backup"
            )
    elif not choice.nothing_newer:
        raise Misuse(
            "what the authority signed after this backup must not be signed a second time; name who has it, all "
            "proxies best: --links-from URL, or say --nothing-newer if you know that there is nothing"
        )
    return before


def _trusting(roots: Sequence[bytes]) -> ssl.SSLContext:
    """TLS that trusts the authority's own roots, as its agents do, and the system's, for mirrors."""
    context = ssl.create_default_context(cadata=b"".join(roots) or None)
    context.load_default_certs()
    return context


def _table(entry: Entry) -> Any:
    known = backup.database_of(entry.part)
    tables = {} if known is None else known[1].tables.tables
    if entry.name not in tables:
        raise Misuse(f"this backup has a table {entry.name} of {entry.part}; restore it with a newer program")
    return tables[entry.name]


class _Filling:
    """The second reading of a backup, into a folder that is not in use yet."""

    def __init__(
        self,
        folder: Path,
        found: Found,
        choice: Choice,
        done: Restored,
        clock: Clock | None,
        progress: Callable[[int, int], None],
    ) -> None:
        self._folder = folder
        self._found = found
        self._choice = choice
        self._done = done
        self._clock = clock
        self._progress = progress
        self._rows = 0
        self._filled: list[str] = []

    async def fill(self, file: Path, passphrase: Passphrase) -> None:
        """Write everything; each part's tables in one transaction. On an error, nothing is left in a PostgreSQL."""
        try:
            await self._fill(file, passphrase)
        except BaseException:
            for part in self._filled:
                await self._empty(part)
            raise

    async def _empty(self, part: str) -> None:
        name, kept = backup.DATABASES[part]
        url = settings.database_url(self._folder / part)
        async with db.opened(self._folder / part / name, kept, url) as database, database.transaction() as connection:
            for table in reversed(kept.tables.sorted_tables):
                await connection.execute(delete(table))

    async def _fill(self, file: Path, passphrase: Passphrase) -> None:
        for part in self._found.manifest.parts:
            keys.make_private(self._folder / part)
        entries = (one for one in backup.read(file, passphrase) if isinstance(one, backup.Entry))
        for part, of_part in groupby(entries, key=lambda entry: entry.part):
            async with AsyncExitStack() as stack:
                connection: AsyncConnection | None = None
                for entry in of_part:  # files first, settings among them
                    if entry.kind == backup.FILES:
                        self._write_file(entry)
                        continue
                    connection = connection or await self._begin(stack, part)
                    await self._insert(connection, entry)
                if connection is not None and part == authority.FOLDER:
                    await self._mend(connection)
            if connection is not None:
                self._filled.append(part)
            self._done.sealed |= sealing.has_lock(self._folder / part)

    def _write_file(self, entry: Entry) -> None:
        part = self._folder / entry.part
        file = part / entry.name
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(entry.data)
            os.fsync(out.fileno())
        if entry.name == settings.FILE and entry.part in backup.DATABASES and self._choice.database is not None:
            settings.write(part, msgspec.structs.replace(settings.read_part(part), database=self._choice.database))

    async def _begin(self, stack: AsyncExitStack, part: str) -> AsyncConnection:
        name, kept = backup.DATABASES[part]
        url = settings.database_url(self._folder / part)
        database = await stack.enter_async_context(db.opened(self._folder / part / name, kept, url))
        connection = await stack.enter_async_context(database.transaction())
        for table in kept.tables.sorted_tables:
            if (await connection.execute(select(table).limit(1))).first() is not None:
                raise Misuse(f"the PostgreSQL of the {part} has a backend in it; empty its schema {kept.name} first")
        return connection

    async def _insert(self, connection: AsyncConnection, entry: Entry) -> None:
        rows = entry.rows()
        if rows:
            await connection.execute(insert(_table(entry)), rows)
        self._rows += len(rows)
        self._progress(self._rows, self._found.rows.total())

    async def _mend(self, connection: AsyncConnection) -> None:
        """Have the authority go on where the world is now."""
        known = self._found.known
        if known is None:
            return
        for name, head, link in known.links:
            await chains.append(connection, name, head, link)
        for token in known.tokens:  # they waited when the backup was made, and came out since
            await connection.execute(delete(tables.tokens).where(tables.tokens.c.token == token))
        self._done.removed = await _remove_proxies(connection, known.parameters)
        if not self._choice.keep_codes:
            clock = self._clock or settings.read_part(self._folder / authority.FOLDER).open_clock()
            self._done.withdrawn = await _withdraw(connection, int(clock.now()) - 1)


async def _remove_proxies(connection: AsyncConnection, now: Parameters) -> list[str]:
    """Proxies that the newest parameters do not name any more were removed after the backup."""
    proxies = tables.proxies.c
    listed = [url for group in now.groups for url in group.proxies]
    gone = (proxies.removed.is_(False), proxies.url.not_in(listed))
    names = list((await connection.scalars(select(proxies.name).where(*gone))).all())
    await connection.execute(update(tables.proxies).where(*gone).values(removed=True))
    return names


async def _withdraw(connection: AsyncConnection, before: int) -> int:
    """Let unused codes and invitations run out: they may have been used after the backup. How many there were."""
    codes, invitations = tables.codes, tables.invitations
    joined = select(tables.members.c.invitation)
    unused = (
        (codes, codes.c.spent_by.is_(None), codes.c.expires_at > before),
        (invitations, invitations.c.hash.not_in(joined), invitations.c.expires_at > before),
    )
    count = 0
    for table, *where in unused:
        count += (await connection.execute(update(table).where(*where).values(expires_at=before))).rowcount
    return count
