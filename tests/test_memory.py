"""What is in the memory of the running programs: what docs/threat-model.md says is wiped is not, the rest is.

Each search also has to find what must be there, or it looked in the wrong place.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from agent.sealing import KEY_FILE
from backend_stub.keyring import passphrases, sealing
from tests.agent import joined
from tests.agent.clocks import NOON
from tests.agent.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SPEED = 300  # an epoch of 900 s passes in 3 s
EPOCHS = 3
PHRASE = "correct horse battery staple"

pytestmark = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="reads /proc/PID/mem as root")


def memory_of(pid: int) -> bytes:
    """All of a process's memory that can be read and written, and so may hold a secret."""
    found = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:  # noqa: PTH123
        for line in maps:
            ends, rights, *_ = line.split()
            if rights.startswith("rw"):
                begin, end = (int(text, 16) for text in ends.split("-"))
                with contextlib.suppress(OSError):
                    memory.seek(begin)
                    found.append(memory.read(end - begin))
    return b"\n".join(found)


def no_dumps(pid: int) -> bool:
    """Whether a crash of this process leaves no memory behind."""
    import resource

    return resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)


@contextlib.contextmanager
def process(*command: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A program of ours, killed at the end."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=os.environ | environment, stdout=pipe, stderr=pipe, text=True
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def test_the_agent_has_the_current_epochs_secret_only(tmp_path: Path) -> None:
    store = joined.make_store(tmp_path / "data")
    joined.join(store)
    store.close()
    clock = f"{SPEED}@{time.time()}/{NOON}"
    command = ("-m", "tests.confiding", "--data-dir", str(tmp_path / "data"), "run", "--radio", "simulated")
    with process(*command, SPOT_CLOCK=clock, SPOT_KEY="file") as agent:
        assert agent.stdout
        told = [bytes.fromhex(agent.stdout.readline().removeprefix("epoch ")) for _ in range(EPOCHS)]
        time.sleep(1.0)  # more than the grace time
        memory = memory_of(agent.pid)
        assert no_dumps(agent.pid)
    # OpenSSL keeps it as it was drawn; whoever knows the middle knows all.
    found = [secret[1:31] in memory for secret in told]
    assert found == [False] * (EPOCHS - 1) + [True]
    key = (tmp_path / "data" / KEY_FILE).read_bytes()
    assert key.hex().encode() in memory or key in memory, "the store is open: its key is admitted to be there"


# --- the backend ---


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sealed backend; the passphrase is in the file `phrase` beside it."""
    folder = tmp_path_factory.mktemp("sealed") / "backend"
    phrase = folder.with_name("phrase")
    phrase.touch(mode=0o600)
    phrase.write_text(PHRASE + "\n")
    command = [sys.executable, "-m", "backend_stub", "init", str(folder), f"--passphrase-file={phrase}", "--port=0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def stretched(lock: bytes) -> bytes:
    """What scrypt makes of the passphrase for this lock."""
    rest = lock.removeprefix(sealing.LOCKED)
    return Scrypt(salt=rest[1:17], length=32, n=1 << rest[0], r=8, p=1).derive(PHRASE.encode())


PROGRAM = "from backend_stub.cli import main; main()"
CARELESS = "from backend_stub.keyring import memory; kept = []; memory.wipe = lambda one: kept.append(bytes(one)); "


@pytest.mark.parametrize("wiped", [True, False])
def test_the_backend_has_no_passphrase_once_it_is_unlocked(backend: Path, wiped: bool) -> None:
    server = backend / "server"
    program = PROGRAM if wiped else CARELESS + PROGRAM
    phrase = {passphrases.VARIABLE: str(backend.with_name("phrase"))}
    with process("-c", program, "server", "run", str(server), **phrase) as running:
        assert running.stderr
        assert "another part of the backend is away" in running.stderr.readline(), "it has unlocked its keys by then"
        memory = memory_of(running.pid)
        assert no_dumps(running.pid)
    assert (PHRASE.encode() in memory) is not wiped
    assert (stretched((server / "keys" / sealing.LOCK).read_bytes()) in memory) is not wiped
    lock_key = sealing._open_lock(server, PHRASE.encode())
    assert lock_key is not None
    assert lock_key in memory, "it opens keys with it all the time, so it is admitted to be there"
