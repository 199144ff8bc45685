"""Keys at rest: sealed under a passphrase, changed and plain again, and nothing of it lost or told."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from backend_stub.authority import openings
from backend_stub.keyring import keys, passphrases, sealing
from protocol import messages
from protocol.errors import Misuse, StorageError
from tests.backend_stub.support import NOTHING

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS = {"chain": os.urandom(32), "issuer-1": os.urandom(64), "tls.key": os.urandom(1700)}


RECORD = messages.ContactRecord(
    ccm=bytes(32), day=0, nullifier=bytes(48), server=1, partial=bytes(48), group="one", proof=NOTHING.show
)


@pytest.fixture(autouse=True)
def locked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Quick scrypt, and nothing unlocked."""
    monkeypatch.setattr(sealing, "WORK", 4)
    monkeypatch.delenv(passphrases.VARIABLE, raising=False)
    sealing.forget()
    yield
    sealing.forget()


@pytest.fixture
def part(tmp_path: Path) -> Path:
    """A part with plain keys."""
    home = tmp_path / "authority"
    home.mkdir()
    for name, secret in SECRETS.items():
        keys.write(home, name, secret)
    return home


def giving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str) -> None:
    file = tmp_path / "passphrase"
    file.write_text(passphrase + "\n")
    file.chmod(0o600)
    monkeypatch.setenv(passphrases.VARIABLE, str(file))
    sealing.forget()


def everything(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file())


def all_there(part: Path) -> bool:
    return all(keys.read(part, name) == secret for name, secret in SECRETS.items())


def test_keys_are_sealed_changed_and_plain_again(part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = everything(part)
    assert all(secret in plain for secret in SECRETS.values())
    for passphrase in ("correct horse", "battery staple"):
        sealing.seal_all(part, passphrase.encode())
        assert all_there(part)
        giving(tmp_path, monkeypatch, passphrase)
        assert all_there(part)
        assert not any(secret in everything(part) for secret in SECRETS.values())
    giving(tmp_path, monkeypatch, "correct horse")
    with pytest.raises(sealing.Locked, match="is not the passphrase"):
        keys.read(part, "chain")
    giving(tmp_path, monkeypatch, "battery staple")
    fresh = os.urandom(32)
    keys.write(part, "chain-2", fresh)
    assert fresh not in everything(part)
    assert keys.read(part, "chain-2") == fresh
    sealing.unseal_all(part)
    sealing.forget()
    assert all_there(part)
    assert sorted(sealing.names(part)) == sorted([*SECRETS, "chain-2"])


def test_no_other_can_read_any_of_it(part: Path) -> None:
    sealing.seal_all(part, b"correct horse")
    assert part.joinpath("keys").stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in part.joinpath("keys").iterdir()} == {0o600}


@pytest.mark.parametrize("sealed", [False, True])
def test_a_key_open_to_others_is_refused_with_what_to_type(part: Path, sealed: bool) -> None:
    if sealed:
        sealing.seal_all(part, b"correct horse")
    file = part / "keys" / "chain"
    for mode in (0o640, 0o604):
        file.chmod(mode)
        with pytest.raises(StorageError, match=f"chmod 600 {file}"):
            keys.read(part, "chain")


def test_a_passphrase_file_open_to_others_is_refused(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealing.seal_all(part, b"correct horse")
    giving(tmp_path, monkeypatch, "correct horse")
    (tmp_path / "passphrase").chmod(0o644)
    with pytest.raises(StorageError, match="chmod 600"):
        keys.read(part, "chain")


def test_without_a_passphrase_it_says_where_one_can_come_from(part: Path) -> None:
    sealing.seal_all(part, b"correct horse")
    sealing.forget()
    with pytest.raises(sealing.Locked, match=passphrases.VARIABLE) as caught:
        keys.read(part, "chain")
    assert caught.value.exit_code == 34
    assert passphrases.CREDENTIAL in caught.value.text


def test_a_systemd_credential_comes_first(part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealing.seal_all(part, b"correct horse")
    giving(tmp_path, monkeypatch, "something else")
    (tmp_path / "credentials").mkdir()
    (tmp_path / "credentials" / passphrases.CREDENTIAL).write_text("correct horse")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    assert all_there(part)


@pytest.mark.parametrize("passphrase", ["short", "x" * 5000])
def test_passphrases_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str) -> None:
    giving(tmp_path, monkeypatch, passphrase)
    with pytest.raises(Misuse, match="8 characters or more"):
        passphrases.from_file(tmp_path / "passphrase")


@given(data=st.data())
@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_altered_byte_and_no_cut_goes_unnoticed(part: Path, data: st.DataObject) -> None:
    sealing.seal_all(part, b"correct horse")
    file = part / "keys" / data.draw(st.sampled_from([*SECRETS, sealing.LOCK]))
    whole = file.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    altered = whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :]
    try:
        for broken in (altered, whole[:at]):
            file.write_bytes(broken)
            sealing.forget()
            passphrases._given.append(bytearray(b"correct horse"))
            name = "chain" if file.name == sealing.LOCK else file.name
            with pytest.raises(StorageError):
                keys.read(part, name)
    finally:
        file.write_bytes(whole)
        passphrases._given[:] = [bytearray(b"correct horse")]


def test_a_key_under_another_name_or_of_another_part_is_refused(part: Path, tmp_path: Path) -> None:
    other = tmp_path / "server"
    other.mkdir()
    keys.write(other, "chain", os.urandom(32))
    for one in (part, other):
        sealing.seal_all(one, b"correct horse")
    (part / "keys" / "chain-2").write_bytes((part / "keys" / "chain").read_bytes())
    (part / "keys" / "chain-3").write_bytes((other / "keys" / "chain").read_bytes())
    for file in part.joinpath("keys").iterdir():
        file.chmod(0o600)
    for name in ("chain-2", "chain-3"):
        with pytest.raises(StorageError, match="damaged, or not of this part"):
            keys.read(part, name)


def test_a_lost_lock_is_said(part: Path) -> None:
    sealing.seal_all(part, b"correct horse")
    (part / "keys" / sealing.LOCK).unlink()
    with pytest.raises(StorageError, match="lock is missing"):
        keys.read(part, "chain")


KILLED = """
import os, sys
from pathlib import Path
from backend_stub.keyring import sealing

sealing.WORK = 4
part, step, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
real = Path.replace

def counting(self, target):
    global left
    if left == 0:
        os.kill(os.getpid(), 9)
    left -= 1
    return real(self, target)

Path.replace = counting
sealing.unseal_all(part) if step == "remove" else sealing.seal_all(part, b"battery staple")
"""


@pytest.mark.parametrize("step", ["set", "change", "remove"])
def test_killed_at_any_point_nothing_is_lost(
    part: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    if step != "set":
        sealing.seal_all(part, b"correct horse")
    for writes in range(len(SECRETS) + 2):
        giving(tmp_path, monkeypatch, "correct horse" if step != "set" else "battery staple")
        done = subprocess.run([sys.executable, "-c", KILLED, part, step, str(writes)], check=False)
        if done.returncode == 0:
            break
        assert done.returncode == -9
        monkeypatch.delenv(passphrases.VARIABLE)
        for passphrase in (b"correct horse", b"battery staple"):
            sealing.forget()
            passphrases._given.append(bytearray(passphrase))
            with suppress(sealing.Locked):
                sealing.unlock_all([part])
                break
        else:
            pytest.fail("neither the old passphrase nor the new one opens it")
        sealing.seal_all(part, b"correct horse")
        assert all_there(part)
        assert not any(secret in everything(part) for secret in SECRETS.values())
        if step == "set":
            sealing.unseal_all(part)
    else:
        pytest.fail("it never came to its end")


# --- the command line ---


def command(
    *arguments: object, passphrase: str | None = None, descriptors: tuple[int, ...] = ()
) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if name != passphrases.VARIABLE}
    if passphrase is not None:
        environment[passphrases.VARIABLE] = passphrase
    return subprocess.Popen(
        [sys.executable, "-c", "from backend_stub.cli import main; main()", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        pass_fds=descriptors,
    )


def run(*arguments: object, passphrase: str | None = None) -> tuple[int, str, str]:
    with command(*arguments, passphrase=passphrase) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_a_sealed_backend_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made with a passphrase, run with it from a file descriptor, and nothing of the keys is anywhere to be seen."""
    giving(tmp_path, monkeypatch, "correct horse")
    home, file = tmp_path / "demo", tmp_path / "passphrase"
    code, out, err = run("init", home, "--port", 0, "--proxies-per-group", 1, "--passphrase-file", file)
    assert code == 0, err
    assert "not encrypted" not in out
    code, out, err = run("up", home)
    assert (code, err.count("\n")) == (34, 1)
    assert "SPOT_BACKEND_PASSPHRASE_FILE" in err
    code, out, err = run("status", home)
    assert code == 0
    assert "not encrypted" not in out
    assert "encrypted" in out
    assert run("invite", home)[0] == 0, "it takes no key"
    reading, writing = os.pipe()
    os.write(writing, b"correct horse\n")
    os.close(writing)
    with command("up", home, passphrase=f"/dev/fd/{reading}", descriptors=(reading,)) as process:
        os.close(reading)
        try:
            assert process.stdout
            assert "the authority is at" in process.stdout.readline()
            visible = b"".join(Path(f"/proc/{process.pid}/{what}").read_bytes() for what in ("cmdline", "environ"))
        finally:
            process.terminate()
            out, err = process.communicate(timeout=30)
    parts = list(home.iterdir())
    there = [(part, name) for part in parts for name in sealing.names(part)]
    assert len(there) >= 8
    found = [keys.read(part, name) for part, name in there]
    for secret in (*found, b"correct horse"):
        for where in (visible, everything(home), (out + err).encode()):
            assert secret not in where
            assert secret.hex().encode() not in where


def test_the_passphrase_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, file = tmp_path / "demo", tmp_path / "passphrase"
    code, out, _ = run("init", home, "--port", 0, "--groups", 1)
    assert "The keys are not encrypted" in out
    assert "not encrypted" in run("status", home)[1]
    giving(tmp_path, monkeypatch, "correct horse")
    code, out, err = run("passphrase", home / "server", "--passphrase-file", file)
    assert code == 0, err
    assert "are sealed" in out
    assert not sealing.has_lock(home / "authority")
    code, _, err = run("passphrase", home, "--remove")
    assert (code, err.count("\n")) == (34, 1)
    assert run("passphrase", home, "--remove", passphrase=str(file))[0] == 0
    assert not sealing.has_lock(home / "server")
    code, _, err = run("passphrase", home)
    assert (code, err.count("\n")) == (2, 1)
    assert "--passphrase-file" in err
    with command("server", "run", home / "server") as process:
        try:
            deadline = time.monotonic() + 30
            while (found := run("passphrase", home, "--passphrase-file", file))[0] == 0:
                assert time.monotonic() < deadline, "it never saw that the server runs"
                assert run("passphrase", home, "--remove", passphrase=str(file))[0] == 0
            assert found[0] == 31
            assert "server runs" in found[2]
        finally:
            process.kill()


def test_typed_at_a_terminal(part: Path) -> None:
    """One question for all parts, and another try after a wrong answer."""
    other = part.with_name("server")
    other.mkdir()
    keys.write(other, "server", os.urandom(32))
    for one in (part, other):
        sealing.seal_all(one, b"correct horse")
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover - another process
        program = "import sys; from pathlib import Path; from backend_stub.keyring import sealing; "
        program += "sealing.unlock_all(map(Path, sys.argv[1:])); print('open', len(sealing._open))"
        os.execv(sys.executable, [sys.executable, "-c", program, str(part), str(other)])
    said = b""
    for answer in (b"wrong horse\n", b"correct horse\n"):
        while said.count(b"Passphrase of") < (1 if answer.startswith(b"w") else 2):
            said += os.read(terminal, 1000)
        os.write(terminal, answer)
    while b"open 2" not in said:
        said += os.read(terminal, 1000)
    os.waitpid(child, 0)
    os.close(terminal)
    assert b"horse" not in said
    assert said.count(b"Passphrase of") == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_written_by_root_belongs_to_the_folders_owner(part: Path) -> None:
    """As with sudo: else the part could not read its own key."""
    for folder in (part, part / "keys"):
        os.chown(folder, 4321, 4322)
    keys.write(part, "seal-2", b"secret")
    openings._note(part, 0.0, RECORD, "somebody", "a reason")
    for file in (part / "keys" / "seal-2", part / openings.LOG):
        assert (file.stat().st_uid, file.stat().st_gid, file.stat().st_mode & 0o777) == (4321, 4322, 0o600)
    os.seteuid(4321 + 1)
    try:
        with pytest.raises(StorageError, match="chown"):
            keys.read(part, "seal-2")
    finally:
        os.seteuid(0)
