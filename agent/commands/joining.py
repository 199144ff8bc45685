"""Coming and going: `spot join`, `spot leave`."""

from __future__ import annotations

import contextlib
import time
from typing import Annotated

import typer

from agent import account, leaving, service, systemd
from agent import store as storage
from agent.commands import views
from agent.commands.desk import Desk, Json, Yes, finish, out, show
from protocol import chain
from protocol.errors import Misuse, NotJoined, SpotError


def join_command(
    context: typer.Context,
    url: Annotated[str, typer.Argument(help="The authority, such as https://spot.example.org")],
    invite: Annotated[str, typer.Option(help="Your invitation; asked for if not given.")] = "",
    fingerprint: Annotated[str, typer.Option(help="The authority's fingerprint, if you have it.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Join an authority: get its keys, compare its fingerprint, register.

    The fingerprint is what stands between you and a false authority: compare it with what the authority
    published on paper or on its web site.
    """
    desk: Desk = context.obj
    curve = desk.curve()
    url = url.rstrip("/")
    followed = finish(account.fetch_authority(url))
    genesis, now = followed[0][0], followed[-1][0]
    seen = chain.fingerprint(genesis.head.hash)
    if not as_json:
        out.print(f"Authority    {views.plain(now.parameters.authority)}\nFingerprint  {seen}")
    if fingerprint and _plain(fingerprint) != _plain(seen):
        raise Misuse(f"this authority's fingerprint is {seen}, not the one you gave; you may be talking to another one")
    if not (fingerprint or yes) and not typer.confirm("Is this the fingerprint that the authority published?"):
        raise Misuse("not joined; ask the authority for its fingerprint")
    invite = invite or typer.prompt("Invitation")
    store = storage.create_store(desk.folder, desk.settings.key, desk.chance.randbytes)
    try:
        finish(account.join(curve, desk.chance, store, url, invite, followed, desk.clock.now()))
    finally:
        store.close()
    facts = {"authority": now.parameters.authority, "fingerprint": seen, "data_dir": str(desk.folder)}
    show(as_json, facts, f"Joined. Data in {views.plain(str(desk.folder))}. Next: spot run")


def _plain(fingerprint: str) -> str:
    return "".join(character for character in fingerprint.upper() if character.isalnum())


def leave_command(context: typer.Context, yes: Yes = False) -> None:
    """Delete everything this agent keeps: contacts, credential, keys. It cannot be undone.

    The settings file stays. What the backend has of you, nobody there can tell from what it has of
    others; it goes by itself.
    """
    desk: Desk = context.obj
    if leaving.is_left(desk.folder):
        raise NotJoined(f"there is no agent in {desk.folder}")
    if not yes and not typer.confirm(f"Delete the contact list and credential in {desk.folder} for good?"):
        raise Misuse("nothing was deleted")
    with contextlib.suppress(SpotError), desk.store() as store:  # a store that cannot be opened can still be deleted
        store.put(service.STOP, True)
    deadline = time.monotonic() + 30
    while service.is_running(desk.folder):
        if time.monotonic() > deadline:
            raise Misuse("the running agent does not stop; stop it, then run this again")
        time.sleep(0.2)
    leaving.erase(desk.folder)
    out.print("Left: everything is deleted.")
    if systemd.is_installed():
        out.print("The service is still installed; as root: spot service uninstall")
