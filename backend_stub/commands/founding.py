"""Making a backend: `init`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from backend_stub import settings
from backend_stub.commands.common import AsJson, Folder, assignments, say_json
from backend_stub.commands.passphrase import PassphraseFile
from backend_stub.keyring import passphrases
from backend_stub.operations import founding, policy
from backend_stub.operations.founding import Plan
from backend_stub.operations.policy import Policy
from backend_stub.operations.presets import PRESETS
from protocol.errors import Misuse


def _without_password(context: typer.Context, url: str) -> str:
    source = context.get_parameter_source("database")
    if source is not None and source.name == "COMMANDLINE" and settings.password_in(url):
        raise Misuse(
            "a password on the command line is seen by everybody on this machine; leave it out and put it into "
            "PGPASSWORD or ~/.pgpass, or give the whole URL as SPOT_DATABASE"
        )
    return url


def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="What users see as the authority's name.")] = "Demo Authority",
    host: Annotated[str, typer.Option(help="Where the parts listen.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The authority's; server and proxies take the next ones. 0: any free ones.")
    ] = settings.DEFAULT_PORT,
    groups: Annotated[int, typer.Option(help="How many proxy groups; agents want two.")] = 2,
    proxies_per_group: Annotated[int, typer.Option(help="How many proxies each group has.")] = 1,
    public_url: Annotated[
        str, typer.Option(help="Where agents reach a part, if not at host and port: https://example.org/{name}")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help=f"A parameter, such as limits.epoch=60; lists as JSON. risk=NAME: one of {', '.join(PRESETS)}.",
        ),
    ] = None,
    clock: Annotated[
        str, typer.Option(metavar="SPEED@ANCHOR", help="Sped-up time for a demonstration: 120@1700000000.")
    ] = "",
    publish_every: Annotated[float, typer.Option(help="Seconds between publications.")] = 3600.0,
    pool_wait: Annotated[float, typer.Option(help="Seconds that proxies wait for submissions to mix.")] = 1.0,
    curve: Annotated[
        str, typer.Option(help="arkworks (fast) or py_ecc; the best that is installed if not given.")
    ] = "",
    database: Annotated[
        str,
        typer.Option(
            envvar="SPOT_DATABASE",
            metavar="URL",
            help="A PostgreSQL for authority and server, postgresql://USER@HOST/NAME, instead of SQLite files. Its "
            "password is in PGPASSWORD, ~/.pgpass, or in the URL where that comes from the environment.",
            callback=_without_password,
        ),
    ] = "",
    passphrase: Annotated[
        bool, typer.Option("--passphrase", help="Ask for a passphrase to seal the keys with.")
    ] = False,
    passphrase_file: PassphraseFile = None,
    tls: Annotated[
        bool, typer.Option(help="Whether the parts speak TLS; without, on loopback or behind a web server that does.")
    ] = True,
    system_trust: Annotated[
        bool, typer.Option(help="Agents verify certificates as their system does: for those of a public authority.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Make a backend: its keys, its groups and proxies, and the first parameters.

    Without a passphrase the keys are files that only their owner can read.

    spot-backend init demo --set limits.epoch=60 --set risk.warn_at=1
    """
    plan = Plan(
        name=name,
        host=host,
        port=port,
        groups=groups,
        proxies_per_group=proxies_per_group,
        public_url=public_url,
        policy=policy.changed(Policy(), assignments(set_ or [])),
        clock=clock,
        curve=curve,
        publish_every=publish_every,
        pool_wait=pool_wait,
        tls=tls,
        system_trust=system_trust,
        database=database,
    )
    sealed = passphrase or passphrase_file is not None
    made = asyncio.run(
        founding.found(folder, plan, passphrase=passphrases.new(passphrase_file, str(folder)) if sealed else b"")
    )
    if as_json:
        say_json(
            {
                "authority": made.authority,
                "fingerprint": made.fingerprint,
                "server": made.server,
                "proxies": made.proxies,
            }
        )
        return
    typer.echo(f"authority    {made.authority}\nfingerprint  {made.fingerprint}\n")
    typer.echo(f"Next: spot-backend up {folder}, and in another terminal spot-backend invite {folder}.")
    if not sealed:
        typer.echo(f"The keys are not encrypted, but only their owner can read them: spot-backend passphrase {folder}")
    typer.echo("Users compare the fingerprint when they join: publish it where it cannot be altered.")
