"""Publications and parameters: two chains that grow, and lose nothing when a part stops in between."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import func, select

from backend_stub.authority import chains
from backend_stub.operations import policy
from backend_stub.storage import tables
from protocol import chain, parameters
from protocol.encounter import token_of
from protocol.errors import Malformed, Misuse, StorageError
from tests.backend_stub.support import Encounter, eventually
from tests.support import found_in

if TYPE_CHECKING:
    from backend_stub.authority.service import Authority
    from tests.backend_stub.support import ManualClock, World


async def declared(there: World, count: int = 1) -> list[Encounter]:
    """So many contacts, declared."""
    left, right = await there.pair()
    contacts = list(await asyncio.gather(*(there.meet(left, right) for _ in range(count))))
    assert (await there.declare(left, await there.code(), contacts)).accepted
    return [met for met, _ in contacts]


async def waiting(office: Authority) -> int:
    count = select(func.count()).select_from(tables.tokens)
    return await office.database.run(lambda connection: connection.scalar(count)) or 0


async def change(office: Authority, changes: dict[str, Any]) -> None:
    await office.database.run(
        lambda connection: chains.change(office, connection, lambda now: policy.with_changes(now, changes))
    )


async def test_publications_are_chained_and_each_token_stands_in_one(there: World) -> None:
    first = await declared(there)
    await there.publish()
    second = await declared(there, 2)
    await there.publish()
    batches = await there.publications()
    wanted = [{token_of(met.secret, 0) for met in mets} for mets in (first, second)]
    everything = wanted[0] | wanted[1]
    assert [{found.token for found in found_in(batch, everything)} for batch in batches] == wanted


async def test_nothing_waits_nothing_is_published(there: World, clock: ManualClock) -> None:
    clock.pass_by(days=1)
    await asyncio.sleep(0.1)
    assert not await there.publications()


async def test_a_publication_is_padded_to_the_floor(there: World) -> None:
    await declared(there, 3)
    await there.publish()
    (batch,) = await there.publications()
    assert [len(day.tokens) for day in batch.days] == [64 * 16]


async def test_what_waits_survives_a_stop(there: World) -> None:
    (met,) = await declared(there)
    await there.backend.stop("authority")
    await there.backend.start("authority")
    await there.publish()
    (batch,) = await there.publications()
    assert found_in(batch, {token_of(met.secret, 0)})


async def test_a_failure_in_between_neither_loses_nor_doubles(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The link is in the database already when the process dies: both go, or neither."""
    await declared(there)
    async with there.office() as office:
        append = chains.append

        async def append_and_die(*arguments: object) -> None:
            await append(*arguments)  # type: ignore[arg-type]
            raise StorageError("the power went")

        monkeypatch.setattr(chains, "append", append_and_die)
        with pytest.raises(StorageError):
            await chains.publish(office)
        monkeypatch.undo()
        assert await waiting(office) == 1
        assert not await there.publications()
        assert await chains.publish(office) == 1
        assert await chains.publish(office) == 0
    assert len(await there.publications()) == 1


async def test_changed_parameters_are_followed(there: World, clock: ManualClock) -> None:
    before = await there.trusted()
    async with there.office() as office:
        await change(office, {"limits.first_seen_days": 1})
    after = await there.trusted(there.proxies[0])
    assert after.head.number == 1
    assert after.parameters.previous == before.head.hash
    assert after.parameters.limits.first_seen_days == 1
    assert after.parameters.issuers == before.parameters.issuers
    clock.pass_by(seconds=300)
    user = await there.user()

    async def refuses() -> bool:
        one = await there.submission(user, Encounter(), clock.today - 2)
        return await there.refusal(one) is not None

    await eventually(refuses)


async def test_parameters_without_sense_are_not_appended(there: World) -> None:
    async with there.office() as office:
        changes = {"risk.bands": [{"below": 9, "weight": 1}, {"below": 8, "weight": 1}]}
        with pytest.raises(Malformed):
            await change(office, changes)
    assert (await there.trusted()).head.number == 0


@pytest.mark.parametrize("changes", [{"limits.epoch": "x"}, {"limits": 1}, {"nothing": 1}, {"limits.epoch": 1}])
def test_changes_are_checked(changes: dict[str, object]) -> None:
    with pytest.raises(Misuse):
        policy.changed(policy.Policy(), changes)


async def test_parameters_are_renewed_before_they_run_out(there: World, clock: ManualClock) -> None:
    first = (await there.trusted()).parameters
    clock.pass_by(days=14)
    await asyncio.sleep(0.1)
    assert (await there.trusted()).head.number == 0
    clock.pass_by(days=2)

    async def renewed() -> bool:
        clock.pass_by(seconds=3600)  # where the authority was at work when the days passed
        return (await there.trusted()).head.number == 1

    await eventually(renewed)
    second = (await there.trusted()).parameters
    assert second.valid_until == second.issued_at + 30 * 86_400
    assert second.issuers == first.issuers


async def test_the_next_issuer_overlaps_and_an_old_one_goes(there: World, clock: ManualClock) -> None:
    first = (await there.trusted()).parameters.issuers[0]
    for days in (14, 14, 14, 14, 14, 8):
        clock.pass_by(days=days)
        await _renewed(there)
    _, second = (await there.trusted()).parameters.issuers
    assert second.from_day == clock.today + 1
    assert first.until_day - clock.today == 11
    clock.pass_by(days=1)
    await there.user(issuer=1)
    await there.user(issuer=2)
    clock.pass_by(days=12)
    await _renewed(there)
    assert {issuer.number for issuer in (await there.trusted()).parameters.issuers} == {1, 2}
    clock.pass_by(days=16)
    await _renewed(there)
    assert {issuer.number for issuer in (await there.trusted()).parameters.issuers} == {2}


async def _renewed(there: World) -> None:
    """Let the authority look, as it does every hour."""
    async with there.office() as office:
        await chains.renew(office)


async def test_two_who_renew_at_once_make_one_key(there: World, clock: ManualClock) -> None:
    async with there.office() as one, there.office() as other:
        clock.pass_by(days=80)
        await asyncio.gather(*(chains.renew(office) for office in (one, other, one, other)))
    trusted = await there.trusted()
    assert trusted.head.number == 1
    assert [issuer.number for issuer in trusted.parameters.issuers] == [1, 2]
    await there.follow(1)
    clock.pass_by(days=1)
    await there.user(issuer=2)


async def test_the_genesis_is_what_its_fingerprint_says(there: World) -> None:
    async with there.office() as office:
        genesis = await office.database.run(lambda connection: chains.link(connection, chains.PARAMETERS, 0))
    assert genesis is not None
    head = parameters.begin(genesis).head
    assert head == (await there.trusted()).head
    assert len(chain.fingerprint(head.hash)) == 39
