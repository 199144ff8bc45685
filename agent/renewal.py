"""A credential for the next period, before the last one ends: asked for by itself, at a time that says nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from agent import account, transport
from protocol import credential, messages
from protocol.encounter import SECONDS_A_DAY, day_of
from protocol.errors import NotJoined, SpotError

if TYPE_CHECKING:
    import random as chances

    from agent.account import Account
    from agent.store import Store
    from protocol.curve import Curve
    from protocol.messages import UserIssuer

LOG = logging.getLogger(__name__)

PLAN = "renewal"
EARLY = 0.75  # of the time that is left is what the moment is drawn from; the rest is for trying again


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """When to ask for a credential of this issuer: seconds since 1970."""

    issuer: int
    at: float


def due(chance: chances.Random, store: Store, mine: Account, now: float) -> UserIssuer | None:
    """The issuer to renew under now; None where there is none, or its moment, drawn once, has not come."""
    begun = [one for one in mine.parameters.issuers if one.from_day <= day_of(now) <= one.until_day]
    later = max((one for one in begun if one.number > mine.issuer), key=lambda one: one.number, default=None)
    if later is None:
        return None
    plan = store.get(PLAN, Plan)
    last = max((one.until_day for one in mine.parameters.issuers if one.number == mine.issuer), default=0)
    end = (last + 1) * SECONDS_A_DAY
    # Later than the end: drawn by a clock that was ahead.
    if plan is None or plan.issuer != later.number or plan.at > end:
        left = max(end - now, 0)
        plan = Plan(issuer=later.number, at=now + chance.uniform(0, EARLY * left))
        store.put(PLAN, plan)
    return later if now >= plan.at else None


async def renew(curve: Curve, chance: chances.Random, store: Store, mine: Account, now: float) -> bool:
    """Ask for the next credential if it is time to; whether there is a new one. A failure is tried again."""
    later = due(chance, store, mine, now)
    if later is None:
        return False
    try:
        await _ask(curve, chance, store, mine, later.number)
    except SpotError as error:
        LOG.warning("the credential is not renewed yet: %s", error)
        return False
    return True


async def _ask(curve: Curve, chance: chances.Random, store: Store, mine: Account, number: int) -> None:
    issuer, secret = mine.keys.issuer(number), mine.credential.secret
    roots = mine.parameters.roots
    nonce = messages.decode(messages.Nonce, await transport.post(mine.url, messages.NONCE_PATH, b"", trust=roots)).nonce
    request = credential.join(curve, chance.randbytes, secret, issuer, nonce)
    asked = messages.encode(messages.Renewal(issuer=number, join=request))
    answer = await transport.post(mine.url, messages.RENEWAL_PATH, asked, trust=roots)
    issued = messages.decode(messages.Issued, answer)
    credential.accept(curve, secret, issuer, issued)
    membership = store.get(account.MEMBERSHIP, account.Membership)
    if membership is None:
        raise NotJoined("this agent was left while it renewed; nothing is kept")
    kept = {known: one for known, one in membership.renewed.items() if known in mine.keys.issuers}
    store.put(account.MEMBERSHIP, msgspec.structs.replace(membership, renewed={**kept, number: issued}))
