"""The command `spot-backend`: every command there is, and how it fails."""

from __future__ import annotations

import json
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from backend_stub.commands import (
    backup,
    certificates,
    codes,
    describing,
    founding,
    parameters,
    passphrase,
    proxies,
    rotation,
    running,
    service,
    status,
)
from backend_stub.keyring import memory
from protocol.errors import SpotError

EXAMPLES = """
A small, honest SPOT backend: a health authority with its group managers, a server, and proxies.

\b
  spot-backend init demo            make one in the folder demo
  spot-backend up demo              run all its parts until Ctrl-C
  spot-backend invite demo          an invitation for one person to join
  spot-backend code demo --onset 2026-11-20
                                    a report code for one diagnosed person
  spot-backend status demo          which parts answer, and how much there is
  spot-backend rotate demo server   replace a key; nobody has to join anew
"""


class Making(TyperGroup):
    """Commands about something that is made much more often than listed or withdrawn: `new` may be left out."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `new` before what names none of the commands."""
        if args and args[0] not in self.commands and "--help" not in args[:1]:
            args = ["new", *args]
        return super().parse_args(ctx, args)


def _group(help_text: str, kind: type[TyperGroup] = TyperGroup) -> typer.Typer:
    return typer.Typer(
        cls=kind,
        help=help_text,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
        rich_markup_mode=None,
    )


app = _group(EXAMPLES)
app.command("init")(founding.init)
app.command("up")(running.up)
app.command("service")(service.service)
app.command("backup")(backup.backup)
app.command("restore")(backup.restore)
app.command("passphrase")(passphrase.passphrase)
app.command("status")(status.show_status)
app.command("certificates")(certificates.show_certificates)
app.command("openapi")(describing.show_openapi)
app.command("rotate", help=rotation.HELP)(rotation.rotate)
app.command("end")(rotation.end)

invite_app = _group("Invitations: each lets one person join.", Making)
invite_app.command("new")(codes.invite)
invite_app.command("list")(codes.list_invitations)
invite_app.command("withdraw")(codes.withdraw_invitation)
app.add_typer(invite_app, name="invite")

code_app = _group("Report codes: each lets one diagnosed person declare.", Making)
code_app.command("new")(codes.code)
code_app.command("list")(codes.list_codes)
code_app.command("withdraw")(codes.withdraw_code)
app.add_typer(code_app, name="code")

authority_app = _group("The health authority by itself.")
authority_app.command("run")(running.run_authority)
app.add_typer(authority_app, name="authority")

server_app = _group("The server by itself.")
server_app.command("run")(running.run_server)
server_app.command("new-key")(rotation.new_server_key)
app.add_typer(server_app, name="server")

proxy_app = _group("A proxy by itself, and who is a proxy.")
proxy_app.command("run")(running.run_proxy)
proxy_app.command("add")(proxies.add_proxy)
proxy_app.command("invite")(proxies.invite_proxy)
proxy_app.command("request")(proxies.request_admission)
proxy_app.command("admit")(proxies.admit_proxy)
proxy_app.command("accept")(proxies.accept_admission)
proxy_app.command("remove")(proxies.remove_proxy)
proxy_app.command("list")(proxies.list_proxies)
proxy_app.command("open")(proxies.open_signature)
app.add_typer(proxy_app, name="proxy")

parameters_app = _group("What the authority fixes for everybody.")
parameters_app.command("show")(parameters.show_parameters)
parameters_app.command("set")(parameters.set_parameters)
app.add_typer(parameters_app, name="parameters")


def main() -> None:
    """Run the command; an expected error is one line and an exit code."""
    memory.keep_off_disk()
    try:
        app(prog_name="spot-backend")
    except SpotError as error:
        if "--json" in sys.argv:
            typer.echo(json.dumps({"error": error.slug, "detail": error.text}))
        typer.echo(f"spot-backend: {error.text}", err=True)
        sys.exit(error.exit_code)
