"""What became of codes and invitations that were handed out, and that a withdrawn one is worth nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from backend_stub.authority import codes
from protocol import credential
from protocol.errors import CodeRefused, Misuse

if TYPE_CHECKING:
    from tests.backend_stub.support import ManualClock, World


async def test_what_became_of_codes(there: World, clock: ManualClock) -> None:
    left, right = await there.pair()
    contact = await there.meet(left, right)
    used, tried, withdrawn, left_over = [await there.code() for _ in range(4)]
    assert (await there.declare(left, used, [contact])).accepted
    assert (await there.declare(right, tried, [contact])).problem == "contacts"
    async with there.office() as office:
        await codes.withdraw_code(office, withdrawn)
        clock.pass_by(seconds=1)
        found = {one.reference: one for one in await codes.codes(office)}
        facts = [found[codes.reference_of(one)] for one in (used, tried, withdrawn, left_over)]
        assert [one.state for one in facts] == ["used", "open", "over", "open"]
        assert [one.attempts for one in facts] == [1, 1, 0, 0]
        for one in (used, withdrawn):
            with pytest.raises(Misuse, match="nothing to withdraw"):
                await codes.withdraw_code(office, one)
        clock.pass_by(days=3)
        assert {one.state for one in await codes.codes(office)} == {"used", "over"}
    receipt = await there.declare(right, withdrawn, [contact])
    assert (receipt.accepted, receipt.problem) == (False, "code-expired")


async def test_what_became_of_invitations(there: World, clock: ManualClock) -> None:
    await there.user()
    invitation = await there.invite()
    async with there.office() as office:
        assert sorted(one.state for one in await codes.invitations(office)) == ["open", "used"]
        await codes.withdraw_invitation(office, codes.reference_of(invitation))
        clock.pass_by(seconds=1)
        assert sorted(one.state for one in await codes.invitations(office)) == ["over", "used"]
    body = await there.join_body(invitation, credential.new_secret(lambda size: bytes(range(1, size + 1))))
    with pytest.raises(CodeRefused):
        await there.send_join(body)
