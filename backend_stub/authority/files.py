"""Both chains as files, which any web server or CDN can serve: `v1/heads`, `v1/parameters/7`, `v1/publications/42`.

The paths are those that agents ask for. A link is written once, whole or not at all, and only when it is committed;
`heads` comes last, so that what it names is there. What is missing is made anew from the database;
publications that are not offered any more go.
"""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from typing import TYPE_CHECKING

from backend_stub.authority import chains
from protocol import messages
from protocol.errors import SpotError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from backend_stub.authority.service import Authority
    from protocol.messages import Heads

log = logging.getLogger(__name__)

LOOK_EVERY = 5.0  # real seconds: chains grow by commands of other processes, too
PATHS = {chains.PARAMETERS: messages.PARAMETERS_PATH, chains.PUBLICATIONS: messages.PUBLICATIONS_PATH}


def folder_of(authority: Authority) -> Path:
    """Where this authority's files are."""
    return authority.folder / authority.told.static


def count(root: Path) -> int:
    """How many files are there."""
    return sum(path.is_file() for path in root.rglob("*"))


async def keep_for_ever(authority: Authority) -> None:
    """Write what is new, at the start what is missing."""
    written: Heads | None = None
    while True:
        try:
            written = await write(authority, written)
        except SpotError as error:
            log.warning("not all files are written; it is tried again: %s", error.text)
        await asyncio.sleep(LOOK_EVERY)


async def write(authority: Authority, written: Heads | None = None) -> Heads:
    """Write all links after those that are known to be written, and the heads. Raises StorageError."""
    try:
        return await _write(authority, written)
    except OSError as error:
        raise StorageError(
            f"the files in {folder_of(authority)} cannot be written ({error.strerror}); make room, or mend `static` in "
            "settings.toml"
        ) from None


async def _write(authority: Authority, written: Heads | None) -> Heads:
    heads = await authority.database.run(chains.heads)
    if heads == written:
        return heads
    root = folder_of(authority)
    for name, path in PATHS.items():
        first = 0 if written is None else getattr(written, name).number + 1
        for number in range(first, getattr(heads, name).number + 1):
            await _write_link(authority, root / path.format(number=number).lstrip("/"), name, number)
    await asyncio.to_thread(_put, root / messages.HEADS_PATH.lstrip("/"), messages.encode(heads))
    await asyncio.to_thread(_drop, root, range(0 if written is None else written.oldest, heads.oldest))
    return heads


async def _write_link(authority: Authority, file: Path, name: str, number: int) -> None:
    if await asyncio.to_thread(file.exists):
        return
    link = await authority.database.run(lambda connection: chains.link(connection, name, number))
    if link is not None:
        await asyncio.to_thread(_put, file, messages.encode(link))


def _drop(root: Path, publications: Iterable[int]) -> None:
    """Delete those publications."""
    for number in publications:
        (root / messages.PUBLICATIONS_PATH.format(number=number).lstrip("/")).unlink(missing_ok=True)


def _put(file: Path, data: bytes) -> None:
    """Make this the file's contents, at once and for good; everybody may read it."""
    fresh = file.with_name(f".{file.name}.{os.getpid()}.new")
    try:
        _make_folder(file.parent)
        with fresh.open("wb") as opened:
            opened.write(data)
            opened.flush()
            os.fsync(opened.fileno())
        fresh.chmod(0o644)
        fresh.replace(file)
        _sync_folder(file.parent)
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)  # whatever the umask: neither shut to the web server nor open to writers


def _sync_folder(folder: Path) -> None:
    if os.name != "nt":  # which cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
