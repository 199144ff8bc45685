"""Certificates of a backend: its own root, and one for each part; `identity` shows them, `renewal` renews them.

The root's key stays with the health authority; its certificate is in the signed parameters, so that agents need no
other trust. A part's certificate names the hosts where it is reached, and a proxy's the URL that the parameters list:
by it the server knows registered proxies. TLS 1.3 only, and nothing that would tie one connection to another.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backend_stub.keyring import keys, sealing
from protocol.errors import Misuse, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backend_stub.settings import Settings
    from protocol.randomness import Random

CERTIFICATE = "certificate.pem"
ROOTS = "roots.pem"
ROOT_KEY, KEY, KEY_SIZE = "tls-root", "tls", 32
ROOT_DAYS = 3650
DAYS = 365
WARN_DAYS = 30
FILE_LIMIT = 1 << 20  # bytes
_EARLY = timedelta(hours=1)  # clocks differ
LOCAL = ("localhost", "127.0.0.1")


# --- making ---


def new_root(random: Random, authority: Path) -> bytes:
    """Make the root in the authority's folder; its certificate (DER)."""
    key = _new_key(random, authority, ROOT_KEY)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "SPOT backend")])
    usage = x509.KeyUsage(
        key_cert_sign=True,
        crl_sign=True,
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        _begun(name, name, key.public_key(), ROOT_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_roots(authority, [made.public_bytes(serialization.Encoding.DER)])
    return made.public_bytes(serialization.Encoding.DER)


def _begun(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLY)
        .not_valid_after(now + timedelta(days=days))
    )


def _new_key(random: Random, folder: Path, name: str) -> ec.EllipticCurvePrivateKey:
    # 16 bytes more than the group's order has, so that no scalar is likelier than another.
    scalar = int.from_bytes(random(KEY_SIZE + 16), "big") % (_ORDER - 1) + 1
    keys.write(folder, name, scalar.to_bytes(KEY_SIZE, "big"))
    return ec.derive_private_key(scalar, ec.SECP256R1())


_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def read_key(folder: Path, name: str) -> ec.EllipticCurvePrivateKey:
    """A key that is kept in this folder. Raises StorageError."""
    return ec.derive_private_key(int.from_bytes(keys.read(folder, name, KEY_SIZE), "big"), ec.SECP256R1())


def new_key(random: Random, folder: Path) -> bytes:
    """Make a part's key in its folder; its public half (SubjectPublicKeyInfo, DER), for `issue`."""
    public = _new_key(random, folder, KEY).public_key()
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def issue(authority: Path, public: bytes, hosts: Iterable[str], proxy_url: str = "") -> bytes:
    """A certificate (DER) for this key, these hosts, and a proxy's URL in the parameters. Raises Misuse."""
    try:
        key = serialization.load_der_public_key(public)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Misuse("this is no P-256 key for a certificate; make the request anew")
    root = roots(authority)[0]
    names: list[x509.GeneralName] = [_host(one) for one in dict.fromkeys((*hosts, *LOCAL)) if one]
    if proxy_url:
        names.append(x509.UniformResourceIdentifier(proxy_url))
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(_p256(root))
    made = (
        _begun(x509.Name([]), root.subject, key, DAYS)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(identifier, critical=False)
        .sign(read_key(authority, ROOT_KEY), hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def _p256(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise StorageError("the root's certificate has another kind of key; bring it back from a backup")
    return key


def _host(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def equip(random: Random, authority: Path, part: Path, hosts: Iterable[str], proxy_url: str = "") -> None:
    """Give a part of the same backend its key and its certificate."""
    write(part, issue(authority, new_key(random, part), hosts, proxy_url))
    write_roots(part, [one.public_bytes(serialization.Encoding.DER) for one in roots(authority)])


def hosts_of(told: Settings, url: str) -> tuple[str, ...]:
    """The hosts by which a part with these settings is reached, here and at its public URL."""
    return (told.host, urlsplit(url).hostname or "")


# --- keeping ---


def write(part: Path, certificate: bytes) -> None:
    """Keep a part's certificate (DER). Raises StorageError, Misuse for what is none."""
    _write(part / CERTIFICATE, [certificate])


def write_roots(part: Path, trusted: Iterable[bytes]) -> None:
    """Keep the certificates (DER) that a part trusts. Raises StorageError, Misuse for what is none."""
    _write(part / ROOTS, trusted)


def _write(file: Path, certificates: Iterable[bytes]) -> None:
    try:
        read = [x509.load_der_x509_certificate(one) for one in certificates]
    except (ValueError, x509.InvalidVersion):
        raise Misuse("what came for a certificate is none; have it sent again, whole") from None
    pem = b"".join(one.public_bytes(serialization.Encoding.PEM) for one in read)
    fresh = file.with_suffix(".new")
    try:
        # In a part's folder, which the part can write: whatever is there by this name is replaced, not written to.
        fresh.unlink(missing_ok=True)
        with fresh.open("xb") as opened:
            sealing.give_to_owner(opened.fileno(), file.parent)
            opened.write(pem)
        fresh.replace(file)
    except OSError as error:
        raise StorageError(f"{file} cannot be written ({error.strerror}); make room or mend its folder") from None


def roots(part: Path) -> list[x509.Certificate]:
    """The roots that a part trusts; none where it has no such file. Raises StorageError."""
    return _read(part / ROOTS)


def shown(part: Path) -> list[x509.Certificate]:
    """What a part shows, where it is not told of another; nothing where it speaks no TLS. Raises StorageError."""
    return _read(part / CERTIFICATE)


def _read(file: Path) -> list[x509.Certificate]:
    try:
        with open(file, "rb", opener=_without_waiting) as opened:
            return x509.load_pem_x509_certificates(opened.read(FILE_LIMIT))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, x509.InvalidVersion):
        raise StorageError(f"{file} cannot be read; bring it back from a backup") from None


def _without_waiting(file: str, flags: int) -> int:
    # The authority looks into the other parts' folders, where a pipe would hold it up for ever.
    opened = os.open(file, flags | getattr(os, "O_NONBLOCK", 0))
    if not stat.S_ISREG(os.fstat(opened).st_mode):
        os.close(opened)
        raise OSError(errno.EINVAL, "this is no file")
    return opened


def days_left(part: Path, told: Settings) -> float | None:
    """For how many days what a part shows is good; None where it shows nothing. Raises StorageError."""
    shown = _read(Path(told.certificate) if told.certificate else part / CERTIFICATE)
    if not told.tls or not shown:
        return None
    return (shown[0].not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1)


def verdict(part: Path, told: Settings) -> str:
    """For how long what a part shows is good, in words, with what to do if that is not long."""
    left = days_left(part, told)
    if left is None:
        return "none: it speaks no TLS"
    if left < WARN_DAYS:
        mend = "renew it" if told.certificate else "renew it: spot-backend certificates DIR --renew"
        return f"good for {left:.0f} days; {mend}" if left > 0 else f"has run out; {mend}"
    return f"good for {left:.0f} days"
