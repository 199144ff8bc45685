"""A device that has joined an authority, as its store keeps it, without an authority that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from agent import account
from agent.store import create_store
from backend_stub.operations.policy import LIMITS, ONSET, RISK
from protocol import declaration, messages, parameters
from protocol.curve import encode_scalar
from protocol.encounter import SECONDS_A_DAY
from scripts.benchmarks.world import DAY, GROUP, ISSUER, RANDOM, SERVER

if TYPE_CHECKING:
    from pathlib import Path

    from agent.store import Store
    from scripts.benchmarks.world import World

NOWHERE = "http://127.0.0.1:9"  # where nobody answers (the discard port)


def join(folder: Path, world: World, proxy: str = NOWHERE, limits: messages.Limits = LIMITS) -> Store:
    """The store of this world's user, whose only proxy is at this URL, under these limits."""
    store = create_store(folder, "file", RANDOM)
    key = Ed25519PrivateKey.generate()
    link = parameters.sign(key, _parameters(world, key, proxy, limits))
    trusted = parameters.begin(link)
    account.keep_trusted(store, trusted, link)
    secret, issued = world.user
    membership = account.Membership(
        url=proxy,
        genesis=trusted.head.hash,
        issuer=ISSUER,
        secret=encode_scalar(secret),
        invitation="",
        request=b"",
        issued=issued,
    )
    store.put(account.MEMBERSHIP, membership)
    return store


def _parameters(world: World, key: Ed25519PrivateKey, proxy: str, limits: messages.Limits) -> messages.Parameters:
    return messages.Parameters(
        number=0,
        previous=bytes(32),
        issued_at=DAY * SECONDS_A_DAY,
        valid_until=(DAY + 30) * SECONDS_A_DAY,
        authority="Bench",
        chain_key=key.public_key().public_bytes_raw(),
        publication_keys=(messages.PublicationKey(first=0, key=key.public_key().public_bytes_raw()),),
        seal_key=declaration.read_seal_secret(RANDOM(96)).public,
        server_keys=(messages.ServerKey(number=SERVER, from_time=0, key=world.server_key),),
        issuers=(messages.UserIssuer(number=ISSUER, from_day=DAY - 10, until_day=DAY + 30, key=world.users),),
        groups=(messages.ProxyGroup(name=GROUP, key=world.group, proxies=(proxy,)),),
        limits=limits,
        risk=RISK,
        onset=ONSET,
    )
