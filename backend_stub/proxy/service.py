"""A proxy: stands between users and the server, mixes what it forwards, and signs for its group (*P_Sign*).

It keeps no state and notes no address: `rates` has keyed hashes of networks, for minutes. What it hands on from the
authority it cannot alter unnoticed.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from aiohttp import web as http

from backend_stub import settings
from backend_stub.following.checking import check_submissions, error_of, refusal_of
from backend_stub.following.parameters import HEADS_LIMIT, Follower
from backend_stub.following.signing import CREDENTIAL, Membership
from backend_stub.keyring import keys
from backend_stub.network import pacing, web
from backend_stub.network.calling import Peers, session
from backend_stub.network.identity import Identity
from backend_stub.network.listening import ANSWER_SECONDS
from backend_stub.network.rates import Rate, Room
from protocol import batch, contact, messages
from protocol.errors import Malformed, NotMine, Refused, SpotError, TooMany, Unreachable
from protocol.messages import Answer, ContactRecord, Outcomes, Submission, Submissions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    import aiohttp

    from backend_stub.clock import Clock
    from backend_stub.following.parameters import Known
    from backend_stub.settings import ProxySettings
    from protocol.curve import Curve
    from protocol.messages import Outcome, Partial
    from protocol.randomness import Random

log = logging.getLogger(__name__)

SUBMISSION_LIMIT = 4096
OUTCOMES_LIMIT = 1 << 20
MOST_WAITING = 4096  # submissions in hand at once
MOST_POOLS = 16  # pools in work at once: what comes meanwhile waits, and what is too much is refused
ANSWER_STEP = (
    0.25  # of the wait for a pool: pools are answered at multiples of it, so that a yes takes no longer than a no
)
CACHE_LIMIT = 1 << 24  # bytes

Result = ContactRecord | SpotError | None
"""What becomes of a submission: the finished record, an error, or nothing yet (pending)."""
Waiting = tuple[Submission, asyncio.Future[Answer | SpotError]]
"""A submission, and what it is answered: an error is one of the backend, and the same for all that come then."""


class Extender:
    """Takes submissions one by one, and passes them on many at a time, in no order."""

    def __init__(
        self,
        told: ProxySettings,
        own: Membership,
        follower: Follower,
        asking: aiohttp.ClientSession,
        curve: Curve,
        random: Random,
    ) -> None:
        self._told = told
        self._rate = Rate(told.submissions_a_second, by_network=True)
        self._own = own
        self._follower = follower
        self._server = Peers(asking, told.server)
        self._curve = curve
        self._random = random
        self.forwards: Callable[[float], None] = lambda _size: None  # is told how large each pool is
        self.answers: Callable[..., None] = lambda **_outcomes: None  # is told what becomes of submissions
        self._waiting: asyncio.Queue[Waiting] = asyncio.Queue(MOST_WAITING)
        self._free = asyncio.Semaphore(MOST_POOLS)

    async def submission(self, request: http.Request) -> http.Response:
        """A contact record, `pending` or a refusal, all of one size."""
        self._rate.check(request)
        one = await web.read_message(request, Submission, SUBMISSION_LIMIT)
        self._follower.known()
        future: asyncio.Future[Answer | SpotError] = asyncio.get_running_loop().create_future()
        try:
            self._waiting.put_nowait((one, future))
        except asyncio.QueueFull:
            raise Unreachable("too many submissions at once; try again later") from None
        answer = await future
        if isinstance(answer, SpotError):
            raise answer
        self.answers(**{_outcome_of(answer): 1})
        return web.answer_bytes(messages.pad(messages.encode(answer), messages.ANSWER_SIZE))

    def waiting(self) -> int:
        """How many submissions wait for their pool."""
        return self._waiting.qsize()

    async def ready(self) -> None:
        """Raises what keeps it from its work."""
        self._follower.known()

    async def mix_for_ever(self) -> None:
        """Pool what comes within the wait, up to the pool's size, and forward each pool shuffled."""
        async with asyncio.TaskGroup() as group:
            while True:
                await self._free.acquire()
                pool = [await self._waiting.get()]
                try:
                    async with asyncio.timeout(self._told.pool_wait):
                        while len(pool) < self._told.pool_size:
                            pool.append(await self._waiting.get())
                except TimeoutError:
                    pass
                self.forwards(len(pool))
                secrets.SystemRandom().shuffle(pool)
                group.create_task(self._answer(pool))

    async def _answer(self, pool: Sequence[Waiting]) -> None:
        began = asyncio.get_running_loop().time()
        answers: Sequence[Answer] | SpotError  # the error concerns all alike
        try:
            answers = [_answer_of(one) for one in await self._results([one for one, _ in pool])]
        except SpotError as error:
            answers = error
        except Exception:
            log.exception("a pool of submissions failed in a way nobody thought of")
            answers = SpotError("something went wrong at the proxy; try another one")
        self._free.release()
        await pacing.wait(pacing.due(began, ANSWER_STEP * self._told.pool_wait))
        for index, (_, future) in enumerate(pool):
            if not future.done():
                future.set_result(answers if isinstance(answers, SpotError) else answers[index])

    async def _results(self, submissions: Sequence[Submission]) -> list[Result]:
        known = self._follower.known()
        refusals = await asyncio.to_thread(check_submissions, self._curve, self._random, known, submissions)
        results: list[Result] = [refusals.get(index) for index in range(len(submissions))]
        good = [index for index in range(len(submissions)) if index not in refusals]
        if good:
            passed = [submissions[index] for index in good]
            outcomes = await self._ask_server(passed)
            extended = await asyncio.to_thread(self._extend, known, passed, outcomes)
            for index, result in zip(good, extended, strict=True):
                results[index] = result
        return results

    async def _ask_server(self, submissions: Sequence[Submission]) -> Sequence[Outcome]:
        body = messages.encode(Submissions(submissions=tuple(submissions)))
        try:
            data = await self._server.call("POST", messages.PARTIAL_PATH, OUTCOMES_LIMIT, body)
            outcomes = messages.decode(Outcomes, data).outcomes
        except TooMany:
            raise
        except SpotError as error:
            log.warning("the server does not answer as it should: %s", error.text)
            after = error.after if isinstance(error, Unreachable) else 0
            raise Unreachable("the server does not answer now; try again later", after) from None
        if len(outcomes) != len(submissions):
            log.error("the server answered %d submissions of %d", len(outcomes), len(submissions))
            raise Unreachable("the server does not answer as it should; try again later")
        return outcomes

    def _extend(self, known: Known, submissions: Sequence[Submission], outcomes: Sequence[Outcome]) -> list[Result]:
        partials = {index: outcome.partial for index, outcome in enumerate(outcomes) if outcome.partial is not None}
        wrong = self._wrong_partials(known, submissions, partials)
        if wrong:
            log.error("the server signed %d of %d submissions wrongly; tell its operator", len(wrong), len(submissions))
        group, own = self._own.current(known)
        key = known.keys.signers.groups[group]
        results: list[Result] = []
        for index, outcome in enumerate(outcomes):
            if index in wrong:
                results.append(Unreachable("the server signed wrongly; try again later, through another proxy"))
            elif outcome.partial is not None:
                results.append(contact.extend(self._random, own, group, key, submissions[index], outcome.partial))
            else:
                results.append(error_of(outcome.refusal) if outcome.refusal is not None else None)
        return results

    def _wrong_partials(
        self, known: Known, submissions: Sequence[Submission], partials: dict[int, Partial]
    ) -> set[int]:
        """Which partial signatures fail `contact.check_partial`; all at once as long as none does."""
        wrong: set[int] = set()
        claims = []
        owners = []
        for index, partial in partials.items():
            try:
                claims.append(contact.answer_claim(self._curve, known.keys.signers, submissions[index], partial))
                owners.append(index)
            except (Malformed, Refused, NotMine):
                wrong.add(index)
        if claims:
            wrong.update(owners[failed] for failed in batch.failing(self._curve, self._random, claims))
        return wrong


def _answer_of(result: Result) -> Answer:
    """The answer to a submission. An error of one alone is in it: by its size it would tell that this is no dummy."""
    return Answer(refusal=refusal_of(result)) if isinstance(result, SpotError) else Answer(record=result)


def _outcome_of(answer: Answer) -> str:
    return "refused" if answer.refusal else "signed" if answer.record else "pending"


class HandingOn:
    """What is between agents and the authority only: sealed declarations there, signed links back."""

    def __init__(self, told: ProxySettings, asking: aiohttp.ClientSession, declaring: aiohttp.ClientSession) -> None:
        # Reports wait long for their answers, and have a limit of their own: heads and links must not wait with them.
        self._authority, self._reports = Peers(asking, told.authority), Peers(declaring, told.authority)
        self._declarations = Rate(told.declarations_a_second, by_network=True)
        self._room = Room(told.reports_mib << 20)
        self._links: dict[str, bytes] = {}

    async def declaration(self, request: http.Request) -> http.Response:
        """The authority's answer to bytes that only it can read."""
        self._declarations.check(request)
        limit = web.DECLARATION_LIMIT // messages.RECEIPT_SHARE
        path = messages.DECLARATION_PATH
        with self._room.taken() as take:
            body = await web.read_body(request, web.DECLARATION_LIMIT, take)
            answer = await self._reports.call("POST", path, limit, body, ANSWER_SECONDS)
        return web.answer_bytes(answer)

    async def heads(self, request: http.Request) -> http.Response:
        """The authority's heads, as they are now."""
        body = await self._authority.call("GET", messages.HEADS_PATH, HEADS_LIMIT)
        return web.answer_kept(request, body, web.HEADS_SECONDS)

    async def parameters(self, request: http.Request) -> http.Response:
        """A link of the parameters chain."""
        return await self._link(messages.PARAMETERS_PATH, request)

    async def publications(self, request: http.Request) -> http.Response:
        """A link of the publications chain."""
        return await self._link(messages.PUBLICATIONS_PATH, request)

    async def _link(self, path: str, request: http.Request) -> http.Response:
        """A numbered link; it never changes, so it is asked for once."""
        path = path.format(number=web.number_in(request))
        body = self._links.pop(path, None)
        if body is None:
            body = await self._authority.call("GET", path, messages.LINK_LIMIT)
        self._links[path] = body  # last in the dict: used last
        while sum(map(len, self._links.values())) > CACHE_LIMIT:
            del self._links[next(iter(self._links))]
        return web.answer_kept(request, body, web.LINK_SECONDS)


@asynccontextmanager
async def serving(
    folder: Path, clock: Clock | None = None, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[None]:
    """The proxy of this folder, answering. changes: to its settings. Raises SpotError where it cannot start."""
    told = settings.read(settings.ProxySettings, folder, changes)
    curve = told.open_curve()
    keys.check(folder, CREDENTIAL)
    own = Membership(folder, told.group, curve)
    identity = Identity(folder, told)
    async with session(identity.calling) as asking, session(identity.calling) as declaring:
        follower = Follower(folder, told, asking, curve, clock or told.open_clock())
        extender = Extender(told, own, follower, asking, curve, secrets.token_bytes)
        authority = HandingOn(told, asking, declaring)
        app = web.application(
            [
                http.post(messages.SUBMISSION_PATH, extender.submission),
                http.post(messages.DECLARATION_PATH, authority.declaration),
                http.get(messages.HEADS_PATH, authority.heads),
                http.get(web.numbered(messages.PARAMETERS_PATH), authority.parameters),
                http.get(web.numbered(messages.PUBLICATIONS_PATH), authority.publications),
            ],
            told,
        )
        name = f"proxy {told.name}"
        metrics = app[web.METRICS]
        metrics.age.set_function(follower.age)
        metrics.queue.set_function(extender.waiting)
        extender.forwards, extender.answers = metrics.pools.observe, metrics.submissions
        work = (follower.run(), extender.mix_for_ever(), identity.watch())
        async with web.background(*work):
            await follower.begin()
            async with web.answering(app, told, name, identity.answering, extender.ready):
                yield
