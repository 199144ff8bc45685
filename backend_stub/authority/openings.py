"""Opening a group signature: which proxy signed a contact record; only in the authority's folder, and noted down."""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backend_stub.authority import groups
from backend_stub.keyring import sealing
from protocol import messages
from protocol.errors import Malformed, Misuse, StorageError
from protocol.messages import ContactRecord, DeclaredContact

if TYPE_CHECKING:
    from pathlib import Path

    from backend_stub.authority.groups import Listed
    from backend_stub.authority.service import Authority

LOG = "openings.log"
RECORD_LIMIT = 1 << 16  # bytes, in whatever form


def read_record(given: bytes) -> ContactRecord:
    """A contact record, or that of a declared contact: MessagePack as it is, in hex or base64. Raises Misuse."""
    for data in _readings(given[:RECORD_LIMIT]):
        with suppress(Malformed):
            return messages.decode(ContactRecord, data)
        with suppress(Malformed):
            return messages.decode(DeclaredContact, data).record
    raise Misuse("this is no contact record: give a file, or hexadecimal, or base64 of its MessagePack")


def _readings(given: bytes) -> list[bytes]:
    text = b"".join(given.split())
    found = [given]
    for decode in (bytes.fromhex, lambda ascii_: base64.b64decode(ascii_, validate=True)):
        with suppress(ValueError):
            found.append(decode(text.decode("ascii")))
    return found


async def open_record(authority: Authority, record: ContactRecord, reason: str) -> Listed | None:
    """The proxy that signed this record, or None; who asked, and when, is written down before anybody is told.

    Raises Malformed, Refused, Misuse or StorageError.
    """
    found = await groups.signer(authority, record)
    name = "nobody who was admitted" if found is None else found.name
    _note(authority.folder, authority.clock.now(), record, name, reason)
    return found


def count(folder: Path) -> int:
    """How many signatures were opened in this authority's folder."""
    try:
        return (folder / LOG).read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def _note(folder: Path, now: float, record: ContactRecord, name: str, reason: str) -> None:
    if not reason.isprintable():
        raise Misuse("a reason is one line of text; give it without line breaks")
    user = os.environ.get("SUDO_USER") or getpass.getuser()
    when = datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds")
    digest = hashlib.sha256(messages.encode(record)).hexdigest()[:12]
    line = (
        f"{when} {user} opened a record of {record.group} (SHA-256 {digest}...): {name}; reason: {reason or 'none'}\n"
    )
    try:
        with os.fdopen(os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as file:
            sealing.give_to_owner(file.fileno(), folder)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise StorageError(
            f"{folder / LOG} cannot be written ({error.strerror}), so nothing is opened; make room or mend its folder"
        ) from None
