"""Which of its keys the server or a proxy signs with: those that the parameters name. Old ones are destroyed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from backend_stub.keyring import keys
from protocol import parameters
from protocol.errors import StorageError, Unreachable

if TYPE_CHECKING:
    from pathlib import Path

    from backend_stub.clock import Clock
    from backend_stub.following.parameters import Known
    from protocol.contact import ServerSecret
    from protocol.credential import Credential
    from protocol.curve import Curve
    from protocol.messages import ServerKey

log = logging.getLogger(__name__)

SERVER = "server"
CREDENTIAL = "credential"
GRACE = 3600.0  # s that the server keeps a key it has replaced: other processes of it may be a little behind


class ServerKeys:
    """The server's secrets, by the parameters."""

    def __init__(self, folder: Path, curve: Curve, clock: Clock) -> None:
        self._folder = folder
        self._curve = curve
        self._clock = clock
        self._read: dict[bytes, ServerSecret] = {}

    def current(self, known: Known) -> tuple[int, ServerSecret]:
        """Number and secret of the key to sign with now. Raises Unreachable where it is not here."""
        key = parameters.server_key_at(known.parameters, self._clock.now())
        if key.key not in self._read:
            self._read = {key.key: self._secret(key)}
        return key.number, self._read[key.key]

    def _secret(self, key: ServerKey) -> ServerSecret:
        try:
            secret = keys.read_server(self._folder, keys.name_of(self._folder, SERVER, key.key))
        except StorageError as error:
            log.warning("no contact is signed: %s", error.text)
            raise Unreachable("the server cannot sign now; try again later") from None
        if (secret.y * self._curve.g2).encode() != key.key:
            log.warning("no contact is signed: the secret of server key %d is not in %s", key.number, self._folder)
            raise Unreachable("the server cannot sign now; try again later")
        return secret

    def tidy(self, known: Known) -> None:
        """Destroy the secrets of keys that were replaced."""
        begun = parameters.server_key_at(known.parameters, self._clock.now() - GRACE)
        for key in known.parameters.server_keys:
            name = keys.name_of(self._folder, SERVER, key.key)
            current = keys.name_of(self._folder, SERVER, begun.key)
            if key.from_time < begun.from_time and name != current and keys.destroy(self._folder, name):
                log.info("the secret of server key %d is destroyed", key.number)


class Membership:
    """A proxy's credential for its group's newest key that it has one for."""

    def __init__(self, folder: Path, group: str, curve: Curve) -> None:
        self._folder = folder
        self._group = group
        self._curve = curve
        self._known: Known | None = None
        self._own: tuple[str, Credential] | None = None

    def current(self, known: Known) -> tuple[str, Credential]:
        """Group and credential to sign with; looked for anew with every new parameters. Raises StorageError."""
        if self._own is None or known is not self._known:
            self._own, self._known = self._find(known), known
        return self._own

    def _find(self, known: Known) -> tuple[str, Credential]:
        for name, key in reversed(known.keys.signers.groups.items()):
            file = keys.name_of(self._folder, CREDENTIAL, key.encoded)
            if file != CREDENTIAL:
                own = keys.read_credential(self._folder, self._curve, file)
                for old in keys.others(self._folder, CREDENTIAL, file):
                    keys.destroy(self._folder, old)
                    log.info("a replaced credential is destroyed")
                return name, own
        return self._group, keys.read_credential(self._folder, self._curve)
