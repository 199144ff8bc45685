"""`spot doctor`: each check on the thing itself where it can be had, and that it always ends, with a line for each."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import os
import random
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent import account
from agent.clock import clock_synchronised
from agent.commands.desk import Desk
from agent.doctor import backend, bluetooth, examination, machine, probing
from agent.doctor.backend import Joined
from agent.doctor.findings import Finding, Verdict, worst
from agent.doctor.probing import Probe, probe
from agent.service import running_lock
from agent.settings import Settings
from agent.store import create_store
from agent.transport import UNCHECKED, tls
from ble.facts import AdapterFacts, BluetoothFacts
from protocol import messages
from tests.agent import joined
from tests.agent.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.store import Store
    from tests.ble.fake_bluez import FakeBlueZ

linux = pytest.mark.skipif(sys.platform != "linux", reason="D-Bus and tmpfs are Linux's")
FAULT = 40


def desk(folder: Path, **settings: str) -> Desk:
    kept = Settings(**({"key": "file"} | settings))  # type: ignore[arg-type]
    return Desk(folder, kept, kept.open_clock(), random.SystemRandom())


def named(findings: list[Finding], name: str) -> Finding:
    (found,) = [one for one in findings if one.name == name]
    return found


def spot(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "agent", "--data-dir", str(folder), "doctor", *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"SPOT_KEY": "file"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


# --- as a person runs it ---


def test_without_adapter_bus_or_backend_every_line_is_there(folder: Path, tmp_path: Path) -> None:
    done = spot(folder, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={tmp_path}/none", COLUMNS="40")
    assert (done.returncode, done.stderr) == (FAULT, "")
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines] == [
        *("python", "bleak", "curve", "bluetooth", "folder", "disk", "keyring", "store", "clock", "backend"),
    ]
    assert all(line.split()[0] in ("ok", "warning", "fault") for line in lines)
    assert all("→" in line for line in lines if not line.startswith("ok")), "what to do"
    assert not folder.exists(), "looking makes nothing"


def test_as_json_and_faults_as_exit_code(store: Store, folder: Path) -> None:
    done = spot(folder, "--json", SPOT_RADIO="simulated")
    facts = json.loads(done.stdout)
    found = {one["name"]: one for one in facts["findings"]}
    assert found["store"]["verdict"] == "ok"
    assert found["adapter"]["verdict"] == "warning"
    assert found["backend"]["verdict"] == "fault", "nobody answers on the discard port"
    assert found["proxies"]["verdict"] == "fault"
    assert (facts["verdict"], done.returncode) == ("fault", FAULT)


def test_warnings_are_no_fault(folder: Path) -> None:
    assert spot(folder, SPOT_RADIO="simulated").returncode == 0


# --- software and clock ---


def test_the_worst_counts() -> None:
    made = {verdict: Finding("x", verdict, "") for verdict in Verdict}
    assert worst([]) is Verdict.OK
    assert worst(made.values()) is Verdict.FAULT
    assert worst([made[Verdict.WARNING], made[Verdict.OK]]) is Verdict.WARNING


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("3.1.0", Verdict.OK), ("3.9", Verdict.OK), ("3.0", Verdict.WARNING), ("4.0", Verdict.WARNING)],
)
def test_bleak(monkeypatch: pytest.MonkeyPatch, version: str, verdict: Verdict) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: version)
    assert machine.check_bleak().verdict is verdict


def test_the_slow_curve() -> None:
    assert machine.check_curve(Settings(curve="py_ecc")).verdict is Verdict.WARNING
    assert machine.check_curve(Settings(curve="arkworks")) == Finding("curve", Verdict.OK, "arkworks")


@pytest.mark.parametrize(
    ("synchronised", "offset", "verdict"),
    [
        (True, None, Verdict.OK),
        (True, 0.4, Verdict.OK),
        (False, 0.4, Verdict.WARNING),
        (None, 0.4, Verdict.OK),
        (None, None, Verdict.WARNING),
        (True, -31, Verdict.WARNING),
        (True, 301, Verdict.FAULT),
    ],
)
def test_the_clock(
    monkeypatch: pytest.MonkeyPatch, synchronised: bool | None, offset: float | None, verdict: Verdict
) -> None:
    monkeypatch.setattr(machine, "clock_synchronised", lambda: synchronised)
    assert machine.check_clock(Settings(), offset).verdict is verdict
    assert machine.check_clock(Settings(clock="60@0/0"), offset).verdict is Verdict.WARNING


@linux
def test_the_kernel_says_whether_its_clock_is_kept_right() -> None:
    assert clock_synchronised() in (True, False)


# --- Bluetooth ---


GOOD = AdapterFacts("hci0", powered=True, central=True, peripheral=True, free=4, active=1)


@pytest.mark.parametrize(
    ("adapters", "wanted", "faults", "remedy"),
    [
        ((GOOD,), "", [], ""),
        ((), "", ["adapter"], "plug one in"),
        ((GOOD,), "hci1", ["adapter"], "name another"),
        (
            (AdapterFacts("hci0", powered=False, central=True, peripheral=True, free=4),),
            "",
            ["powered"],
            "bluetoothctl",
        ),
        (
            (AdapterFacts("hci0", powered=False, central=True, peripheral=True, free=4, blocked="by software"),),
            "",
            ["powered"],
            "rfkill unblock",
        ),
        ((AdapterFacts("hci0", powered=True, central=True, peripheral=False),), "", ["LE", "advertising"], "another"),
        ((AdapterFacts("hci0", powered=True, central=False, peripheral=True, free=1),), "", ["LE"], "another"),
        (
            (AdapterFacts("hci0", powered=True, central=True, peripheral=True, free=0),),
            "",
            ["advertising"],
            "end another",
        ),
        ((AdapterFacts("hci1", powered=False), GOOD), "", [], ""),
    ],
)
def test_adapters(adapters: tuple[AdapterFacts, ...], wanted: str, faults: list[str], remedy: str) -> None:
    found = bluetooth.check_adapter(BluetoothFacts("BlueZ", "5.66", adapters), wanted)
    bad = [one for one in found if one.verdict is not Verdict.OK]
    assert [one.name for one in bad] == faults
    assert not bad or remedy in bad[0].remedy


@pytest.mark.parametrize(
    ("version", "verdict"),
    [("5.66", Verdict.OK), ("5.82", Verdict.OK), ("6.0", Verdict.OK), ("5.55", Verdict.WARNING), ("", Verdict.WARNING)],
)
def test_bluez_versions(version: str, verdict: Verdict) -> None:
    assert bluetooth.check_stack(BluetoothFacts("BlueZ", version, ())).verdict is verdict


def test_platforms_that_tell_nothing_before_going_on_air() -> None:
    facts = BluetoothFacts("Bluetooth of Windows", "11", None)
    assert bluetooth.check_stack(facts).verdict is Verdict.OK
    assert bluetooth.check_adapter(facts, "")[0].verdict is Verdict.OK


@linux
async def test_what_bluez_tells(bluez: FakeBlueZ, folder: Path) -> None:
    found = await bluetooth.check_bluetooth(Settings())
    assert {one.name: one.verdict for one in found} == {
        "bluetooth": Verdict.OK,
        "permissions": Verdict.OK,
        "adapter": Verdict.OK,
        "powered": Verdict.OK,
        "LE": Verdict.OK,
        "advertising": Verdict.OK,
    }
    assert named(found, "bluetooth").text == "BlueZ 5.82"
    assert named(found, "advertising").text == "4 instances free, 1 in use"
    bluez.switch("hci0", on=False)
    assert named(await bluetooth.check_bluetooth(Settings()), "powered").verdict is Verdict.FAULT
    bluez.advertises = False
    assert named(await bluetooth.check_bluetooth(Settings()), "LE").verdict is Verdict.FAULT
    bluez.unplug("hci0")
    found = await bluetooth.check_bluetooth(Settings())
    assert named(found, "adapter").verdict is Verdict.FAULT


@linux
async def test_bluez_that_denies_or_is_silent(bluez: FakeBlueZ, monkeypatch: pytest.MonkeyPatch) -> None:
    bluez.refuse["GetManagedObjects"] = "org.freedesktop.DBus.Error.AccessDenied"
    (found,) = await bluetooth.check_bluetooth(Settings())
    assert (found.name, found.verdict) == ("permissions", Verdict.FAULT)
    assert "group bluetooth" in found.remedy
    bluez.refuse.clear()
    bluez.ignore.add("GetManagedObjects")
    monkeypatch.setattr(bluetooth, "BLUETOOTH_PATIENCE", 0.2)
    (found,) = await bluetooth.check_bluetooth(Settings())
    assert (found.name, found.verdict, found.text) == ("bluetooth", Verdict.FAULT, "does not answer")


# --- folder, disk, key, store ---


def test_folders(folder: Path) -> None:
    assert machine.check_folder(folder).verdict is Verdict.OK
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    assert machine.check_folder(folder).remedy == f"chmod 700 {folder}"
    folder.chmod(0o700)
    assert machine.check_folder(folder).verdict is Verdict.OK


@linux
@pytest.mark.skipif(os.name == "posix" and os.geteuid() != 0, reason="takes root to be somebody else")
def test_somebody_elses_folder() -> None:
    script = (
        "import os, sys, pathlib\n"
        "from agent.doctor import machine\n"
        "os.setuid(65534)\n"
        "found = machine.check_folder(pathlib.Path(sys.argv[1]))\n"
        "print(found.verdict.value, found.remedy)"
    )
    with tempfile.TemporaryDirectory() as name:
        outer, folder = Path(name), Path(name) / "data"
        folder.mkdir(mode=0o700)
        outer.chmod(0o755)
        command = [sys.executable, "-c", script, str(folder)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout == "fault run as them: sudo -u root spot …\n", done


@linux
@pytest.mark.parametrize(
    ("options", "verdict"),
    [("size=1m", "fault"), ("size=50m", "warning"), ("size=200m", "ok"), ("size=200m,ro", "fault")],
)
def test_disks(tmp_path: Path, options: str, verdict: str) -> None:
    """A file system of its own, in a name space of its own."""
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -m agent --data-dir "$1/data" doctor --json'
    command = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh", str(tmp_path), sys.executable]
    if shutil.which("unshare") is None or subprocess.run([*command[:3], "true"], check=False).returncode:
        pytest.skip("no name spaces here")
    environment = os.environ | {"SPOT_RADIO": "simulated", "SPOT_KEY": "file"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    found = {one["name"]: one["verdict"] for one in json.loads(done.stdout)["findings"]}
    assert found["disk"] == verdict, done


def test_keys(store: Store, folder: Path, tmp_path: Path) -> None:
    assert machine.check_keyring(folder, Settings()).verdict is Verdict.OK
    (folder / "store.key").chmod(0o644)
    assert machine.check_keyring(folder, Settings()).remedy.startswith("chmod 600")
    assert machine.check_keyring(tmp_path / "none", Settings()).verdict is Verdict.OK
    assert machine.check_keyring(tmp_path / "none", Settings(key="keyring")).verdict is Verdict.FAULT


async def test_a_keyring_that_waits_for_a_person(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("agent.sealing.has_keyring", lambda: released.wait(30))
    monkeypatch.setattr(examination, "PATIENCE", 0.1)
    found = await examination.examine(desk(folder, key="auto", radio="simulated"))
    released.set()
    assert named(found, "keyring").verdict is Verdict.FAULT
    assert "password" in named(found, "keyring").remedy
    assert named(found, "backend")


async def test_stores(store: Store, folder: Path, tmp_path: Path) -> None:
    kept: list[Joined] = []
    found = machine.check_store(folder, Settings(key="file"), kept)
    assert [(one.name, one.verdict) for one in found] == [("store", Verdict.OK), ("agent", Verdict.WARNING)]
    assert kept[0].url == joined.NOWHERE
    with running_lock(folder):
        assert machine.check_store(folder, Settings(key="file"), [])[1].verdict is Verdict.OK
    store.put(account.MOVED, 1.0)
    (moved,) = machine.check_store(folder, Settings(key="file"), [])
    assert (moved.verdict, moved.text) == (Verdict.WARNING, "moved to another device")
    (folder / "store.key").write_bytes(bytes(32))
    (found_damaged,) = await examination._within("store", lambda: machine.check_store(folder, Settings(key="file"), []))
    assert found_damaged.verdict is Verdict.FAULT
    assert found_damaged.remedy
    create_store(tmp_path / "new", "file", random.SystemRandom().randbytes).close()
    (unfinished,) = machine.check_store(tmp_path / "new", Settings(key="file"), [])
    assert unfinished.verdict is Verdict.WARNING


async def test_a_check_that_breaks_is_a_finding() -> None:
    def breaks() -> list[Finding]:
        raise ZeroDivisionError

    (found,) = await examination._within("x", breaks)
    assert (found.verdict, found.text) == (Verdict.WARNING, "could not be checked (ZeroDivisionError)")


# --- backend and certificate ---


class Backend(BaseHTTPRequestHandler):
    kind = messages.MEDIA_TYPE
    ahead = 0.0

    def do_GET(self) -> None:
        self.send_response_only(200 if self.path == messages.HEADS_PATH else 404)
        self.send_header("Date", self.date_time_string(time.time() + self.ahead))
        self.send_header("Content-Type", self.kind)
        self.end_headers()

    def log_message(self, *values: object) -> None:
        pass


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler] = Backend, context: ssl.SSLContext | None = None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    # A client that does not trust the certificate goes away.
    server.handle_error = lambda *error: None  # type: ignore[method-assign]
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


def certificate(folder: Path, days: tuple[float, float], name: str = "localhost", *, issued: bool = True) -> Path:
    """A server's certificate with its key, valid from and until so many days from now, by an authority if issued."""
    now = datetime.datetime.now(datetime.UTC)
    authority_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    own_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])

    def made(
        subject: x509.Name, public: ec.EllipticCurvePublicKey, span: tuple[float, float]
    ) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority_name if issued else own_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=span[0]))
            .not_valid_after(now + datetime.timedelta(days=span[1]))
        )

    own = made(own_name, key.public_key(), days).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
    )
    root = made(authority_name, authority_key.public_key(), (-9000, 9000)).add_extension(
        x509.BasicConstraints(ca=True, path_length=None), critical=True
    )
    pem = serialization.Encoding.PEM
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    signed = own.sign(authority_key if issued else key, hashes.SHA256())
    (folder / "own.pem").write_bytes(signed.public_bytes(pem) + key.private_bytes(pem, *plain))
    (folder / "root.pem").write_bytes(root.sign(authority_key, hashes.SHA256()).public_bytes(pem))
    return folder / "own.pem"


@pytest.mark.parametrize(
    ("days", "name", "options", "verdict", "words"),
    [
        ((-30, 60), "localhost", {}, Verdict.OK, "good for 60 days"),
        ((-30, 5), "localhost", {}, Verdict.WARNING, "good for 5 days"),
        ((-30, -1), "localhost", {}, Verdict.FAULT, "has expired"),
        ((2, 60), "localhost", {}, Verdict.FAULT, "not valid yet"),
        ((-30, 60), "other.example", {}, Verdict.FAULT, "another name"),
        ((-30, 60), "localhost", {"issued": False}, Verdict.FAULT, "signed by itself"),
        ((-30, 60), "localhost", {"trusted": False}, Verdict.FAULT, "nobody that this machine knows"),
    ],
)
async def test_certificates(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    days: tuple[float, float],
    name: str,
    options: dict[str, bool],
    verdict: Verdict,
    words: str,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, (days[0], days[1] + 0.2), name, issued=options.get("issued", True)))
    if options.get("trusted", True):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "root.pem"))
    tls.cache_clear()  # what the system trusts is read once a process
    with serving(context=context) as port:
        seen = await probe(f"https://localhost:{port}")
    found = backend.check_certificate(seen)
    assert (found.verdict, bool(seen.problem)) == (verdict, verdict is Verdict.FAULT), seen
    assert words in found.text
    assert bool(found.remedy) == (verdict is not Verdict.OK)


async def test_a_certificate_of_no_known_version_is_told(tmp_path: Path) -> None:
    own = certificate(tmp_path, (-30, 60))
    der = bytearray(ssl.PEM_cert_to_DER_cert(own.read_text().partition("-----BEGIN PRIVATE")[0]))
    der[der.index(b"\xa0\x03\x02\x01\x02") + 4] = 7
    own.write_text(ssl.DER_cert_to_PEM_cert(bytes(der)) + own.read_text().partition("-----END CERTIFICATE-----\n")[2])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own)
    with serving(context=context) as port:
        seen = await probe(f"https://localhost:{port}", UNCHECKED)
    assert seen.problem == "cannot be reached (it answers in no form that is known)"


async def test_a_backend_that_answers_and_what_time_it_has() -> None:
    class Slow(Backend):
        ahead = 600.0

    with serving(Slow) as port:
        seen = await probe(f"http://127.0.0.1:{port}")
    assert (seen.problem, seen.local, seen.encrypted) == ("", True, False)
    assert seen.offset is not None
    assert -602 < seen.offset < -597
    assert backend.check_certificate(seen).verdict is Verdict.OK
    away = Probe("http://192.168.1.10:8700", "192.168.1.10:8700")
    assert backend.check_certificate(away).verdict is Verdict.WARNING


async def test_what_is_no_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Backend):
        kind = "text/html"

    with serving(Other) as port:
        assert (await probe(f"http://127.0.0.1:{port}")).problem == "answers, but is no SPOT backend"
        assert (await probe(f"http://127.0.0.1:{port}/elsewhere")).problem == "answers, but is no SPOT backend"
        assert (await probe(f"https://127.0.0.1:{port}")).problem == "does not speak TLS"
    for url in ("", "spot.example", "ftp://spot.example", "http://[::", "http://a:99999"):
        assert "is not a URL" in (await probe(url)).problem
    for url in (joined.NOWHERE, "http://a..b", "http://no-such-host.invalid"):
        assert "cannot be reached" in (await probe(url)).problem


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n", b"x" * 100_000, b"\xff\xfe\r\n\r\n", None])
async def test_whoever_answers_strangely_or_never(monkeypatch: pytest.MonkeyPatch, said: bytes | None) -> None:
    monkeypatch.setattr(probing, "PATIENCE", 0.3)
    over = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if said is None:
            await over.wait()
        else:
            writer.write(said)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1")
    seen = await probe(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert seen.problem
    over.set()
    server.close()
    await asyncio.sleep(0.01)


def test_proxies() -> None:
    known = Joined("a", (("p", "q"), ("r",)))
    well = {url: Probe(url, url) for url in "apqr"}

    def verdict(*silent: str) -> Verdict:
        probes = [Probe(url, url, problem="is silent") if url in silent else one for url, one in well.items()]
        return named(backend.check_backend(known, probes), "proxies").verdict

    assert verdict() is Verdict.OK
    assert verdict("p") is Verdict.WARNING
    assert verdict("r") is Verdict.FAULT, "keys are compared over two groups"
    assert verdict("p", "q", "r") is Verdict.FAULT
