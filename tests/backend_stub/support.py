"""A backend in a temporary folder, a clock that tests own, and users who do by hand what agents do by themselves."""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from agent import transport
from backend_stub.authority import join, report
from backend_stub.authority import service as authority
from backend_stub.network import calling
from backend_stub.operations import founding
from backend_stub.operations.founding import Plan
from backend_stub.operations.running import AUTHORITY, Backend, running
from protocol import chain, contact, credential, declaration, encounter, errors, messages, parameters, publication
from protocol.curve import open_curve
from protocol.encounter import SECONDS_A_DAY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    import aiohttp

    from protocol.credential import Credential
    from protocol.messages import ContactRecord, Publication, Receipt, SealedReport, Submission
    from protocol.parameters import Keys, Trusted

M = TypeVar("M", bound=messages.Message)

CURVE = open_curve("arkworks")
NOON = 20_000 * SECONDS_A_DAY + SECONDS_A_DAY / 2


class ManualClock:
    """Time stands still until a test moves it."""

    def __init__(self, at: float = NOON) -> None:
        self._at = at
        self._moved = asyncio.Event()

    def now(self) -> float:
        return self._at

    @property
    def today(self) -> int:
        return encounter.day_of(self._at)

    async def sleep(self, seconds: float) -> None:
        until = self._at + seconds
        while self._at < until:
            await self._moved.wait()

    def pass_by(self, seconds: float = 0, days: float = 0) -> None:
        self._at += seconds + days * SECONDS_A_DAY
        self._moved.set()
        self._moved = asyncio.Event()


@dataclass(frozen=True)
class Encounter:
    """Two devices met: E."""

    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @property
    def ccm(self) -> bytes:
        return encounter.ccm_of(self.secret)


@dataclass(frozen=True)
class User:
    credential: Credential
    issuer: int = 1


TICKETS: dict[int, Iterator[int]] = defaultdict(itertools.count)
"""The next ticket of each user, who may go on with the same backend elsewhere."""


class World:
    """A running backend, and the outside's way to it."""

    def __init__(self, backend: Backend, clock: ManualClock, asking: aiohttp.ClientSession) -> None:
        self.backend = backend
        self.clock = clock
        self.asking = asking
        self.proxies = list(backend.proxies.values())
        self._following = asyncio.Lock()
        self._trusted: Trusted | None = None
        self._keys: tuple[Trusted, Keys] | None = None

    # --- HTTP ---

    async def send(self, method: str, url: str, body: bytes | None = None) -> bytes:
        """The body of the answer; an error of the backend is raised as what it names."""
        return await calling.call(self.asking, method, url, messages.LINK_LIMIT, body)

    async def get(self, kind: type[M], path: str, base: str = "") -> M:
        return messages.decode(kind, await self.send("GET", (base or self.backend.authority) + path))

    # --- the authority ---

    @asynccontextmanager
    async def office(self) -> AsyncIterator[authority.Authority]:
        """The authority's own database, as the command line opens it."""
        async with authority.opened(self.backend.folder / AUTHORITY, self.clock) as opened:
            yield opened

    async def invite(self) -> str:
        async with self.office() as opened:
            (invitation,) = await join.invite(opened, 1)
            return invitation

    async def code(self, onset: int | None = None, valid_days: float = 2) -> str:
        async with self.office() as opened:
            day = self.clock.today if onset is None else onset
            return await report.make_code(opened, day, int(valid_days * SECONDS_A_DAY))

    async def trusted(self, base: str = "") -> Trusted:
        """The newest parameters, the chain followed."""
        async with self._following:
            head = (await self.get(messages.Heads, messages.HEADS_PATH, base)).parameters
            trusted = self._trusted
            while trusted is None or trusted.head.number < head.number:
                number = 0 if trusted is None else trusted.head.number + 1
                link = await self.get(messages.Link, messages.PARAMETERS_PATH.format(number=number), base)
                trusted = parameters.begin(link) if trusted is None else parameters.advance(trusted, link)
            assert trusted.head == head
            self._trusted = trusted
            return trusted

    async def keys(self) -> Keys:
        trusted = await self.trusted()
        if self._keys is None or self._keys[0] is not trusted:
            self._keys = trusted, parameters.read_keys(CURVE, trusted.parameters)
        return self._keys[1]

    async def publications(self, base: str = "") -> list[Publication]:
        """All publications, the chain followed."""
        key = (await self.trusted(base)).parameters.publication_keys
        head, found = chain.EMPTY, []
        last = (await self.get(messages.Heads, messages.HEADS_PATH, base)).publications
        for number in range(last.number + 1):
            link = await self.get(messages.Link, messages.PUBLICATIONS_PATH.format(number=number), base)
            head, batch = publication.follow(head, key, link)
            found.append(batch)
        assert head == last
        return found

    async def follow(self, number: int) -> None:
        """Wait until the authority has parameters of this number, and server and proxies have looked."""

        async def there() -> bool:
            return (await self.trusted()).head.number >= number

        await eventually(there)
        self.clock.pass_by(seconds=300)
        await ready(self)

    async def publish(self) -> None:
        """Let the time between publications pass, and wait until what waited is out."""
        before = len(await self.publications())
        self.clock.pass_by(seconds=3600)
        await eventually(lambda: self._publications_after(before))

    async def _publications_after(self, count: int) -> bool:
        return len(await self.publications()) > count

    # --- users ---

    async def nonce(self) -> bytes:
        data = await self.send("POST", self.backend.authority + messages.NONCE_PATH)
        return messages.decode(messages.Nonce, data).nonce

    async def join_body(self, invitation: str, secret: int, nonce: bytes | None = None, issuer: int = 1) -> bytes:
        key = (await self.keys()).issuer(issuer)
        request = credential.join(CURVE, secrets.token_bytes, secret, key, nonce or await self.nonce())
        return messages.encode(messages.UserJoin(invitation=invitation, issuer=issuer, join=request))

    async def send_join(self, body: bytes) -> bytes:
        return await self.send("POST", self.backend.authority + messages.JOIN_PATH, body)

    async def pair(self) -> tuple[User, User]:
        """Two who joined."""
        left, right = await asyncio.gather(self.user(), self.user())
        return left, right

    async def user(self, issuer: int = 1) -> User:
        """Somebody who joined."""
        secret = credential.new_secret(secrets.token_bytes)
        issued = await self.send_join(await self.join_body(await self.invite(), secret, issuer=issuer))
        key = (await self.keys()).issuer(issuer)
        return User(credential.accept(CURVE, secret, key, messages.decode(messages.Issued, issued)), issuer)

    async def submission(self, user: User, met: Encounter, day: int | None = None) -> Submission:
        key = (await self.keys()).issuer(user.issuer)
        day = self.clock.today if day is None else day
        ticket = self.ticket(user)
        return contact.submit(CURVE, secrets.token_bytes, user.credential, key, user.issuer, met.ccm, day, ticket)

    def ticket(self, user: User) -> contact.Ticket:
        """One of today that the user has not used."""
        return contact.Ticket(self.clock.today, next(TICKETS[user.credential.secret]))

    async def send_submission(self, one: Submission, proxy: str = "") -> bytes:
        """The answer; a refusal is raised."""
        url = (proxy or self.proxies[0]) + messages.SUBMISSION_PATH
        data = await self.send("POST", url, messages.encode(one))
        assert len(data) == messages.ANSWER_SIZE
        if refusal := messages.decode(messages.Answer, messages.unpad(data)).refusal:
            raise transport.said(refusal.slug, refusal.text)
        return data

    async def submit(self, user: User, met: Encounter, day: int | None = None, proxy: str = "") -> ContactRecord | None:
        """The checked record, or None while pending."""
        one = await self.submission(user, met, day)
        answer = await self.send_submission(one, proxy)
        record = messages.decode(messages.Answer, messages.unpad(answer)).record
        if record is not None:
            contact.check_record(CURVE, secrets.token_bytes, (await self.keys()).signers, one, record)
        return record

    async def refusal(self, one: Submission) -> str | None:
        """Why the server itself, past any proxy, refuses a submission."""
        body = messages.encode(messages.Submissions(submissions=(one,)))
        answer = await self.send("POST", self.backend.server + messages.PARTIAL_PATH, body)
        refusal = messages.decode(messages.Outcomes, answer).outcomes[0].refusal
        return refusal.text if refusal else None

    async def meet(self, left: User, right: User, day: int | None = None) -> tuple[Encounter, ContactRecord]:
        """Both submitted an encounter; the record is that of `left`."""
        met = Encounter()
        record, _ = await asyncio.gather(self.submit(left, met, day), self.submit(right, met, day))
        record = record or await self.submit(left, met, day)  # it may have been the first of the two
        assert record is not None
        return met, record

    # --- declarations ---

    async def report(
        self, user: User, code: str, contacts: Sequence[tuple[Encounter, ContactRecord]], role: int = 0
    ) -> Declaring:
        trusted = await self.trusted()
        body = messages.ReportBody(
            code=code,
            reply_key=secrets.token_bytes(32),
            issuer=user.issuer,
            contacts=tuple(
                messages.DeclaredContact(record=record, secret=met.secret, role=role) for met, record in contacts
            ),
        )
        key = (await self.keys()).issuer(user.issuer)
        made = declaration.make_report(CURVE, secrets.token_bytes, user.credential, key, body, trusted.head.hash)
        return Declaring(declaration.seal(made, trusted.parameters.seal_key, trusted.head.hash), body.reply_key)

    async def send_report(self, declaring: Declaring, proxy: str = "") -> bytes:
        url = (proxy or self.proxies[0]) + messages.DECLARATION_PATH
        for _ in range(MOST_SENT):
            answer = await self.send("POST", url, messages.encode(declaring.sealed))
            assert len(answer) == declaration.receipt_size(declaring.sealed)
            if declaration.open_receipt(answer, declaring.reply_key) != declaration.CHECKING:
                return answer
        raise AssertionError("it is checked for ever")

    async def declare(
        self, user: User, code: str, contacts: Sequence[tuple[Encounter, ContactRecord]], role: int = 0
    ) -> Receipt:
        declaring = await self.report(user, code, contacts, role)
        return declaration.open_receipt(await self.send_report(declaring), declaring.reply_key)


@dataclass(frozen=True)
class Declaring:
    """A report on its way."""

    sealed: SealedReport
    reply_key: bytes


MOST_SENT = 200
"""How often a report is sent, which is checked meanwhile."""
NOTHING = messages.Submission(
    issuer=1,
    ccm=bytes(32),
    day=0,
    sent_day=0,
    ticket=0,
    show=messages.Show(
        a=bytes(48), b=bytes(48), d=bytes(48), k=bytes(48), nullifiers=(), commitments=(), answer=bytes(32)
    ),
)
"""A submission that proves nothing."""

PLAN = Plan(port=0, pool_wait=0.01, tls=False)


async def found(folder: Path, clock: ManualClock, plan: Plan = PLAN) -> founding.Founded:
    return await founding.found(folder, plan, clock=clock)


@asynccontextmanager
async def world(folder: Path, clock: ManualClock) -> AsyncIterator[World]:
    """A founded backend, running and ready."""
    async with running(folder, clock) as backend, calling.session() as asking:
        there = World(backend, clock, asking)
        await ready(there)
        yield there


async def ready(there: World) -> None:
    """Wait until server and proxies have the parameters: a submission that proves nothing is refused then."""
    bodies = {proxy + messages.SUBMISSION_PATH: NOTHING for proxy in there.proxies}
    asked: dict[str, messages.Message] = {
        **bodies,
        there.backend.server + messages.PARTIAL_PATH: messages.Submissions(submissions=(NOTHING,)),
    }
    for url, body in asked.items():
        await eventually(partial(_is_there, there, url, body))


async def _is_there(there: World, url: str, body: messages.Message) -> bool:
    try:
        await there.send("POST", url, messages.encode(body))
    except (errors.Unreachable, errors.KeyChanged):
        return False
    except errors.SpotError:
        return True
    return True


async def eventually(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it holds: for what other tasks and processes do."""
    async with asyncio.timeout(30):
        while not await holds():  # noqa: ASYNC110 - what is waited for is behind HTTP
            await asyncio.sleep(0.01)
