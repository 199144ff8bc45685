"""Replacing keys: `rotate`, `server new-key`, and `end`, which ends a membership."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from backend_stub import settings
from backend_stub.authority import join, rotation
from backend_stub.commands.common import EPOCH, AsJson, Folder, PartFolder, say_json, with_authority
from backend_stub.keyring import keys
from backend_stub.operations import running
from protocol.errors import Misuse

if TYPE_CHECKING:
    from pathlib import Path

    from backend_stub.authority.service import Authority

HELP = """Replace a key, step by step, without anybody having to join anew.

\b
  spot-backend rotate demo issuer           users' credentials: agents renew by themselves
  spot-backend rotate demo server           what the server signs contacts with
  spot-backend rotate demo group group-1    a proxy group's: its proxies get new credentials
  spot-backend rotate demo proxy group-1-1  one proxy's credential
  spot-backend rotate demo publication      what publications are signed with
  spot-backend rotate demo seal             what reports are sealed to
  spot-backend rotate demo chain            what parameters are signed with

It says what happens when. Interrupted, it can be run again. The backend may run meanwhile.
"""


class Key(enum.Enum):
    """What can be replaced."""

    ISSUER = "issuer"
    SERVER = "server"
    GROUP = "group"
    PROXY = "proxy"
    PUBLICATION = "publication"
    SEAL = "seal"
    CHAIN = "chain"


SAID = {
    Key.ISSUER: "tomorrow its period begins; agents renew before the old one ends, after which its secret is destroyed",
    Key.PUBLICATION: "the next publication is signed with it; the old secret is destroyed",
    Key.SEAL: "agents seal to it from now on; the old secret goes once no parameters with it are valid any more",
    Key.CHAIN: "the next parameters are signed with it; the old secret is destroyed",
    Key.PROXY: "the proxy signs with it as soon as it has these parameters, and destroys the old one",
}


def rotate(
    folder: Folder,
    key: Annotated[Key, typer.Argument(help="Which key.")],
    name: Annotated[str, typer.Argument(help="Of a group or proxy.")] = "",
    public: Annotated[str, typer.Option(help="Of a server elsewhere: what server new-key said there.")] = "",
    as_json: AsJson = False,
) -> None:
    """Replace a key; see --help."""
    if bool(name) is not (key in (Key.GROUP, Key.PROXY)):
        raise Misuse("a group or proxy is named, and nothing else is: spot-backend rotate demo group group-1")
    number, said = with_authority(folder, lambda opened: _rotate(opened, folder, key, name, public))
    if as_json:
        say_json({"key": key.value, "name": name, "parameters": number, "next": said})
    else:
        typer.echo(f"the new {key.value} key is announced in parameters number {number}:\n{said}")


async def _rotate(opened: Authority, folder: Path, key: Key, name: str, public: str) -> tuple[int, str]:
    if key is Key.SERVER:
        after = await rotation.rotate_server(opened, _server_key(opened, folder, public))
        day = EPOCH + timedelta(after.parameters.server_keys[-2].until_day or 0)
        minutes = rotation.AHEAD // 60
        said = (
            f"the server signs with it in {minutes} minutes, and destroys the old one then; that one counts until {day}"
        )
        return after.head.number, said
    if key is Key.GROUP:
        moved = await rotation.rotate_group(opened, folder, name)
        said = f"it is that of the group {moved.group}; in it are now: {', '.join(moved.proxies) or 'no proxies yet'}"
        if moved.away:
            said += f"; elsewhere, to be removed and invited into it: {', '.join(moved.away)}"
        return moved.trusted.head.number, said
    if key is Key.PROXY:
        after = await rotation.rotate_proxy(opened, folder, name)
    else:
        work = {
            Key.ISSUER: rotation.rotate_issuer,
            Key.PUBLICATION: rotation.rotate_publication,
            Key.SEAL: rotation.rotate_seal,
            Key.CHAIN: rotation.rotate_chain,
        }[key]
        after = await work(opened)
    return after.head.number, SAID[key]


def _server_key(opened: Authority, folder: Path, public: str) -> bytes:
    if public:
        try:
            return bytes.fromhex(public)
        except ValueError:
            raise Misuse("a server key is 192 hexadecimal digits, as server new-key says them") from None
    if not (folder / running.SERVER).is_dir():
        raise Misuse(
            "the server is not in this folder; run there: spot-backend server new-key, then give --public here"
        )
    return rotation.new_server_secret(opened.curve, opened.random, folder / running.SERVER)


def new_server_key(folder: PartFolder, as_json: AsJson = False) -> None:
    """Make a new key for a server on a machine of its own, and say its public part, for rotate at the authority.

    spot-backend server new-key /srv/spot/server

    Copy the folder `keys` to every machine that the same server runs on before the authority announces the key.
    """
    import secrets

    told = settings.read(settings.ServerSettings, folder)
    keys.check(folder)
    public = rotation.new_server_secret(told.open_curve(), secrets.token_bytes, folder).hex()
    if as_json:
        say_json({"public": public})
    else:
        typer.echo(public)


def end(
    folder: Folder,
    invitation: Annotated[str, typer.Argument(help="By which the member joined.")],
    erase: Annotated[bool, typer.Option("--erase", help="Forget at once what is kept of this member.")] = False,
    as_json: AsJson = False,
) -> None:
    """End a membership, of a lost device: it renews no more, and what it has ends with its period.

    With --erase also of whoever asks that what the authority keeps of them be deleted.

    spot-backend end demo ABCD-EFGH-IJKL-2345
    """
    with_authority(folder, lambda opened: join.end(opened, invitation, erase=erase))
    if as_json:
        say_json({"ended": True, "erased": erase})
    else:
        kept = ", and nothing is kept of it" if erase else ""
        typer.echo(f"this member renews no more{kept}; invite the person anew")
