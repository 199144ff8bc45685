"""Who is a proxy: `proxy add`, `invite`, `request`, `admit`, `accept`, `remove`, `list` and `open`."""

from __future__ import annotations

import secrets
import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from backend_stub import settings
from backend_stub.authority import admission, groups, openings
from backend_stub.authority.admission import Admission, Invitation, Request
from backend_stub.commands.common import AsJson, Folder, PartFolder, say_json, say_table, with_authority
from backend_stub.operations import running
from protocol import chain
from protocol.errors import Misuse

if TYPE_CHECKING:
    from backend_stub.authority.groups import Listed
    from backend_stub.authority.service import Authority
    from protocol.parameters import Trusted

Group = Annotated[str, typer.Option(help="The group to join, such as group-1.")]
Name = Annotated[str, typer.Option(help="The proxy's name, such as group-1-2.")]
Out = Annotated[Path, typer.Option(help="The file to write, for the other side; it holds no secret.")]
Host = Annotated[str, typer.Option(help="Where the proxy listens.")]


def add_proxy(
    folder: Folder,
    group: Group,
    name: Name,
    url: Annotated[str, typer.Option(help="Where agents reach it; where it listens, if not given.")] = "",
    host: Host = "",
    port: Annotated[int, typer.Option(help="Where it listens; the first port after the other parts' if 0.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Admit a new proxy on this machine: its folder, its credential, and parameters with it.

    spot-backend proxy add demo --group group-1 --name group-1-2 --url https://two.example.org

    It can run at once; agents use it as soon as they have the new parameters. For a proxy on another machine:
    proxy invite, proxy request, proxy admit, proxy accept.
    """
    home = folder / groups.proxy_folder(name)

    async def work(opened: Authority) -> None:
        others = [settings.read_part(folder / part) for part in settings.parts(folder)]
        where = host or opened.told.host
        at = port or max(one.port for one in others) + 1
        server = _server_url(folder)
        invited = await groups.invite(
            opened, name, group, url or settings.local_url(where, at, tls=opened.told.tls), server, opened.told.url
        )
        told = admission.proxy_settings(invited, where, at)
        request = admission.ask(opened.curve, opened.random, home, invited, told)
        try:
            admitted = await groups.admit(opened, request)
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
        admission.accept(opened.curve, home, admitted)

    with_authority(folder, work)
    if as_json:
        say_json({"added": name, "folder": str(home)})
    else:
        typer.echo(f"{name} is a member of {group}. Start it: spot-backend proxy run {home}")


def _server_url(folder: Path) -> str:
    if not (folder / running.SERVER / settings.FILE).exists():
        raise Misuse(f"the server is not in {folder}; say where it is reached: --server URL")
    return settings.read_part(folder / running.SERVER).url


def invite_proxy(
    folder: Folder,
    group: Group,
    name: Name,
    url: Annotated[str, typer.Option(help="Where agents will reach the proxy.")],
    out: Out,
    server: Annotated[str, typer.Option(help="Where the proxy reaches the server.")] = "",
) -> None:
    """At the authority: write an invitation for a proxy on another machine.

    spot-backend proxy invite demo --group group-1 --name far --url https://far.example.org --out far.invitation

    Its operator goes on with proxy request. The file holds no secret, but see that nobody alters it on the way.
    """

    async def work(opened: Authority) -> Invitation:
        return await groups.invite(opened, name, group, url, server or _server_url(folder), opened.told.public_url)

    invited = with_authority(folder, work)
    admission.write_file(invited, out)
    typer.echo(f"fingerprint  {_fingerprint(invited)}\n")
    typer.echo(f"Next, on the proxy's machine: spot-backend proxy request {out.name} DIR --out {name}.request")


def _fingerprint(invited: Invitation) -> str:
    return chain.fingerprint(bytes.fromhex(invited.genesis))


def request_admission(
    invitation: Annotated[Path, typer.Argument(metavar="INVITATION", help="The file from the authority.")],
    folder: PartFolder,
    out: Out,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Where the proxy listens.")] = settings.DEFAULT_PORT,
) -> None:
    """At the proxy: make its folder and its secret key, and write the request for the authority.

    spot-backend proxy request far.invitation /srv/proxy --host 0.0.0.0 --port 443 --out far.request
    """
    invited = admission.read_file(Invitation, invitation)
    told = admission.proxy_settings(invited, host, port)
    request = admission.ask(told.open_curve(), secrets.token_bytes, folder, invited, told)
    admission.write_file(request, out)
    typer.echo(f"authority    {invited.authority}\nfingerprint  {_fingerprint(invited)}\n")
    typer.echo("Compare the fingerprint with the one that the authority publishes. Next, at the authority:")
    typer.echo(f"spot-backend proxy admit DIR {out.name} --out {invited.name}.admission")


def admit_proxy(
    folder: Folder,
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="The file from the proxy.")],
    out: Out,
) -> None:
    """At the authority: admit a proxy that was invited, and sign parameters with it.

    spot-backend proxy admit demo far.request --out far.admission
    """
    asked = admission.read_file(Request, request)

    async def work(opened: Authority) -> Admission:
        return await groups.admit(opened, asked)

    admission.write_file(with_authority(folder, work), out)
    typer.echo(f"{asked.name} is a member. Next, on its machine: spot-backend proxy accept DIR {out.name}")


def accept_admission(
    folder: PartFolder,
    admitted: Annotated[Path, typer.Argument(metavar="ADMISSION", help="The file from the authority.")],
) -> None:
    """At the proxy: take the credential; then it can run.

    spot-backend proxy accept /srv/proxy far.admission
    """
    curve = settings.read(settings.ProxySettings, folder).open_curve()
    admission.accept(curve, folder, admission.read_file(Admission, admitted))
    typer.echo(f"The proxy can run: spot-backend proxy run {folder}")


def remove_proxy(
    folder: Folder, name: Annotated[str, typer.Argument(help="Such as group-1-1.")], as_json: AsJson = False
) -> None:
    """Remove a proxy from its group: agents stop using it, and nothing that it signed can be declared any more.

    spot-backend proxy remove demo group-1-1

    That includes what it signed before, since nobody can tell when it signed. Agents whose declaration is refused for
    it have the contacts signed anew through other proxies, and can then declare with the same code.
    """

    async def work(opened: Authority) -> Trusted | None:
        return await groups.remove(opened, name)

    after = with_authority(folder, work)
    number = None if after is None else after.head.number
    if as_json:
        say_json({"removed": name, "parameters": number})
    elif number is None:
        typer.echo(f"{name} is not invited any more")
    else:
        typer.echo(f"{name} is removed; parameters number {number} are made")


def list_proxies(folder: Folder, as_json: AsJson = False) -> None:
    """Say who is a proxy, was one, or is invited."""

    async def work(opened: Authority) -> list[Listed]:
        return await groups.listed(opened)

    say_table([asdict(one) for one in with_authority(folder, work)], as_json)


def open_signature(
    folder: Folder,
    record: Annotated[str, typer.Argument(metavar="RECORD", help="A file, - for standard input, hex or base64.")],
    reason: Annotated[str, typer.Option(help="Why; it is written down with your name.")] = "",
    as_json: AsJson = False,
) -> None:
    """Say which proxy signed a contact record. That it was asked, by whom and when, goes into openings.log.

    spot-backend proxy open demo record.bin --reason "complaint of 3 May"

    RECORD is a contact record, or a declared contact, as MessagePack. Users cannot be found so: there is no key for it.
    """

    async def work(opened: Authority) -> Listed | None:
        return await openings.open_record(opened, openings.read_record(_given(record)), reason)

    found = with_authority(folder, work)
    if as_json:
        say_json({"proxy": None if found is None else asdict(found)})
    elif found is None:
        typer.echo(
            "none of the proxies that were ever admitted here signed this record: tell the operator of its group"
        )
    else:
        typer.echo(f"{found.name} of {found.group}, {found.url} ({found.state})")


def _given(record: str) -> bytes:
    if record == "-":
        return sys.stdin.buffer.read(openings.RECORD_LIMIT)
    try:
        return Path(record).read_bytes()
    except OSError:  # no file's name, then: the record itself
        return record.encode()
