"""Attack 20: what the authority publishes is altered, cut, reordered, rolled back, withheld, forged, or far too large.

The attacker is a proxy, or a CDN in front of the proxies, and has a device that met the victim's: it knows the token
that the victim would look for. It wants to warn the victim without a diagnosis, or to keep a true warning from it
without anybody noticing. On one of the two routes that an agent asks, it can do neither. Where it has **all** routes it
can withhold what is new, **not prevented**: an authority that publishes nothing looks the same.
"""

from __future__ import annotations

import contextlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec.structs import replace

from agent import following, transport
from agent.following import Following
from protocol import chain, encounter, messages, publication
from tests.attacks.middle import between
from tests.attacks.street import start_of_epoch
from tests.backend_stub.support import eventually
from tests.end_to_end.people import DAY, world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection
    from pathlib import Path

    import pytest

    from protocol.messages import Head, Link, Publication
    from tests.end_to_end.people import Person, World

    Links = list[Link]
    Trick = Callable[["Attacker", Links], Links]
    Mutation = Callable[[pytest.MonkeyPatch], None]

LEVEL = 2
OWN_KEY = Ed25519PrivateKey.generate()


@dataclass(frozen=True)
class Attacker:
    """What it has of the victim: the token that the victim looks for, and the day they met."""

    token: bytes
    day: int

    @property
    def bait(self) -> messages.PublishedDay:
        return messages.PublishedDay(day=self.day, level=LEVEL, tokens=self.token)


# --- tricks ---


def body_of(link: Link) -> Publication:
    return messages.decode(messages.Publication, link.body)


def with_body(link: Link, changed: Publication) -> Link:
    """Other contents under the authority's signature."""
    return messages.Link(body=messages.encode(changed), signature=link.signature)


def insert(own: Attacker, links: Links) -> Links:
    """Put the token into the newest one."""
    last = body_of(links[-1])
    return [*links[:-1], with_body(links[-1], replace(last, days=(*last.days, own.bait)))]


def sign_anew(own: Attacker, links: Links) -> Links:
    """The same, under a key of one's own."""
    return [*links[:-1], publication.sign(OWN_KEY, body_of(insert(own, links)[-1]))]


def append(own: Attacker, links: Links) -> Links:
    """One more, after the newest, under a key of one's own."""
    previous = publication.hash_of(body_of(links[-1]))
    issued = body_of(links[-1]).issued_at
    made = messages.Publication(number=len(links), previous=previous, issued_at=issued, days=(own.bait,))
    return [*links, publication.sign(OWN_KEY, made)]


def empty(own: Attacker, links: Links) -> Links:
    """Take everything out of the newest."""
    return [*links[:-1], with_body(links[-1], replace(body_of(links[-1]), days=()))]


def cut(own: Attacker, links: Links) -> Links:
    """Break off in the middle."""
    return [*links[:-1], messages.Link(body=links[-1].body[:-20], signature=links[-1].signature)]


def reorder(own: Attacker, links: Links) -> Links:
    return [*links[:-2], links[-1], links[-2]]


def repeat(own: Attacker, links: Links) -> Links:
    """The one before the newest in place of it."""
    return [*links[:-1], links[-2]]


def drop_one(own: Attacker, links: Links) -> Links:
    """Leave out the one before the newest."""
    return [*links[:-2], links[-1]]


def fill(own: Attacker, links: Links) -> Links:
    """Far more than an agent should ever take in."""
    days = (replace(own.bait, tokens=bytes(messages.LINK_LIMIT) + own.token),)
    return [*links[:-1], with_body(links[-1], replace(body_of(links[-1]), days=days))]


def withhold(own: Attacker, links: Links) -> Links:
    """Show the past."""
    return links[:-1]


def rewrite(own: Attacker, links: Links) -> Links:
    """Another past than the one that is known already, and nothing after it."""
    return [with_body(links[0], replace(body_of(links[0]), issued_at=1))]


TRICKS: tuple[Trick, ...] = (insert, sign_anew, empty, cut, reorder, repeat, drop_one, fill)


# --- carrying it out ---


@dataclass(frozen=True)
class Gain:
    """Whether the victim was warned of the attacker, or not warned of the infected; and what the agent says of it."""

    warned: bool
    hidden: bool
    told: str


@dataclass
class Town:
    """Victims who met somebody infected and the attacker, after two publications; the infected one's is the second."""

    there: World
    monkeypatch: pytest.MonkeyPatch

    async def play(self, victim: Person, trick: Trick, lying: Collection[str] | None = None) -> Gain:
        """Have a victim look at publications through somebody who plays this trick (lying: on which proxies)."""
        own = self.attacker(victim)
        proxies = self.there.backend.proxies
        async with between(self.monkeypatch, proxies, lambda links: trick(own, links), lying):
            await victim.sync()
        found = {one.encounter.secret for one in victim.store.exposures()}
        return Gain(
            warned=bool(found & secrets(self.there.people["attacker"])),
            hidden=not found & secrets(self.there.people["infected"]),
            told=victim.sync_.status().problem,
        )

    def attacker(self, victim: Person) -> Attacker:
        """What the attacker has of this victim."""
        met = secrets(victim)
        (own,) = (one for one in self.there.people["attacker"].store.encounters() if one.secret in met)
        return Attacker(encounter.token_of(own.secret, own.role), own.day)

    @property
    def routes(self) -> list[str]:
        """A proxy of each group."""
        return list(self.there.backend.proxies)


def secrets(person: Person) -> set[bytes]:
    return {one.secret for one in person.store.encounters()}


@asynccontextmanager
async def town(folder: Path, monkeypatch: pytest.MonkeyPatch, *victims: str) -> AsyncIterator[Town]:
    async with world(folder, ("earlier", "infected", "attacker", *victims)) as there:
        earlier, infected, attacker, *others = there.people.values()
        start_of_epoch(there.clock)  # so that no meeting is cut in two
        there.meet(earlier, attacker, minutes=3)
        for victim in others:
            there.meet(infected, victim, minutes=3)
            there.meet(attacker, victim, minutes=3)
        for person in (attacker, *others, earlier, infected):
            await person.sync()
        for number, person in enumerate((earlier, infected)):
            await person.declare(await there.code())
            there.clock.jump(3700)
            await eventually(partial(is_out, there, number))
        yield Town(there, monkeypatch)


async def is_out(there: World, number: int) -> bool:
    heads = messages.decode(messages.Heads, await transport.get(there.backend.authority, messages.HEADS_PATH))
    return heads.publications.number >= number


async def test_nobody_is_warned_by_it_and_what_is_hidden_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with town(tmp_path, monkeypatch, "victim", "other") as there:
        victim, other = there.there.people["victim"], there.there.people["other"]
        for trick in TRICKS:
            gain = await there.play(victim, trick)
            assert (gain.warned, gain.hidden) == (False, True), trick.__name__
            assert gain.told, trick.__name__
        assert "is not read" in (await there.play(victim, fill)).told, "whatever its signature is"
        gain = await there.play(victim, append)
        assert (gain.warned, gain.hidden) == (False, False)
        assert "not signed with its key" in gain.told
        gain = await there.play(other, withhold, there.routes[:1])
        assert gain == Gain(warned=False, hidden=False, told=""), "on one route it is found over the other"


async def test_on_one_route_nothing_is_kept_from_anybody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert await spoilt(tmp_path, monkeypatch) == []


async def test_if_one_route_could_end_the_look_it_would_keep_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_noting", lambda troubles: contextlib.nullcontext())
    assert len(await spoilt(tmp_path, monkeypatch)) > len(TRICKS) / 2


async def spoilt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Spoil one of two routes. With which tricks a victim was warned, or anything hidden, or nobody told."""
    tricks = {trick.__name__: trick for trick in (*TRICKS, append, rewrite)}
    gains = {}
    async with town(folder, monkeypatch, *tricks) as there:
        liar, *_ = there.routes
        routes = Following._routes

        async def ask_the_liar_first(self: Following) -> list[tuple[str, messages.Heads]]:
            return sorted(await routes(self), key=lambda route: route[0] != there.there.backend.proxies[liar])

        monkeypatch.setattr(Following, "_routes", ask_the_liar_first)
        for name, trick in tricks.items():
            gains[name] = await there.play(there.there.people[name], trick, [liar])
    return [name for name, gain in gains.items() if gain.warned or gain.hidden or not gain.told]


async def test_on_all_routes_it_can_be_withheld(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with town(tmp_path, monkeypatch, "victim") as there:
        victim = there.there.people["victim"]
        for _ in range(3):
            there.there.clock.jump(DAY)
            gain = await there.play(victim, withhold)
            assert gain == HIDDEN, "if this fails, withholding on all routes is noticed: say so in docs/threat-model.md"
        await victim.sync()
        assert victim.store.exposures(), "it lasts no longer than the attacker stands on all routes"


# --- mutants ---


def unsigned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chain, "check_signature", lambda *_: None)


def unchained(monkeypatch: pytest.MonkeyPatch) -> None:
    def follow(head: Head, tag: bytes, link: Link, number: int, previous: bytes) -> Head:
        return chain.head_of(tag, link, head.number + 1)

    monkeypatch.setattr(chain, "follow", follow)


def unbounded(monkeypatch: pytest.MonkeyPatch) -> None:
    unsigned(monkeypatch)
    monkeypatch.setattr(transport, "MAX_BODY", 1 << 30)


WARNED = Gain(warned=True, hidden=False, told="")
HIDDEN = Gain(warned=False, hidden=True, told="")
MUTANTS: tuple[tuple[Mutation, Trick, Gain], ...] = (
    (unsigned, insert, WARNED),
    (unsigned, sign_anew, WARNED),
    (unsigned, append, WARNED),
    (unsigned, empty, HIDDEN),
    (unchained, repeat, HIDDEN),
    (unbounded, fill, Gain(warned=True, hidden=True, told="")),
)


async def test_without_signatures_chains_or_a_limit_it_would_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"victim {number}" for number in range(len(MUTANTS))]
    async with town(tmp_path, monkeypatch, *names) as there:
        for name, (mutate, trick, expected) in zip(names, MUTANTS, strict=True):
            with monkeypatch.context() as mutant:
                mutate(mutant)
                gain = await there.play(there.there.people[name], trick)
            assert gain == expected, (mutate.__name__, trick.__name__)
