"""Proxies come and go while the backend runs, and their group manager can say which of them signed."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import TYPE_CHECKING

import msgspec
import pytest

from backend_stub.authority import admission, groups, openings, rotation
from backend_stub.proxy import service as proxy
from protocol import messages
from protocol.declaration import Reason
from protocol.errors import Misuse, Refused, SpotError
from tests.backend_stub.support import CURVE, Encounter, eventually
from tests.support import world_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from backend_stub.authority.admission import Invitation
    from backend_stub.authority.service import Authority
    from tests.backend_stub.support import ManualClock, User, World

NAME, GROUP = "far", "group-1"


async def invited(there: World, office: Authority, name: str = NAME, url: str = "") -> Invitation:
    url = url or f"http://127.0.0.1:{_port(there)}"
    return await groups.invite(office, name, GROUP, url, there.backend.server, there.backend.authority)


def _port(there: World) -> int:
    """One that nothing of the backend has."""
    urls = (there.backend.authority, there.backend.server, *there.proxies)
    return max(int(url.rpartition(":")[2]) for url in urls) + 1


def asked(home: Path, invitation: Invitation) -> admission.Request:
    told = admission.proxy_settings(invitation, "127.0.0.1", int(invitation.url.rpartition(":")[2]))
    told = msgspec.structs.replace(told, pool_wait=0.01)
    return admission.ask(CURVE, secrets.token_bytes, home, invitation, told)


@pytest.fixture
async def office(there: World) -> AsyncIterator[Authority]:
    async with there.office() as opened:
        yield opened


@pytest.mark.parametrize("kind", [admission.Invitation, admission.Request, admission.Admission])
@pytest.mark.parametrize("inside", [b"", b"[]", b'{"name": "\xff"}', b'{"x":' + b"[" * 4000], ids=range(4))
def test_a_file_that_is_none_of_the_three_is_told(tmp_path: Path, inside: bytes, kind: type[Invitation]) -> None:
    (tmp_path / "file").write_bytes(inside)
    with pytest.raises(Misuse, match="of a proxy"):
        admission.read_file(kind, tmp_path / "file")


async def test_a_proxy_from_elsewhere_is_admitted_and_extends(
    there: World, office: Authority, clock: ManualClock, tmp_path: Path
) -> None:
    """Three files between two machines; then agents find it in the parameters, and it signs for its group."""
    home, files = tmp_path / "far-away", tmp_path / "files"
    files.mkdir()
    admission.write_file(await invited(there, office), files / "invitation")
    invitation = admission.read_file(admission.Invitation, files / "invitation")
    admission.write_file(asked(home, invitation), files / "request")
    admission.write_file(
        await groups.admit(office, admission.read_file(admission.Request, files / "request")), files / "admission"
    )
    admission.accept(CURVE, home, admission.read_file(admission.Admission, files / "admission"))
    await there.follow(1)
    (group, _) = (await there.trusted()).parameters.groups
    assert group.proxies == (there.proxies[0], invitation.url)
    async with proxy.serving(home, clock):
        left, right = await there.pair()
        met = Encounter()
        await eventually(lambda: _submits(there, left, met, invitation.url))
        await there.submit(right, met, proxy=there.proxies[1])
        record = await there.submit(left, met, proxy=invitation.url)
    assert record is not None
    assert record.group == GROUP
    assert (await there.declare(left, await there.code(), [(met, record)])).accepted
    found = await groups.signer(office, record)
    assert found is not None
    assert (found.name, found.state) == (NAME, "member")


async def _submits(there: World, user: User, met: Encounter, url: str) -> bool:
    try:
        await there.submit(user, met, proxy=url)
    except SpotError:
        return False
    return True


async def test_no_secret_crosses(there: World, office: Authority, tmp_path: Path) -> None:
    """Neither sk nor the group's x and y are in what travels, in any form that JSON has for bytes."""
    home = tmp_path / "far-away"
    invitation = await invited(there, office)
    request = asked(home, invitation)
    secret = (home / "keys" / "joining").read_bytes()
    admitted = await groups.admit(office, request)
    group = (office.folder / "keys" / GROUP).read_bytes()
    travelled = b"".join(msgspec.json.encode(one) for one in (invitation, request, admitted))
    for hidden in (secret, group[:32], group[32:]):
        for start in range(3):
            inner = base64.b64encode(hidden[start:])[: 4 * ((32 - start) // 3)]
            assert inner not in travelled
    admission.accept(CURVE, home, admitted)
    assert not (home / "keys" / "joining").exists()
    assert (home / "keys" / "credential").stat().st_mode & 0o777 == 0o600


async def test_an_admission_that_got_lost_is_made_again(there: World, office: Authority, tmp_path: Path) -> None:
    request = asked(tmp_path / "far", await invited(there, office))
    first, second = await groups.admit(office, request), await groups.admit(office, request)
    admission.accept(CURVE, tmp_path / "far", second)
    assert first.name == second.name
    assert (await there.trusted()).head.number == 1


async def test_who_is_not_invited_is_not_admitted(
    there: World, office: Authority, clock: ManualClock, tmp_path: Path
) -> None:
    old = asked(tmp_path / "old", await invited(there, office))
    fresh = asked(tmp_path / "fresh", await invited(there, office))
    with pytest.raises(Refused, match="nonce"):
        await groups.admit(office, old)
    await groups.remove(office, NAME)
    with pytest.raises(Misuse, match="no proxy 'far' is invited"):
        await groups.admit(office, fresh)
    late = asked(tmp_path / "late", await invited(there, office))
    clock.pass_by(days=31)
    with pytest.raises(Misuse, match="invite it"):
        await groups.admit(office, late)
    assert [one.name for one in await groups.listed(office)] == [NAME, "group-1-1", "group-2-1"]


async def test_names_groups_and_places_are_checked(there: World, office: Authority) -> None:
    with pytest.raises(Misuse, match="another name"):
        await invited(there, office, "group-1-1")
    with pytest.raises(Misuse, match="group-1-1 is at"):
        await invited(there, office, "new", there.proxies[0])
    with pytest.raises(Misuse, match="there are group-1, group-2"):
        await groups.invite(office, "new", "group-9", "http://x.example", "http://s.example", "http://a.example")
    with pytest.raises(Misuse, match="no proxy can be invited so"):
        await invited(there, office, "../../etc")
    with pytest.raises(Misuse, match="no proxy can be invited so"):
        await invited(there, office, "new", "ftp://x")
    assert len(await groups.listed(office)) == 2


async def test_no_proxy_has_the_name_of_anothers_next_credential(there: World, office: Authority) -> None:
    """Else one's credential would be noted down as the other's, and outlive the removal of whose it is."""
    with pytest.raises(Misuse, match="ends like"):
        await invited(there, office, "group-1-1-k2")


async def test_nobody_is_admitted_to_a_group_whose_key_was_replaced(
    there: World, office: Authority, tmp_path: Path
) -> None:
    request = asked(tmp_path / "far", await invited(there, office))
    await rotation.rotate_group(office, there.backend.folder, GROUP)
    with pytest.raises(Misuse, match="replaced"):
        await groups.admit(office, request)
    with pytest.raises(Misuse, match="there are group-1-k2, group-2"):
        await invited(there, office)


async def test_a_place_can_be_used_again_with_another_key(there: World, office: Authority, tmp_path: Path) -> None:
    await groups.remove(office, "group-1-1")
    request = asked(tmp_path / "next", await invited(there, office, "next", there.proxies[0]))
    await groups.admit(office, request)
    states = {one.name: (one.url, one.state) for one in await groups.listed(office)}
    assert states["group-1-1"] == (there.proxies[0], "removed")
    assert states["next"] == (there.proxies[0], "member")


async def test_contacts_of_a_removed_proxy_are_signed_anew_by_another(
    there: World, office: Authority, clock: ManualClock
) -> None:
    """However old they are, and declared with the same code."""
    left, right = await there.pair()
    met, record = await there.meet(left, right)
    day = clock.today
    await groups.remove(office, "group-1-1")
    clock.pass_by(days=9)
    await there.follow(1)
    code = await there.code(day)
    receipt = await there.declare(left, code, [(met, record)])
    assert receipt.reasons == bytes([Reason.REMOVED])
    anew = await there.submit(left, met, day, there.proxies[1])
    assert anew is not None
    assert (anew.nullifier, anew.partial, anew.day) == (record.nullifier, record.partial, record.day)
    assert (await there.declare(left, code, [(met, anew)])).accepted


async def test_only_the_proxy_that_signed_is_named(there: World, office: Authority, clock: ManualClock) -> None:
    left, right = await there.pair()
    _, record = await there.meet(left, right)
    opened = await openings.open_record(office, record, "a complaint")
    assert opened is not None
    assert opened.name == "group-1-1"
    (line,) = (office.folder / openings.LOG).read_text().splitlines()
    assert line.startswith("2024-10-04T12:00:00+00:00 ")
    assert line.endswith(": group-1-1; reason: a complaint")
    assert record.ccm.hex() not in line
    assert openings.count(office.folder) == 1


async def test_a_record_put_together_from_others_names_nobody(there: World, office: Authority) -> None:
    """A and D of an honest proxy's π open to it, whoever put them there: so the whole signature is checked first."""
    left, right = await there.pair()
    (_, one), (_, other) = await asyncio.gather(there.meet(left, right), there.meet(left, right))
    forged = msgspec.structs.replace(one, proof=other.proof)
    with pytest.raises(Refused):
        await openings.open_record(office, forged, "")
    assert openings.count(office.folder) == 0


async def test_nothing_is_told_that_is_not_written_down(there: World, office: Authority) -> None:
    left, right = await there.pair()
    _, record = await there.meet(left, right)
    with pytest.raises(Misuse, match="one line"):
        await openings.open_record(office, record, "two\nlines")
    assert openings.count(office.folder) == 0


def test_records_are_read_in_many_forms() -> None:
    declared = world_of("arkworks").contacts[0].declared
    for data in (messages.encode(declared), messages.encode(declared.record)):
        for form in (data, data.hex().encode(), b" " + base64.b64encode(data) + b"\n"):
            assert openings.read_record(form) == declared.record
    for form in (b"", b"zz", b"\xff" * 40, b"00"):
        with pytest.raises(Misuse, match="no contact record"):
            openings.read_record(form)
