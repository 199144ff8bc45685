"""TLS: who is answered, with which certificate, and that nothing ties one connection to another."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import os
import secrets
import shutil
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from agent import transport
from backend_stub import settings
from backend_stub.authority import admission, codes, groups
from backend_stub.authority import service as authority
from backend_stub.network import calling, certificates, renewal
from backend_stub.network.identity import Identity
from backend_stub.operations.founding import Plan
from backend_stub.operations.running import running
from backend_stub.proxy import service as proxy
from protocol import messages
from protocol.errors import Misuse, Refused, StorageError, Unreachable
from tests.backend_stub import support
from tests.backend_stub.support import CURVE, Encounter, World

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.backend_stub.support import ManualClock

PLAN = Plan(port=0, pool_wait=0.01)
NOTHING = messages.encode(messages.Submissions(submissions=(support.NOTHING,)))


def identity(folder: Path, part: str) -> Identity:
    return Identity(folder / part, settings.read_part(folder / part))


@pytest.fixture
async def there(tmp_path: Path, clock: ManualClock) -> AsyncIterator[World]:
    """A running backend that speaks TLS; asked with the certificate of its first proxy."""
    folder = tmp_path / "backend"
    await support.found(folder, clock, PLAN)
    async with running(folder, clock) as backend:
        own = identity(folder, "proxy-group-1-1")
        async with calling.session(own.calling) as asking:
            made = World(backend, clock, asking)
            await support.ready(made)
            yield made


def roots(there: World) -> tuple[bytes, ...]:
    (root,) = certificates.roots(there.backend.folder / "authority")
    return (root.public_bytes(Encoding.DER),)


async def test_the_whole_way_over_tls(there: World) -> None:
    left, right = await there.pair()
    assert there.backend.authority.startswith("https://")
    contact = await there.meet(left, right)
    assert (await there.declare(left, await there.code(), [contact])).accepted
    assert (await there.trusted()).parameters.roots == roots(there)


async def test_only_registered_proxies_are_answered(there: World) -> None:
    server = there.backend.server + messages.PARTIAL_PATH
    declaring = there.backend.authority + messages.DECLARATION_PATH
    assert await there.refusal(support.NOTHING) is not None, "a proxy is told about each submission"
    with pytest.raises(Refused, match="only proxies that the authority's parameters list"):
        await transport.post(there.backend.server, messages.PARTIAL_PATH, NOTHING, trust=roots(there))
    for part in ("authority", "server"):
        async with calling.session(identity(there.backend.folder, part).calling) as asking:
            for url in (server, declaring):
                with pytest.raises(Refused, match="spot-backend proxy add"):
                    await calling.call(asking, "POST", url, 10_000, NOTHING)
    heads = await transport.get(there.backend.authority, messages.HEADS_PATH, roots(there))
    assert messages.decode(messages.Heads, heads).parameters.number == 0, "agents need no certificate"


async def test_a_removed_proxy_is_answered_no_more(there: World) -> None:
    await there.refusal(support.NOTHING)
    async with there.office() as office:
        await groups.remove(office, "group-1-1")
    declaring = there.backend.authority + messages.DECLARATION_PATH
    with pytest.raises(Refused):
        await there.send("POST", declaring, b"anything")
    there.clock.pass_by(seconds=300)

    async def refused() -> bool:
        try:
            await there.refusal(support.NOTHING)
        except Refused:
            return True
        return False

    await support.eventually(refused)


async def test_a_certificate_of_another_root_is_not_taken(there: World, tmp_path: Path, clock: ManualClock) -> None:
    await support.found(tmp_path / "other", clock, PLAN)
    foreign = identity(tmp_path / "other", "proxy-group-1-1")
    foreign.calling.check_hostname = False
    foreign.calling.verify_mode = ssl.CERT_NONE
    async with calling.session(foreign.calling) as asking:
        with pytest.raises(Unreachable):
            await calling.call(asking, "POST", there.backend.server + messages.PARTIAL_PATH, 10_000, NOTHING)
    (root,) = certificates.roots(tmp_path / "other" / "authority")
    other = (root.public_bytes(Encoding.DER),)
    for trust in (other, transport.SYSTEM):
        with pytest.raises(Unreachable, match="did not sign"):
            await transport.get(there.backend.authority, messages.HEADS_PATH, trust)
    shows = identity(there.backend.folder, "authority").answering
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.2", 0, ssl=shows) as elsewhere:
        url = f"https://127.0.0.2:{elsewhere.sockets[0].getsockname()[1]}"
        with pytest.raises(Unreachable, match="did not sign"):
            await transport.get(url, messages.HEADS_PATH, roots(there))


async def test_older_tls_is_not_spoken(there: World) -> None:
    at = urlsplit(there.backend.authority)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(at.hostname, at.port, ssl=old)


async def test_no_two_connections_of_an_agent_belong_together(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ticket is given and none is shown: looked at where the connections arrive."""
    folder = there.backend.folder / "proxy-group-1-1"
    seen: list[ssl.SSLObject] = []
    shows = identity(there.backend.folder, "proxy-group-1-1").answering
    assert shows is not None
    assert shows.num_tickets == 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object"))
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    # A server that does give tickets, as a hostile one would.
    giving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    monkeypatch.setattr("backend_stub.network.identity._context", lambda _: giving)
    identity(there.backend.folder, folder.name)
    giving.num_tickets = 2
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=giving) as other:
        url = f"https://127.0.0.1:{other.sockets[0].getsockname()[1]}"
        for _ in range(5):
            assert await transport.get(url, "/", roots(there)) == b"ok"
    assert len(seen) == 5
    assert not any(one.session_reused for one in seen)
    assert giving.session_stats()["hits"] == 0
    assert all(one.version() == "TLSv1.3" for one in seen)


async def test_certificates_name_where_a_part_is(there: World) -> None:
    told = settings.read_part(there.backend.folder / "proxy-group-1-1")
    own = x509.load_pem_x509_certificate((there.backend.folder / "proxy-group-1-1" / "certificate.pem").read_bytes())
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [there.proxies[0]]
    assert told.host in map(str, names.get_values_for_type(x509.IPAddress))
    left = certificates.days_left(there.backend.folder / "proxy-group-1-1", told)
    assert left is not None
    assert 364 < left <= 365


async def test_certificates_are_renewed_in_time_and_taken_up(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    home, part = there.backend.folder / "authority", there.backend.folder / "server"
    before = (part / "certificate.pem").read_bytes()
    renewal.renew_due(home, part, there.proxies)
    assert (part / "certificate.pem").read_bytes() == before, "it is not due"
    running_now = identity(there.backend.folder, "server")
    monkeypatch.setattr(certificates, "DAYS", 1)
    renewal.renew(home, part, there.proxies)
    told = settings.read_part(part)
    assert (certificates.days_left(part, told) or 0) < 1.01
    monkeypatch.undo()
    renewal.renew_due(home, part, there.proxies)
    assert (certificates.days_left(part, told) or 0) > 364
    monkeypatch.setattr("backend_stub.network.identity.LOOK_SECONDS", 0.01)
    watching = asyncio.create_task(running_now.watch())
    async with (
        asyncio.timeout(10),
        await asyncio.start_server(
            lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=running_now.answering
        ) as shown,
    ):
        port = shown.sockets[0].getsockname()[1]

        async def taken_up() -> bool:
            return await expires_at(port) - datetime.datetime.now(datetime.UTC) > datetime.timedelta(days=364)

        await support.eventually(taken_up)
    watching.cancel()


async def test_a_renewed_certificate_is_taken_up_after_a_failure(
    there: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The key could not be read for a moment, just as the certificate had been renewed."""
    part = there.backend.folder / "server"
    running_now = identity(there.backend.folder, "server")
    key = part / "keys" / "tls"
    key.rename(part / "away")
    renewal.renew(there.backend.folder / "authority", part, there.proxies)
    monkeypatch.setattr("backend_stub.network.identity.LOOK_SECONDS", 0.01)
    watching = asyncio.create_task(running_now.watch())

    async def says(words: str) -> bool:
        return words in caplog.text

    await support.eventually(lambda: says("tls cannot be read"))
    (part / "away").rename(key)
    await support.eventually(lambda: says("a renewed certificate is in use"))
    watching.cancel()


async def test_a_certificate_that_cannot_be_renewed_holds_nothing_else_up(
    there: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under systemd the authority may write to its own folder only; what is old is forgotten all the same."""
    folder = there.backend.folder
    before = {part: (folder / part / "certificate.pem").read_bytes() for part in there.backend.parts}
    (folder / "server" / "certificate.new").mkdir()
    monkeypatch.setattr(renewal, "RENEW_DAYS", 400)
    await there.code()
    there.clock.pass_by(days=70)

    async def done() -> bool:
        there.clock.pass_by(seconds=1800)  # where the authority was at work when the days passed
        renewed = {part for part in before if (folder / part / "certificate.pem").read_bytes() != before[part]}
        async with there.office() as office:
            return renewed == before.keys() - {"server"} and not await codes.codes(office)

    await support.eventually(done)


def forged(part: Path, *names: x509.GeneralName) -> None:
    """Who has the part's folder puts a certificate of its own making there, for a key of its own."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SPOT backend")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=2))
    )
    if names:
        made = made.add_extension(x509.SubjectAlternativeName(names), critical=True)
    (part / "certificate.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))


async def test_a_certificate_that_the_root_did_not_sign_is_not_renewed(there: World) -> None:
    folder, part = there.backend.folder, there.backend.folder / "proxy-group-1-1"
    forged(part, x509.DNSName("authority.example.org"), x509.UniformResourceIdentifier(there.proxies[1]))
    before = (part / "certificate.pem").read_bytes()
    for work in (renewal.renew, renewal.renew_due):
        with pytest.raises(StorageError, match="root did not sign"):
            work(folder / "authority", part, there.proxies)
    assert (part / "certificate.pem").read_bytes() == before


@pytest.mark.parametrize("what", ["nothing", "a pipe", "a link"])
async def test_a_certificate_without_names_does_not_end_the_authority(
    there: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """Whatever a part has put into its folder: the others are renewed, and nothing of theirs is written over."""
    folder, part = there.backend.folder, there.backend.folder / "proxy-group-1-1"
    secret = folder / "authority" / "keys" / "chain"
    kept = secret.read_bytes()
    forged(part)
    if what == "a pipe":
        (part / "certificate.pem").unlink()
        os.mkfifo(part / "certificate.pem")
    elif what == "a link":
        shutil.copy(folder / "proxy-group-2-1" / "certificate.pem", part)
        (part / "certificate.new").symlink_to(secret)
    monkeypatch.setattr(renewal, "RENEW_DAYS", 400)
    before = (folder / "server" / "certificate.pem").read_bytes()
    async with there.office() as office:
        await authority._renew_certificates(office)
    assert (folder / "server" / "certificate.pem").read_bytes() != before
    assert secret.read_bytes() == kept
    assert ("renew the certificate of proxy-group-1-1" in caplog.text) is (what != "a link")


async def test_a_removed_proxy_gets_no_fresh_certificate(there: World) -> None:
    folder, part = there.backend.folder, there.backend.folder / "proxy-group-1-1"
    assert renewal.renew(folder / "authority", part, there.proxies)
    assert not renewal.renew(folder / "authority", part, there.proxies[1:])


@pytest.mark.parametrize(
    ("days", "words"), [(100, "good for 100 days"), (20, "days; renew it: spot-backend"), (-1, "run out")]
)
async def test_status_warns_early(
    there: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, days: int, words: str
) -> None:
    part = there.backend.folder / "server"
    monkeypatch.setattr(certificates, "DAYS", days)
    monkeypatch.setattr(certificates, "_EARLY", datetime.timedelta(days=2))
    renewal.renew(there.backend.folder / "authority", part, there.proxies)
    assert words in certificates.verdict(part, settings.read_part(part))
    identity(there.backend.folder, "server")
    assert ("the certificate of server" in caplog.text) is (days < certificates.WARN_DAYS)


async def test_a_proxy_from_elsewhere_gets_its_certificate_and_a_fresh_one(
    there: World, clock: ManualClock, tmp_path: Path
) -> None:
    home, port = tmp_path / "far", settings.read_part(there.backend.folder / "server").port + 700
    url = f"https://127.0.0.1:{port}"
    async with there.office() as office:
        invited = await groups.invite(office, "far", "group-1", url, there.backend.server, there.backend.authority)
        told = admission.proxy_settings(invited, "127.0.0.1", port)
        asked = admission.ask(CURVE, secrets.token_bytes, home, invited, told)
        admission.accept(CURVE, home, await groups.admit(office, asked))
        first = (home / "certificate.pem").read_bytes()
        admission.accept(CURVE, home, await groups.admit(office, asked))
    assert (home / "certificate.pem").read_bytes() != first
    await there.follow(1)
    user = await there.user()
    async with proxy.serving(home, clock):

        async def serves() -> bool:
            try:
                return await there.submit(user, Encounter(), proxy=url) is None
            except Unreachable:
                return False

        await support.eventually(serves)


async def test_no_certificate_for_a_key_that_the_proxy_did_not_name(there: World, tmp_path: Path) -> None:
    """A request holds no secret, so others may have it: with a key of theirs in it, it is worth nothing, ever."""
    url = "https://127.0.0.1:9"
    async with there.office() as office:
        invited = await groups.invite(office, "far", "group-1", url, there.backend.server, there.backend.authority)
        told = admission.proxy_settings(invited, "127.0.0.1", 9)
        asked = admission.ask(CURVE, secrets.token_bytes, tmp_path / "far", invited, told)
        (tmp_path / "thief").mkdir()
        altered = msgspec.structs.replace(asked, tls=certificates.new_key(secrets.token_bytes, tmp_path / "thief"))
        with pytest.raises(Refused):
            await groups.admit(office, altered)
        await groups.admit(office, asked)
        with pytest.raises(Refused):
            await groups.admit(office, altered)


async def expires_at(port: int) -> datetime.datetime:
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=transport.tls(transport.UNCHECKED))
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()
    return x509.load_der_x509_certificate(shown).not_valid_after_utc


def of_no_known_version() -> bytes:
    key, name, now = ec.generate_private_key(ec.SECP256R1()), x509.Name([]), datetime.datetime.now(datetime.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    der = bytearray(made.sign(key, hashes.SHA256()).public_bytes(Encoding.DER))
    der[der.index(b"\xa0\x03\x02\x01\x02") + 4] = 7
    return bytes(der)


@pytest.mark.parametrize("sent", [b"", b"\x30\x00", of_no_known_version()], ids=["nothing", "empty", "version"])
def test_what_is_no_certificate_is_told(tmp_path: Path, sent: bytes) -> None:
    with pytest.raises(Misuse, match="is none"):
        certificates.write(tmp_path, sent)
    with pytest.raises(Misuse, match="is none"):
        certificates.write_roots(tmp_path, [sent])
    (tmp_path / certificates.ROOTS).write_text(ssl.DER_cert_to_PEM_cert(sent))
    with pytest.raises(StorageError, match="cannot be read"):
        certificates.roots(tmp_path)


@pytest.mark.parametrize("sent", [b"", bytes.fromhex("300b300506032a0304030200ff")], ids=["nothing", "algorithm"])
def test_what_is_no_key_for_a_certificate_is_told(tmp_path: Path, sent: bytes) -> None:
    with pytest.raises(Misuse, match="no P-256 key"):
        certificates.issue(tmp_path, sent, ["localhost"])


async def test_a_part_without_its_certificate_says_so(tmp_path: Path, clock: ManualClock) -> None:
    await support.found(tmp_path / "backend", clock, PLAN)
    (tmp_path / "backend" / "server" / "certificate.pem").unlink()
    with pytest.raises(Misuse, match="server has no certificate"):
        identity(tmp_path / "backend", "server")


async def test_a_certificate_of_ones_own(there: World) -> None:
    """Another part's stands in for it: shown is what the settings name, and the proxies are known all the same."""
    part = there.backend.folder / "server"
    own = there.backend.folder / "authority" / "certificate.pem"
    changes = {"certificate": str(own), "key_file": "missing.pem"}
    with pytest.raises(Misuse, match="cannot be used"):
        Identity(part, settings.read(settings.ServerSettings, part, changes))


async def test_secret_keys_are_private(there: World) -> None:
    for part in there.backend.parts:
        key = there.backend.folder / part / "keys" / certificates.KEY
        assert key.stat().st_mode & 0o077 == 0
    assert not (there.backend.folder / "server" / "keys" / certificates.ROOT_KEY).exists()
    user = await there.user()
    assert await there.submit(user, Encounter()) is None
