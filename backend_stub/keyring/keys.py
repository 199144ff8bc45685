"""Secret keys: one file each, 0600, in the 0700 folder `keys` of the part that owns them; `sealing` seals them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from backend_stub.keyring import sealing
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


def check(folder: Path, *kinds: str) -> None:
    """Read all keys there are; one of each of these kinds has to be.

    Raises StorageError, which is better known at the start than later.
    """
    missing = [kind for kind in kinds if not others(folder, kind, "")]
    for name in (*missing, *sealing.names(folder)):
        read(folder, name)


def name_of(folder: Path, kind: str, public: bytes) -> str:
    """The name of the secret key of this kind that belongs to this public key.

    The first of a kind is named for the kind alone; what comes after it, also for its public key, so that two who make
    a key at once do not overwrite each other's.
    """
    named = _named(kind, public)
    return named if named in sealing.names(folder) else kind


def _named(kind: str, public: bytes) -> str:
    return f"{kind}-{hashlib.sha256(public).hexdigest()[:16]}"


def write_next(folder: Path, kind: str, public: bytes, secret: bytes) -> None:
    """Write the secret of a public key that nobody has heard of yet. Raises StorageError."""
    write(folder, _named(kind, public), secret)


def destroy(folder: Path, name: str) -> bool:
    """Delete a key for good; whether it was there. Raises StorageError."""
    file = folder / FOLDER / name
    try:
        there = file.exists()
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"the key {file} cannot be deleted ({error.strerror}); mend its folder") from None
    return there


def others(folder: Path, kind: str, name: str) -> list[str]:
    """The names of all keys of this kind but the one of this name."""
    return [one for one in sealing.names(folder) if one != name and (one == kind or one.startswith(f"{kind}-"))]


def _missing(folder: Path, kind: str) -> StorageError:
    return StorageError(f"{folder / FOLDER} has no {kind} key for what the parameters say; bring it back from a backup")


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
    write(folder, name, issuer_bytes(secret))


def issuer_bytes(secret: IssuerSecret) -> bytes:
    """X and y of an issuer, as they are kept."""
    return encode_scalar(secret.x) + encode_scalar(secret.y)


def read_issuer(folder: Path, name: str) -> IssuerSecret:
    """X and y of an issuer. Raises StorageError."""
    x, y = _scalars(folder, name, read(folder, name, 2 * SCALAR_SIZE))
    return IssuerSecret(x, y)


def write_server(folder: Path, secret: ServerSecret) -> None:
    """Write ys of the server."""
    write(folder, "server", encode_scalar(secret.y))


def read_server(folder: Path, name: str = "server") -> ServerSecret:
    """Ys of the server. Raises StorageError."""
    return ServerSecret(*_scalars(folder, name, read(folder, name, SCALAR_SIZE)))


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


def write_credential(folder: Path, credential: Credential, group: bytes = b"") -> None:
    """Write a proxy's credential and its secret key. group: the group's public key, for all but the first."""
    secret = encode_scalar(credential.secret) + credential.s1.encode() + credential.s2.encode()
    write(folder, _named("credential", group) if group else "credential", secret)


def read_credential(folder: Path, curve: Curve, name: str = "credential") -> Credential:
    """A proxy's credential. Raises StorageError."""
    data = read(folder, name, SCALAR_SIZE + 2 * G1_SIZE)
    (secret,) = _scalars(folder, name, data[:SCALAR_SIZE])
    try:
        s1 = curve.decode_g1(data[SCALAR_SIZE:-G1_SIZE], "S1")
        s2 = curve.decode_g1(data[-G1_SIZE:], "S2")
    except Malformed:
        raise StorageError(f"the key {folder / FOLDER / name} is damaged; bring it back from a backup") from None
    return Credential(secret, s1, s2)


def read_signing(folder: Path, kind: str, public: bytes) -> Ed25519PrivateKey:
    """The authority's key `chain` or `publication` that belongs to this public key. Raises StorageError."""
    key = Ed25519PrivateKey.from_private_bytes(read(folder, name_of(folder, kind, public), 32))
    if key.public_key().public_bytes_raw() != public:
        raise _missing(folder, kind)
    return key


def read_seal(folder: Path, public: bytes) -> SealSecret:
    """The authority's key that reports are sealed to under this public key. Raises StorageError."""
    secret = read_seal_secret(read(folder, name_of(folder, "seal", public), SEAL_SEED))
    if secret.public != public:
        raise _missing(folder, "seal")
    return secret
