"""Attack 28: the proxy that a declaration goes through reads it, delays it, repeats it, or fakes the answer.

A declaration is sealed to the authority and padded to a size class, and the answer is sealed under a key in it, of one
size whatever it says: the proxy learns that somebody declared something of that class, or nothing (dummies look the
same). It can refuse to pass it on, **not prevented**: the report is kept, and goes through another proxy.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from protocol import declaration, messages
from protocol.errors import SpotError
from tests.backend_stub.support import Encounter, World

if TYPE_CHECKING:
    import pytest

    from protocol.messages import ContactRecord, Receipt
    from tests.backend_stub.support import Declaring, User

    Contacts = list[tuple[Encounter, ContactRecord]]


async def declaring(there: World, contacts: int = 1) -> tuple[User, str, Contacts, Declaring]:
    """Somebody's report, on its way through the proxy."""
    user, other = await there.pair()
    made = [await there.meet(user, other) for _ in range(contacts)]
    code = await there.code()
    return user, code, made, await there.report(user, code, made)


# --- reading ---


async def read(there: World) -> set[str]:
    """What the proxy finds of the report in what passes through it, forth and back."""
    _, code, made, sent = await declaring(there)
    passed = messages.encode(sent.sealed) + await there.send_report(sent)
    ((met, record),) = made
    secret_things = {
        "code": code.encode(),
        "E": met.secret,
        "CCM": met.ccm,
        "nullifier": record.nullifier,
        "record": messages.encode(record),
        "reply key": sent.reply_key,
        "yes": b"thank you",
    }
    return {name for name, value in secret_things.items() if value in passed}


async def test_the_proxy_reads_nothing(there: World) -> None:
    assert await read(there) == set()


async def test_without_the_seals_it_would_read_everything(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = messages.REPORT_CLASSES
    monkeypatch.setattr(
        declaration,
        "seal",
        lambda report, key, parameters: messages.SealedReport(
            parameters=parameters, sealed=messages.pad(messages.encode(report), sizes[0])
        ),
    )
    monkeypatch.setattr(declaration, "receipt_size", lambda sealed: 1024)
    monkeypatch.setattr(
        declaration, "unseal", lambda secret, sealed: messages.decode(messages.Report, messages.unpad(sealed.sealed))
    )
    monkeypatch.setattr(
        declaration, "seal_receipt", lambda random, receipt, key, size: messages.pad(messages.encode(receipt), size)
    )
    monkeypatch.setattr(
        declaration, "open_receipt", lambda sealed, key: messages.decode(messages.Receipt, messages.unpad(sealed))
    )
    assert await read(there) >= {"code", "E", "CCM", "nullifier", "record", "reply key", "yes"}


# --- sizes ---


async def sizes(there: World) -> set[tuple[int, int]]:
    """The sizes that pass, forth and back, of reports of 1 and 12 contacts that are accepted and refused."""
    seen = set()
    for count in (1, 12):
        user, code, made, sent = await declaring(there, count)
        refused = await there.report(user, code, [(Encounter(), record) for _, record in made])
        unknown = await there.report(user, "AAAA-AAAA-AAAA-AAAA", made)
        for one in (refused, unknown, sent, sent):
            seen.add((len(messages.encode(one.sealed)), len(await there.send_report(one))))
    return seen


async def test_yes_and_no_one_contact_and_twelve_are_of_one_size(there: World) -> None:
    assert len(await sizes(there)) == 1


async def test_without_padding_they_would_tell(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = messages.pad

    def pad(data: bytes, size: int) -> bytes:
        return honest(data, size if size == messages.ANSWER_SIZE else len(data) + 4)

    monkeypatch.setattr(messages, "pad", pad)
    monkeypatch.setattr(declaration, "_check_class", lambda size: None)
    monkeypatch.setattr(World, "send_report", send_any_size)
    assert len(await sizes(there)) > 2


async def send_any_size(there: World, one: Declaring, proxy: str = "") -> bytes:
    return await there.send("POST", there.proxies[0] + messages.DECLARATION_PATH, messages.encode(one.sealed))


# --- repeating, delaying ---


async def test_repeats_and_delays_change_nothing(there: World) -> None:
    _, _, _, sent = await declaring(there)
    answers = [await there.send_report(sent) for _ in range(3)]
    there.clock.pass_by(days=3)
    answers += [await there.send_report(sent, proxy) for proxy in there.proxies]
    assert len(set(answers)) == 1
    assert declaration.open_receipt(answers[0], sent.reply_key).accepted


# --- faking ---


def fakes(sent: Declaring, others: bytes) -> list[bytes]:
    """Answers that a proxy can make: noise, another report's, its own under a key it chooses."""
    size = declaration.receipt_size(sent.sealed)
    yes = messages.Receipt(accepted=True, text="thank you")
    keys = (bytes(32), secrets.token_bytes(32), sent.sealed.sealed[:32])
    own = [declaration.seal_receipt(secrets.token_bytes, yes, key, size) for key in keys]
    return [secrets.token_bytes(size), others, bytes(size), *own]


def believed(sent: Declaring, answer: bytes) -> Receipt | None:
    try:
        return declaration.open_receipt(answer, sent.reply_key)
    except SpotError:
        return None


async def test_an_answer_cannot_be_faked(there: World) -> None:
    _, _, _, other = await declaring(there)
    _, _, _, sent = await declaring(there)
    others = await there.send_report(other)
    assert [believed(sent, answer) for answer in fakes(sent, others)] == [None] * 6


async def test_under_a_reply_key_that_is_known_it_could(there: World) -> None:
    _, _, _, sent = await declaring(there)
    object.__setattr__(sent, "reply_key", bytes(32))
    assert [one.accepted for answer in fakes(sent, b"") if (one := believed(sent, answer))] == [True]
