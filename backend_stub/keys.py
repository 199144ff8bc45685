"""Secret keys: one file each, 0600, in the 0700 folder `keys` of the part that owns them; `sealing` seals them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_stub import sealing
from protocol.contact import ServerSecret
from protocol.credential import Credential, IssuerSecret
from protocol.curve import G1_SIZE, SCALAR_SIZE, Curve, decode_scalar, encode_scalar
from protocol.declaration import SealSecret, read_seal_secret
from protocol.errors import Malformed, StorageError

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = sealing.FOLDER
JOINING = "joining"
NONCE, NONCE_SIZE = "nonce", 32
SEAL_SEED = 96


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, and its parents."""
    folder.mkdir(mode=0o700, parents=True)


def write(folder: Path, name: str, secret: bytes) -> None:
    """Write one key of the part in this folder; it is there whole and private, or not at all. Raises StorageError."""
    sealing.write(folder, name, secret)


def read(folder: Path, name: str, size: int | None = None) -> bytes:
    """One key of the part in this folder, of `size` bytes if that is known. Raises StorageError."""
    secret = sealing.read(folder, name)
    if size is not None and len(secret) != size:
        file = folder / FOLDER / name
        raise StorageError(f"the key {file} has {len(secret)} bytes instead of {size}; bring it back from a backup")
    return secret


def check(folder: Path, *names: str) -> None:
    """Read these keys, and all others there are. Raises StorageError, which is better known at the start than later."""
    for name in {*names, *sealing.names(folder)}:
        read(folder, name)


def _scalars(folder: Path, name: str, data: bytes) -> list[int]:
    try:
        return [decode_scalar(data[at : at + SCALAR_SIZE], "it") for at in range(0, len(data), SCALAR_SIZE)]
    except Malformed:
        raise StorageError(f"the key {folder / FOLDER / name} is damaged; bring it back from a backup") from None


def issuer_file(number: int) -> str:
    """The name of the file of a user issuer's key."""
    return f"issuer-{number}"


def write_issuer(folder: Path, name: str, secret: IssuerSecret) -> None:
    """Write x and y of an issuer."""
    write(folder, name, encode_scalar(secret.x) + encode_scalar(secret.y))


def read_issuer(folder: Path, name: str) -> IssuerSecret:
    """X and y of an issuer. Raises StorageError."""
    x, y = _scalars(folder, name, read(folder, name, 2 * SCALAR_SIZE))
    return IssuerSecret(x, y)


def write_server(folder: Path, secret: ServerSecret) -> None:
    """Write ys of the server."""
    write(folder, "server", encode_scalar(secret.y))


def read_server(folder: Path) -> ServerSecret:
    """Ys of the server. Raises StorageError."""
    return ServerSecret(*_scalars(folder, "server", read(folder, "server", SCALAR_SIZE)))


def write_joining(folder: Path, secret: int) -> None:
    """Write the secret key of a proxy that is not admitted yet."""
    write(folder, JOINING, encode_scalar(secret))


def read_joining(folder: Path) -> int:
    """The secret key of a proxy that is not admitted yet. Raises StorageError."""
    (secret,) = _scalars(folder, JOINING, read(folder, JOINING, SCALAR_SIZE))
    return secret


def has_joining(folder: Path) -> bool:
    """Whether there is such a key."""
    return (folder / FOLDER / JOINING).exists()


def remove_joining(folder: Path) -> None:
    """Forget that key: it is in the credential now."""
    (folder / FOLDER / JOINING).unlink()


def write_credential(folder: Path, credential: Credential) -> None:
    """Write a proxy's credential and its secret key."""
    write(folder, "credential", encode_scalar(credential.secret) + credential.s1.encode() + credential.s2.encode())


def read_credential(folder: Path, curve: Curve) -> Credential:
    """A proxy's credential. Raises StorageError."""
    data = read(folder, "credential", SCALAR_SIZE + 2 * G1_SIZE)
    (secret,) = _scalars(folder, "credential", data[:SCALAR_SIZE])
    try:
        s1 = curve.decode_g1(data[SCALAR_SIZE:-G1_SIZE], "S1")
        s2 = curve.decode_g1(data[-G1_SIZE:], "S2")
    except Malformed:
        raise StorageError(
            f"the key {folder / FOLDER / 'credential'} is damaged; bring it back from a backup"
        ) from None
    return Credential(secret, s1, s2)


def read_signing(folder: Path, name: str) -> Ed25519PrivateKey:
    """The authority's signing key `chain` or `publication`. Raises StorageError."""
    return Ed25519PrivateKey.from_private_bytes(read(folder, name, 32))


def read_seal(folder: Path) -> SealSecret:
    """The authority's key that reports are sealed to. Raises StorageError."""
    return read_seal_secret(read(folder, "seal", SEAL_SEED))
