"""What the authority hands to people, invitations and report codes: made, listed, withdrawn."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from backend_stub.authority import codes, join, report
from backend_stub.authority.codes import HandedOut
from backend_stub.authority.report import ATTEMPTS
from backend_stub.clock import today
from backend_stub.commands.common import EPOCH, AsJson, Folder, say_json, say_table, with_authority
from protocol.encounter import SECONDS_A_DAY
from protocol.errors import Misuse

if TYPE_CHECKING:
    from backend_stub.authority.service import Authority


def invite(
    folder: Folder,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many, one a person.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make invitations: each lets one person join, once. The word "new" may be left out.

    spot-backend invite new demo --count 3
    """

    async def work(opened: Authority) -> list[str]:
        return await join.invite(opened, count)

    fresh = with_authority(folder, work)
    if as_json:
        say_json({"invitations": fresh})
    else:
        typer.echo("\n".join(fresh))


def code(
    folder: Folder,
    onset: Annotated[
        datetime, typer.Option(formats=["%Y-%m-%d"], metavar="YYYY-MM-DD", help="The day when symptoms began.")
    ],
    valid_days: Annotated[int, typer.Option(min=1, max=30, help="How many days it can be used.")] = 2,
    count: Annotated[int, typer.Option(min=1, max=10_000, help="How many, one a person.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Make report codes, each for one diagnosed person. The word "new" may be left out.

    spot-backend code new demo --onset 2026-11-20
    """
    day = (onset.date() - EPOCH).days

    async def work(opened: Authority) -> list[str]:
        if day > today(opened.clock):
            raise Misuse(f"symptoms cannot begin after today, {EPOCH + timedelta(today(opened.clock))}; check the day")
        return [await report.make_code(opened, day, valid_days * SECONDS_A_DAY) for _ in range(count)]

    fresh = with_authority(folder, work)
    if as_json:
        references = [codes.reference_of(one) for one in fresh]
        say_json({"code": fresh[0], "codes": fresh, "references": references, "onset": day})
    else:
        typer.echo("\n".join(fresh))


def list_codes(folder: Folder, as_json: AsJson = False) -> None:
    """Say which report codes were handed out, and what became of them; they themselves are not kept."""

    async def work(opened: Authority) -> list[HandedOut]:
        return await codes.codes(opened)

    found = with_authority(folder, work)
    if as_json:
        say_json([asdict(one) for one in found])
        return
    rows = [{**_row(one), "onset": _date(one.onset), "attempts": f"{one.attempts} of {ATTEMPTS}"} for one in found]
    say_table(rows, as_json)


def list_invitations(folder: Folder, as_json: AsJson = False) -> None:
    """Say which invitations were handed out, and what became of them; they themselves are not kept."""

    async def work(opened: Authority) -> list[HandedOut]:
        return await codes.invitations(opened)

    rows = [_row(one) for one in with_authority(folder, work)]
    say_table(rows, as_json)


Which = Annotated[str, typer.Argument(metavar="WHICH", help="Its reference in the list, or itself.")]


def withdraw_code(folder: Folder, which: Which, as_json: AsJson = False) -> None:
    """Withdraw a report code that was not used.

    spot-backend code withdraw demo 1f3a9c40
    """

    async def work(opened: Authority) -> HandedOut:
        return await codes.withdraw_code(opened, which)

    _say_withdrawn(with_authority(folder, work), as_json)


def withdraw_invitation(folder: Folder, which: Which, as_json: AsJson = False) -> None:
    """Withdraw an invitation that was not used.

    spot-backend invite withdraw demo 1f3a9c40
    """

    async def work(opened: Authority) -> HandedOut:
        return await codes.withdraw_invitation(opened, which)

    _say_withdrawn(with_authority(folder, work), as_json)


def _say_withdrawn(one: HandedOut, as_json: bool) -> None:
    if as_json:
        say_json({"withdrawn": one.reference})
    else:
        typer.echo(f"{one.reference} is withdrawn")


def _row(one: HandedOut) -> dict[str, object]:
    expires = datetime.fromtimestamp(one.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return {"reference": one.reference, "state": one.state, "expires": expires}


def _date(day: int) -> str:
    return str(EPOCH + timedelta(day))
