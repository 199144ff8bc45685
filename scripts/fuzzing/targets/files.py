"""Files that people are given: backups, moved agents, what proxies elsewhere send, certificates, settings.

Whoever made one may know its passphrase, so archives and backups are sealed here. scrypt is set to its least.
"""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from unittest import mock

import msgspec
from msgspec.structs import replace

from agent import moving, passphrase
from agent import settings as agent_settings
from backend_stub import settings
from backend_stub.authority import admission
from backend_stub.authority.admission import Admission, Invitation, Request
from backend_stub.keyring import age, keys
from backend_stub.keyring.sealing import Locked
from backend_stub.network import certificates
from backend_stub.operations import backup
from backend_stub.operations.backup import Entry
from protocol import credential
from protocol.errors import Malformed, Misuse, Refused, SpotError, StorageError
from scripts.fuzzing.target import Target, is_told_well, notice, with_mode
from tests.support import Source, world_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripts.fuzzing.target import Check

F = TypeVar("F", Invitation, Request, Admission)

WORLD = world_of("arkworks")
WORDS = "four words drawn at random"
MANIFEST = b'{"format":1,"made_at":0,"parts":["server","authority"]}'
EXPECTED = (Malformed, Misuse, Refused, Locked, StorageError)
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
    with tempfile.TemporaryDirectory() as folder:
        key = certificates.new_key(Source("tls"), Path(folder))
    join = credential.join(WORLD.curve, Source("join"), 7, WORLD.groups["north"].key, admission.bound(bytes(32), key))
    request = Request(name="north-2", nonce=bytes(32), join=join, tls=key)
    issued = credential.issue(
        WORLD.curve, Source("issue"), WORLD.groups["north"].secret, WORLD.groups["north"].key, join, join.nonce
    )
    admitted = Admission(name="north-2", issued=issued)
    invited = _invited()
    for mode, message in (
        ("request", request),
        ("admission", admitted),
        ("admission", replace(admitted, certificate=b"0")),
        ("invitation", invited),
        ("invitation", replace(invited, roots=(b"0",))),
    ):
        yield with_mode(mode, msgspec.json.encode(message))
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


def _file_of(kind: type[F], use: Callable[[Path, F], object]) -> Callable[[Path, bytes], None]:
    def read(place: Path, data: bytes) -> None:
        place.write_bytes(data)
        found = admission.read_file(kind, place)
        admission.write_file(found, place)
        assert admission.read_file(kind, place) == found
        use(place.parent, found)

    return read


def _ask(folder: Path, invited: Invitation) -> None:
    """Make a proxy that was invited; where that fails, nothing of it is left."""
    home = folder / "made"
    try:
        admission.ask(WORLD.curve, Source("proxy"), home, invited, admission.proxy_settings(invited, "127.0.0.1", 8703))
    except SpotError:
        assert not home.exists()
        raise
    shutil.rmtree(home)


def _certify(folder: Path, asked: Request) -> None:
    """What the group manager does with the request of a proxy elsewhere, but for its lists."""
    group = WORLD.groups["north"]
    nonce = admission.bound(asked.nonce, asked.tls)
    credential.issue(WORLD.curve, Source("issue"), group.secret, group.key, asked.join, nonce)
    if asked.tls:
        certificates.issue(folder / "authority", asked.tls, ["localhost"])


def _accept(folder: Path, admitted: Admission) -> None:
    """What the proxy does with the answer, as often as it comes."""
    admission.accept(WORLD.curve, folder / "proxy", admitted)


def _invited() -> Invitation:
    group = WORLD.groups["north"]
    return admission.Invitation(
        name="north-2",
        group="north",
        url="http://127.0.0.1:8703",
        nonce=bytes(32),
        key=group.public,
        authority="http://127.0.0.1:8700",
        genesis="0" * 64,
        server="http://127.0.0.1:8701",
    )


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
    "invitation": _file_of(Invitation, _ask),
    "request": _file_of(Request, _certify),
    "admission": _file_of(Admission, _accept),
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
        for part in ("authority", "proxy"):
            (place.parent / part).mkdir()
        certificates.new_root(Source("root"), place.parent / "authority")
        admission.write_file(_invited(), place.parent / "proxy" / admission.INVITATION)
        keys.write_joining(place.parent / "proxy", 7)

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
    modules=(
        "backend_stub.keyring.age",
        "backend_stub.operations.backup",
        "backend_stub.authority.admission",
        "agent.passphrase",
    ),
    modes=tuple(READERS),
    seeds=seeds,
    ready=ready,
)
