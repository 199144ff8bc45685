"""How a proxy comes into its group (*Join_ProxyGr*), in three messages of which none holds a secret.

The group manager invites, the proxy asks, the group manager admits. On one machine all three pass in one command; to a
proxy elsewhere they travel as files. The proxy's secret key is drawn in its own folder and never leaves it.
"""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, TypeVar

import msgspec

from backend_stub import settings
from backend_stub.keyring import keys
from backend_stub.network import certificates
from backend_stub.settings import Hash, ProxySettings
from protocol import credential
from protocol.credential import Holder
from protocol.errors import Malformed, Misuse, StorageError
from protocol.messages import Bytes32, Certificate, Issued, IssuerPublic, JoinRequest, Message, Name, Url

if TYPE_CHECKING:
    from pathlib import Path

    from protocol.curve import Curve
    from protocol.randomness import Random

INVITATION = "invitation.json"
FILE_LIMIT = 1 << 16  # bytes


class Invitation(Message, frozen=True, kw_only=True):
    """From the group manager: what a proxy must know to ask, and later to work. All of it is public.

    nonce: of use once; key: the group's; url: where agents will reach the proxy; authority, genesis, server, clock:
    for the proxy's settings; roots: the certificates (DER) that it trusts, none: TLS is not spoken.
    """

    name: Name
    group: Name
    url: Url
    nonce: Bytes32
    key: IssuerPublic
    authority: Url
    genesis: Hash
    server: Url
    clock: str = ""
    roots: tuple[Certificate, ...] = ()


class Request(Message, frozen=True, kw_only=True):
    """From the proxy: T, T~ and the proof of its secret key; and the key of its certificate, where TLS is spoken.

    nonce: the invitation's; the proof is for `bound(nonce, tls)`.
    """

    name: Name
    nonce: Bytes32
    join: JoinRequest
    tls: bytes = b""


class Admission(Message, frozen=True, kw_only=True):
    """From the group manager: the credential and the certificate, worthless without their secret keys."""

    name: Name
    issued: Issued
    certificate: bytes = b""


F = TypeVar("F", Invitation, Request, Admission)


def read_file(kind: type[F], file: Path) -> F:
    """What a file holds. Raises Misuse."""
    try:
        with file.open("rb") as opened:
            return msgspec.json.decode(opened.read(FILE_LIMIT), type=kind)
    except OSError as error:
        raise Misuse(f"{file} cannot be read ({error.strerror}); name the {kind.__name__.lower()} file") from None
    except (ValueError, RecursionError):
        raise Misuse(f"{file} is no {kind.__name__.lower()} of a proxy; copy it again, whole") from None


def write_file(message: Invitation | Request | Admission, file: Path) -> None:
    """Write it, for somebody else to read. Raises StorageError."""
    try:
        file.write_bytes(msgspec.json.format(msgspec.json.encode(message)) + b"\n")
    except OSError as error:
        raise StorageError(f"{file} cannot be written ({error.strerror}); choose another place") from None


def proxy_settings(invited: Invitation, host: str, port: int) -> ProxySettings:
    """The settings of a proxy that was invited, listening here."""
    return ProxySettings(
        host=host,
        port=port,
        clock=invited.clock,
        authority=(invited.authority,),
        genesis=invited.genesis,
        name=invited.name,
        group=invited.group,
        server=(invited.server,),
        tls=bool(invited.roots),
    )


def bound(nonce: bytes, tls: bytes) -> bytes:
    """The nonce that a join answers: nobody else can have another TLS key certified by a request, now or later."""
    return hashlib.sha256(nonce + tls).digest()


def ask(curve: Curve, random: Random, home: Path, invited: Invitation, told: ProxySettings) -> Request:
    """Make the proxy's folder, with a secret key that stays there. Raises Misuse where there is something already."""
    if home.exists():
        raise Misuse(f"{home} exists; choose another folder, or remove this one if the proxy never was admitted")
    key = credential.read_issuer(curve, Holder.PROXY, invited.key)
    secret = credential.new_secret(random)
    try:
        keys.make_private(home)
        settings.write(home, told)
        write_file(invited, home / INVITATION)
        keys.write_joining(home, secret)
        tls = b""
        if invited.roots:
            certificates.write_roots(home, invited.roots)
            tls = certificates.new_key(random, home)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    join = credential.join(curve, random, secret, key, bound(invited.nonce, tls))
    return Request(name=invited.name, nonce=invited.nonce, join=join, tls=tls)


def accept(curve: Curve, home: Path, admitted: Admission) -> None:
    """Turn the proxy's secret key into its credential; from then on it can run. Raises Misuse, Refused.

    A later admission brings a fresh certificate only.
    """
    invited = read_file(Invitation, home / INVITATION)
    if admitted.name != invited.name:
        raise Misuse(f"this admission is for {admitted.name}, and {home} is {invited.name}'s; use the other one")
    if admitted.certificate:
        certificates.write(home, admitted.certificate)
        if not keys.has_joining(home):
            return
    key = credential.read_issuer(curve, Holder.PROXY, invited.key)
    try:
        own = credential.accept(curve, keys.read_joining(home), key, admitted.issued)
    except Malformed as error:
        raise Misuse(error.text) from None
    keys.write_credential(home, own)
    keys.remove_joining(home)
