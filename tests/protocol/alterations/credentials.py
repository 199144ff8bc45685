"""Alterations of issuer keys, join requests, issued credentials and shows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec.structs import replace as altered

from protocol import contact, credential, declaration, hashing, randomness
from protocol.credential import Holder
from protocol.curve import ORDER, encode_scalar
from protocol.errors import Malformed, Refused
from protocol.messages import Issued, IssuerPublic, JoinRequest, Renewal, Show, UserJoin
from tests.protocol.alterations import alteration, refused
from tests.protocol.dishonest import Recipe, honest_recipe, other_than, prove, prove_join

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.credential import Credential, Statement
    from tests.support import Issuer, World

NO_KNOWLEDGE = "without proof that its owner knows"
NO_SECRET = "does not prove that its sender knows the secret key"
NOT_VALID = "not valid under its own key"
NO_CREDENTIAL = "proof of a valid credential does not hold"


# --- issuer keys ---


def _read(world: World, public: IssuerPublic, holder: Holder = Holder.USER) -> None:
    credential.read_issuer(world.curve, holder, public)


def _swapped(field: str) -> Callable[[World], None]:
    return lambda world: _read(world, altered(world.users.public, **{field: getattr(world.other_users.public, field)}))


for _field in ("x", "y", "challenge", "answer_x", "answer_y"):
    alteration(IssuerPublic, _field, Refused, NO_KNOWLEDGE, "from another key", _swapped(_field))


@refused(IssuerPublic, "x", Refused, NO_KNOWLEDGE)
def x_whose_secret_is_unknown(world: World) -> None:
    """All else is proven anew, for the new X and the known y."""
    random, x = world.random, world.other_users.key.x
    secret, nonce_x, nonce_y = world.users.secret.y, randomness.scalar(random), randomness.scalar(random)
    encoded, y = x.encode(), world.users.public.y
    commitments = nonce_x * world.curve.g2, nonce_y * world.curve.g2
    challenge = credential._issuer_challenge(Holder.USER, encoded, y, *commitments)
    public = IssuerPublic(
        x=encoded,
        y=y,
        challenge=encode_scalar(challenge),
        answer_x=encode_scalar(nonce_x),
        answer_y=encode_scalar((nonce_y + challenge * secret) % ORDER),
    )
    _read(world, public)


@refused(IssuerPublic, "y", Refused, NO_KNOWLEDGE)
def y_exchanged_with_x(world: World) -> None:
    public = world.users.public
    _read(world, altered(public, x=public.y, y=public.x, answer_x=public.answer_y, answer_y=public.answer_x))


@refused(IssuerPublic, "challenge", Refused, NO_KNOWLEDGE)
def group_key_given_out_as_user_key(world: World) -> None:
    _read(world, world.groups["north"].public)


@refused(IssuerPublic, "challenge", Refused, NO_KNOWLEDGE)
def user_key_given_out_as_group_key(world: World) -> None:
    _read(world, world.users.public, Holder.PROXY)


# --- join requests ---


def _issue(world: World, issuer: Issuer, request: JoinRequest, nonce: bytes) -> None:
    credential.issue(world.curve, world.random, issuer.secret, issuer.key, request, nonce)


def _user_join(**change: Callable[[World], object]) -> Callable[[World], None]:
    return lambda world: _issue(
        world,
        world.users,
        altered(world.alice.request, **{field: value(world) for field, value in change.items()}),
        world.alice.nonce,
    )


def _proxy_join(**change: Callable[[World], object]) -> Callable[[World], None]:
    return lambda world: _issue(
        world,
        world.groups["north"],
        altered(world.removed.request, **{field: value(world) for field, value in change.items()}),
        world.removed.nonce,
    )


for _join, _who in ((_user_join, "of a user"), (_proxy_join, "of a proxy")):
    alteration(JoinRequest, "nonce", Refused, "another nonce", _who, _join(nonce=lambda world: world.bob.nonce))
    for _field in ("public", "challenge", "answer"):
        alteration(
            JoinRequest,
            _field,
            Refused,
            NO_SECRET,
            _who,
            _join(**{_field: lambda world, _field=_field: getattr(world.bob.request, _field)}),
        )
alteration(
    JoinRequest,
    "opening",
    Refused,
    "by proxies, and by proxies only",
    "missing",
    _proxy_join(opening=lambda world: None),
)
alteration(
    JoinRequest,
    "opening",
    Refused,
    NO_SECRET,
    "of another proxy",
    _proxy_join(opening=lambda world: world.proxies["north"].request.opening),
)


@refused(Renewal, "join", Refused, NO_SECRET)
def renewal_of_another_member(world: World) -> None:
    """T is no secret of the authority's: whoever knows it only cannot renew with it."""
    request = credential.join(world.curve, world.random, 7, world.other_users.key, world.alice.nonce)
    _issue(world, world.other_users, altered(request, public=world.alice.request.public), world.alice.nonce)


@refused(Renewal, "issuer", Refused, NO_SECRET)
def renewal_turned_to_another_issuer(world: World) -> None:
    _issue(world, world.other_users, world.alice.request, world.alice.nonce)


@refused(JoinRequest, "nonce", Refused, NO_SECRET)
def proof_for_an_older_nonce(world: World) -> None:
    """A recorded request is sent again, with the new nonce written into it."""
    _issue(world, world.users, altered(world.alice.request, nonce=world.bob.nonce), world.bob.nonce)


@refused(JoinRequest, "opening", Refused, "by proxies, and by proxies only")
def opening_sent_by_a_user(world: World) -> None:
    """Proven anew: a user who would make itself traceable is not let in."""
    secret = world.alice.credential.secret
    opening = (secret * world.users.key.y).encode()
    _issue(world, world.users, prove_join(world, world.users.key, secret, bytes(32), opening), bytes(32))


@refused(JoinRequest, "opening", Refused, "opening key does not belong to the public key")
def opening_of_another_secret(world: World) -> None:
    """Proven anew: the proof of sk is right, T~ is another's, so that removal would never find this proxy."""
    issuer, secret = world.groups["north"], credential.new_secret(world.random)
    opening = world.removed.request.opening
    _issue(world, issuer, prove_join(world, issuer.key, secret, bytes(32), opening), bytes(32))


@refused(JoinRequest, "opening", Refused, "opening key does not belong to the public key")
def opening_under_another_group(world: World) -> None:
    issuer, secret = world.groups["north"], credential.new_secret(world.random)
    opening = (secret * world.groups["south"].key.y).encode()
    _issue(world, issuer, prove_join(world, issuer.key, secret, bytes(32), opening), bytes(32))


@refused(JoinRequest, "public", Refused, NO_SECRET)
def public_made_of_anothers(world: World) -> None:
    """T' = T + g with the answer moved along: a rogue key, stopped because T is in the challenge."""
    request = world.alice.request
    public = world.curve.decode_g1(request.public, "T") + world.curve.g1
    answer = int.from_bytes(request.answer, "big") + int.from_bytes(request.challenge, "big")
    moved = altered(request, public=public.encode(), answer=encode_scalar(answer % ORDER))
    _issue(world, world.users, moved, world.alice.nonce)


@refused(UserJoin, "issuer", Refused, NO_SECRET)
def join_under_another_issuer(world: World) -> None:
    _issue(world, world.other_users, world.alice.request, world.alice.nonce)


@refused(UserJoin, "join", Refused, "another nonce")
def join_of_another_user(world: World) -> None:
    _issue(world, world.users, world.bob.request, world.alice.nonce)


# --- issued credentials ---


def _accept(world: World, issued: Issued) -> None:
    credential.accept(world.curve, world.alice.credential.secret, world.users.key, issued)


@refused(Issued, "s1", Refused, NOT_VALID)
def s1_of_another(world: World) -> None:
    _accept(world, altered(world.alice.issued, s1=world.bob.issued.s1))


@refused(Issued, "s2", Refused, NOT_VALID)
def s2_of_another(world: World) -> None:
    _accept(world, altered(world.alice.issued, s2=world.bob.issued.s2))


@refused(Issued, "s2", Refused, NOT_VALID)
def credential_of_another(world: World) -> None:
    _accept(world, world.bob.issued)


@refused(Issued, "s2", Refused, NOT_VALID)
def credential_under_a_key_for_this_user_alone(world: World) -> None:
    """An issuer that would mark a user by issuing under another key than everybody's."""
    secret, key = world.other_users.secret, world.other_users.key
    secretly = credential.join(world.curve, world.random, world.alice.credential.secret, key, bytes(32))
    _accept(world, credential.issue(world.curve, world.random, secret, key, secretly, bytes(32)))


# --- shows: the three kinds ---


@dataclass(frozen=True)
class Showing:
    """One kind of show, whole: what it says, an honest one, another honest one, and who checks it how."""

    own: Credential
    statement: Statement
    shown: Show
    other: Show
    check: Callable[[Show], None]


def submission_showing(world: World) -> Showing:
    """Alice's show in a submission."""
    one, other = world.contacts[0].submission, world.contacts[1].submission
    statement = contact.submission_statement(world.curve, world.users.key, one.ccm, one.day, contact.ticket_of(one))
    return Showing(
        world.alice.credential,
        statement,
        one.show,
        other.show,
        lambda shown: credential.verify(world.curve, world.random, statement, shown),
    )


def extension_showing(world: World) -> Showing:
    """A proxy's show in a contact record, checked as the agent does."""
    one, other = world.contacts[0], world.contacts[1]
    record, keys = one.record, world.keys.signers
    return Showing(
        world.proxies["north"].credential,
        contact.extension_statement(
            "north", world.groups["north"].key, record.ccm, record.day, record.nullifier, record.partial
        ),
        record.proof,
        other.record.proof,
        lambda shown: contact.check_record(
            world.curve, world.random, keys, one.submission, altered(record, proof=shown)
        ),
    )


def ownership_showing(world: World) -> Showing:
    """Alice's show in a report. The statement is the one for the A, B and D of the honest show."""
    digest = declaration.digest_of(world.report.body, world.parameters_hash)
    shown = world.report.ownership
    return Showing(
        world.alice.credential,
        ownership_statement(world, shown),
        shown,
        world.report_of(world.body).ownership,
        lambda shown: declaration.check_ownership(
            world.curve, world.random, world.users.key, world.body.contacts, digest, shown
        ),
    )


def ownership_statement(world: World, shown: Show) -> Statement:
    """What a show with these A, B and D must say about the report."""
    digest = declaration.digest_of(world.report.body, world.parameters_hash)
    first = (shown.a, shown.b, shown.d)
    weights = declaration._weights(world.users.key, first, digest, len(world.body.contacts))
    base = declaration._combined_base(world.curve, world.body.contacts, weights)
    return declaration._ownership_statement(world.users.key, base, digest)


SHOWINGS = {"submission": submission_showing, "extension": extension_showing, "ownership": ownership_showing}


def _exchange(showing: Callable[[World], Showing], field: str) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        whole = showing(world)
        whole.check(altered(whole.shown, **{field: getattr(whole.other, field)}))

    return attempt


_NOT_OWNED = "do not all belong to the one who declares"
_NOT_SIGNED = "not signed as it must be"


def _reason(kind: str, moved: bool) -> str:
    if kind == "extension":
        return _NOT_SIGNED
    return _NOT_OWNED if moved else NO_CREDENTIAL


for _kind, _showing in SHOWINGS.items():
    for _field in ("a", "b", "d", "k", "answer"):
        # In a report, the weights of J* and N* depend on A, B and D: the nullifier is wrong at once.
        _moved = _kind == "ownership" and _field in {"a", "b", "d"}
        alteration(
            Show,
            _field,
            Refused,
            _reason(_kind, _moved),
            f"{_kind}, from another show",
            _exchange(_showing, _field),
        )
    if _kind != "extension":
        alteration(
            Show,
            "nullifiers",
            Refused,
            _NOT_OWNED if _kind == "ownership" else NO_CREDENTIAL,
            f"{_kind}, from another show",
            _exchange(_showing, "nullifiers"),
        )
        alteration(
            Show,
            "commitments",
            Refused,
            NO_CREDENTIAL,
            f"{_kind}, from another show",
            _exchange(_showing, "commitments"),
        )


@refused(Show, "nullifiers", Malformed, "exactly 0 nullifiers")
def extension_with_a_nullifier(world: World) -> None:
    whole = extension_showing(world)
    whole.check(altered(whole.shown, nullifiers=(world.contacts[0].record.nullifier,)))


@refused(Show, "commitments", Malformed, "exactly 2 nullifiers")
def submission_with_four_commitments(world: World) -> None:
    whole = submission_showing(world)
    whole.check(altered(whole.shown, commitments=whole.shown.commitments * 2))


@refused(Show, "nullifiers", Malformed, "exactly 2 nullifiers")
def submission_without_nullifier(world: World) -> None:
    whole = submission_showing(world)
    whole.check(altered(whole.shown, nullifiers=(), commitments=()))


@refused(Show, "nullifiers", Refused, _NOT_OWNED)
def ownership_with_two_nullifiers(world: World) -> None:
    whole = ownership_showing(world)
    twice = whole.shown.nullifiers * 2
    whole.check(altered(whole.shown, nullifiers=twice, commitments=whole.shown.commitments * 2))


# --- shows proven anew around the altered part: each reaches the one equation that is meant for it ---


def _recipe_of(world: World, whole: Showing) -> Recipe:
    return honest_recipe(world, whole.own.secret, whole.own.s1, whole.own.s2)


def _other_a(world: World, recipe: Recipe) -> Recipe:
    a = other_than(world, recipe.a)
    return replace(recipe, a=a, d=recipe.secret * a)


def _other_b(world: World, recipe: Recipe) -> Recipe:
    return replace(recipe, b=other_than(world, recipe.b))


def _other_d(world: World, recipe: Recipe) -> Recipe:
    """The credential shown with a secret it is not on: what would give a user a second nullifier."""
    secret = credential.new_secret(world.random)
    return replace(recipe, secret=secret, d=secret * recipe.a)


def _other_k(world: World, recipe: Recipe) -> Recipe:
    return replace(recipe, k=other_than(world))


def _other_answer(world: World, recipe: Recipe) -> Recipe:
    return replace(recipe, answer_more=1)


def _other_nullifier(world: World, recipe: Recipe) -> Recipe:
    return replace(recipe, nullifiers=(other_than(world),))


def _other_commitment(world: World, recipe: Recipe) -> Recipe:
    return replace(recipe, commitments=(other_than(world),))


# field → the change, and which of (A-equation, base equation, pairing) it breaks and no other
CHANGES: dict[str, tuple[Callable[[World, Recipe], Recipe], set[str]]] = {
    "a": (_other_a, {"pairing"}),
    "b": (_other_b, {"pairing"}),
    "d": (_other_d, {"pairing"}),
    "k": (_other_k, {"secret"}),
    "answer": (_other_answer, {"secret", "base"}),
    "nullifiers": (_other_nullifier, {"base"}),
    "commitments": (_other_commitment, {"base"}),
}


def proven_anew(world: World, kind: str, field: str) -> tuple[Showing, Statement, Show]:
    """A show of this kind with this part exchanged and all the rest made to fit it."""
    whole = SHOWINGS[kind](world)
    recipe = CHANGES[field][0](world, _recipe_of(world, whole))
    statement = whole.statement
    if kind == "ownership":
        first = altered(whole.shown, a=recipe.a.encode(), b=recipe.b.encode(), d=recipe.d.encode())
        statement = ownership_statement(world, first)
    return whole, statement, prove(world, statement, recipe)


def _anew(kind: str, field: str) -> Callable[[World], None]:
    def attempt(world: World) -> None:
        whole, _, shown = proven_anew(world, kind, field)
        whole.check(shown)

    return attempt


for _kind in SHOWINGS:
    for _field in CHANGES:
        if _kind == "extension" and _field in {"nullifiers", "commitments"}:
            continue
        # The other secret, and any other nullifier, is noticed by its N not being N*.
        _moved = _kind == "ownership" and _field in {"d", "nullifiers"}
        alteration(
            Show,
            _field,
            Refused,
            _reason(_kind, _moved),
            f"{_kind}, proven anew",
            _anew(_kind, _field),
        )


# --- shows moved to another purpose ---


@refused(Show, "answer", Refused, NO_CREDENTIAL)
def submission_used_as_ownership_would_be(world: World) -> None:
    whole = submission_showing(world)
    moved = replace(whole.statement, purpose=credential.Purpose.OWNERSHIP)
    credential.verify(world.curve, world.random, moved, whole.shown)


@refused(Show, "answer", Refused, _NOT_SIGNED)
def user_credential_shown_as_a_proxys(world: World) -> None:
    """A user signs its own contact record with its user credential."""
    whole, own = extension_showing(world), world.alice.credential
    whole.check(prove(world, whole.statement, honest_recipe(world, own.secret, own.s1, own.s2)))


@refused(Show, "answer", Refused, _NOT_SIGNED)
def proxy_of_another_group(world: World) -> None:
    whole, own = extension_showing(world), world.proxies["south"].credential
    whole.check(prove(world, whole.statement, honest_recipe(world, own.secret, own.s1, own.s2)))


@refused(Show, "answer", Refused, _NOT_SIGNED)
def message_of_another_contact(world: World) -> None:
    whole = extension_showing(world)
    message = hashing.joined(b"north", bytes(32))
    whole.check(credential.show(world.random, whole.own, replace(whole.statement, message=message)))
