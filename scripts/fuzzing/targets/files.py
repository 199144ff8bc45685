"""Files that people are given: backups, moved agents, what proxies elsewhere send, certificates, settings.

Whoever made one may know its passphrase, so archives and backups are sealed here. scrypt is set to its least.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import msgspec

from agent import moving, passphrase
from agent import settings as agent_settings
from backend_stub import settings
from backend_stub.authority import admission
from backend_stub.keyring import age
from backend_stub.keyring.sealing import Locked
from backend_stub.network import certificates
from backend_stub.operations import backup
from backend_stub.operations.backup import Entry
from protocol.errors import Malformed, Misuse, SpotError, StorageError
from scripts.fuzzing.target import Target, is_told_well, notice, with_mode
from tests.support import Source, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripts.fuzzing.target import Check

WORDS = "four words drawn at random"
MANIFEST = b'{"format":1,"made_at":0,"parts":["server","authority"]}'
EXPECTED = (Malformed, Misuse, Locked, StorageError)
LEAST = 1  # log2 of scrypt's work
SETTINGS = settings.ServerSettings(port=8700, authority=("http://127.0.0.1:8700",), genesis="0" * 64)


def _archive(members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()[:2560]


def seeds() -> Iterator[bytes]:
    """A file of each kind as it is made."""
    piece = msgspec.msgpack.encode(backup.Piece(("ccm", "day"), ((b"1", 1), (b"2", 2))))
    yield with_mode("archive", _archive({"manifest.json": MANIFEST, "server/tables/submissions/000000": piece}))
    yield with_mode("archive", _archive({"manifest.json": MANIFEST, "server/files/settings.toml": b"port = 1"}))
    yield with_mode("piece", piece)
    yield with_mode("manifest", MANIFEST)
    sealed = io.BytesIO()
    writer = age.Writer(sealed, WORDS.encode(), Source("age"), LEAST)
    writer.write(b"something")
    writer.close()
    yield with_mode("age", sealed.getvalue())
    yield with_mode("moved", msgspec.msgpack.encode(moving.Backup(version=1, key=bytes(32), database=bytes(64))))
    yield with_mode("sealed move", passphrase.HEAD + bytes(16 + 32 + 40))
    world = world_of("arkworks")
    request = admission.Request(name="group-1-2", nonce=bytes(32), join=world.removed.request)
    admitted = admission.Admission(name="group-1-2", issued=world.alice.issued)
    for mode, message in (("request", request), ("admission", admitted)):
        yield with_mode(mode, msgspec.json.encode(message))
    yield with_mode("invitation", b'{"name":"a","group":"b","url":"http://x","genesis":"00"}')
    yield with_mode("agent settings", b'radio = "auto"\ntx_power = -4\nservice_uuid = 0xFF50\nclock = "60@0"\n')
    yield with_mode("settings", b'port = 8700\nauthority = ["http://a"]\ngenesis = "%s"\n' % (b"0" * 64))
    yield with_mode("certificates", b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n")


def _read_archive(place: Path, data: bytes) -> None:
    """A backup whose tar is anything: what is given out belongs there."""
    sealed = io.BytesIO()
    writer = age.Writer(sealed, WORDS.encode(), Source("age"), LEAST)
    writer.write(data)
    writer.close()
    place.write_bytes(sealed.getvalue())
    for found in backup.read(place, WORDS.encode()):
        if isinstance(found, Entry):
            steps = found.name.split("/")
            assert not {"", ".", ".."} & set(steps), "a name that leads out of the folder"
            assert found.part in ("server", "authority") or found.part.startswith("proxy-")
            notice(found.kind)
            if found.kind == "tables":
                found.rows()


def _read_age(place: Path, data: bytes) -> None:
    """An age file: what comes out is what somebody sealed with the passphrase."""
    place.write_bytes(data)
    with place.open("rb") as opened:
        reader = age.Reader(opened, WORDS.encode(), "a file")
        found = b""
        while piece := reader.read(4096):
            found += piece
        assert found == b"something", "something was opened that nobody sealed"


def _read_moved(place: Path, data: bytes) -> None:
    """What `spot import` makes of a file whose passphrase is known, up to the database in it."""
    place.write_bytes(b"x")
    with mock.patch.object(passphrase, "unseal", return_value=data):
        found = moving._read(place, WORDS)  # noqa: SLF001
    assert found.format == "spot-agent"


def _unseal(_place: Path, data: bytes) -> None:
    passphrase.unseal(data, WORDS, "a file")
    raise AssertionError("something was opened that nobody sealed")


def _piece(_place: Path, data: bytes) -> None:
    for row in Entry("server", "tables", "submissions", data).rows():
        assert all(isinstance(name, str) for name in row)


def _manifest(_place: Path, data: bytes) -> None:
    found = backup._manifest(backup.MANIFEST, data)  # noqa: SLF001
    assert all("/" not in part and ".." not in part for part in found.parts)


def _file_of(kind: Any) -> Callable[[Path, bytes], None]:
    def read(place: Path, data: bytes) -> None:
        place.write_bytes(data)
        found = admission.read_file(kind, place)
        admission.write_file(found, place)
        assert admission.read_file(kind, place) == found

    return read


def _agent_settings(place: Path, data: bytes) -> None:
    (place.parent / agent_settings.FILE).write_bytes(data)
    with mock.patch.dict(os.environ, clear=True):
        agent_settings.read_settings(place.parent).open_clock()


def _settings(place: Path, data: bytes) -> None:
    """What is read can be written, and read again."""
    (place.parent / settings.FILE).write_bytes(data)
    found = settings.read(settings.ServerSettings, place.parent)
    settings.write(place.parent, found)
    tomllib.loads((place.parent / settings.FILE).read_text(encoding="utf-8"))
    assert settings.read(settings.ServerSettings, place.parent) == found


def _certificates(place: Path, data: bytes) -> None:
    (place.parent / certificates.ROOTS).write_bytes(data)
    certificates.roots(place.parent)


READERS: dict[str, Callable[[Path, bytes], None]] = {
    "archive": _read_archive,
    "piece": _piece,
    "manifest": _manifest,
    "age": _read_age,
    "moved": _read_moved,
    "sealed move": _unseal,
    "invitation": _file_of(admission.Invitation),
    "request": _file_of(admission.Request),
    "admission": _file_of(admission.Admission),
    "agent settings": _agent_settings,
    "settings": _settings,
    "certificates": _certificates,
}


@contextmanager
def ready() -> Iterator[Check]:
    """The check of one file, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(age, "MOST_WORK", LEAST),
        mock.patch.object(passphrase, "_WORK", 1 << LEAST),
    ):
        place = Path(folder) / "file"

        def check(data: bytes) -> None:
            first, _, rest = data.partition(b"\n")
            mode = first.decode("latin-1")
            if mode not in READERS:
                return
            notice(mode)
            try:
                READERS[mode](place, rest)
            except EXPECTED as error:
                _is_told(error)
            else:
                notice(f"{mode} to the end")

        yield check


def _is_told(error: SpotError) -> None:
    # Of a file in one's own hands an error may say more; the command line prints it as a stranger's text.
    notice(type(error).__name__)
    if isinstance(error, Malformed):
        is_told_well(error)


TARGET = Target(
    name="files",
    about="backups, moved agents, files of proxies elsewhere, settings, certificates",
    modules=("backend_stub.keyring.age", "backend_stub.operations.backup", "agent.passphrase", "agent.moving"),
    modes=tuple(READERS),
    seeds=seeds,
    ready=ready,
)
