"""The command `spot`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import msgspec
import typer

from agent import account, database, exposure, moving, power, report, sealing, service, views
from agent import plot as drawing
from agent import store as storage
from agent.clock import day_number, day_text
from agent.desk import Desk, Json, Yes, err, finish, out, show
from agent.doctor_cli import doctor_command
from agent.explaining import explained, explanation_facts, explanation_table, explanation_text
from agent.moving_cli import export_command, import_command
from agent.notify import open_manager
from agent.service import Service, ServiceStatus
from agent.service_cli import service_app
from agent.settings import Settings, default_folder, read_settings
from agent.store import State, Store
from agent.sync import PUBLICATIONS, SYNC, Sync, SyncStatus
from protocol import chain, messages
from protocol.errors import Misuse, NotJoined, SpotError, StorageError

if TYPE_CHECKING:
    from protocol.curve import Curve

EXIT_CODES = """Exit codes: 0 done; 2 asked for something that cannot be done; 10 malformed data; 12 refused; 13 code or
invitation refused; 14 the authority's keys changed; 20 backend unreachable; 30 not joined; 31 in use by another
process; 32 the store or the disk; 33 the radio; 34 moved to another device; 40 the doctor found a fault;
130 interrupted."""

app = typer.Typer(
    name="spot",
    help="Contact tracing in which false alerts cannot be made up, on your own device.\n\n"
    "A first day:  spot join URL --invite CODE,  then  spot run,  and now and then  spot status  and  spot exposure.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


@app.callback()
def prepare(
    context: typer.Context,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", help="Where this agent keeps its data.", envvar="SPOT_DATA_DIR", show_default="yours"
        ),
    ] = None,
) -> None:
    """Contact tracing in which false alerts cannot be made up, on your own device."""
    folder = data_dir or default_folder()
    settings = read_settings(folder)
    context.obj = Desk(folder, settings, settings.open_clock(), random.SystemRandom())


@app.command()
def join(
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


@app.command()
def run(
    context: typer.Context,
    radio: Annotated[str, typer.Option(help="auto, bluez or simulated; wins over the settings.")] = "",
    adapter: Annotated[str, typer.Option(help="Such as hci0; wins over the settings.")] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Say more on standard error.")] = False,
) -> None:
    """Be on air and keep the contact list, until Ctrl-C.

    The other commands work beside it.
    """
    desk: Desk = context.obj
    given = {"radio": radio, "adapter": adapter}
    desk = Desk(desk.folder, _with(desk.settings, given), desk.clock, desk.chance)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    # Other libraries' debug output would hold addresses; only our own rooms say more.
    for room in ("agent", "ble"):
        logging.getLogger(room).setLevel(logging.DEBUG if verbose else logging.INFO)
    curve = desk.curve()
    with desk.store() as store:
        asyncio.run(_run(desk, curve, store))


def _with(settings: Settings, given: dict[str, str]) -> Settings:
    values = msgspec.structs.asdict(settings) | {name: value for name, value in given.items() if value}
    try:
        return msgspec.convert(values, Settings)
    except msgspec.ValidationError as error:
        raise Misuse(f"this option is wrong: {error}; see: spot run --help") from None


async def _run(desk: Desk, curve: Curve, store: Store) -> None:
    """Run until the task is cancelled by a signal."""
    task = asyncio.current_task()
    if task is not None and sys.platform != "win32":
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    async with desk.radio() as radio:
        worker = Service(
            store,
            radio,
            curve,
            desk.chance,
            desk.clock,
            power_cycle=desk.settings.power_cycle,
            manager=open_manager(),
        )
        with contextlib.suppress(asyncio.CancelledError):
            await worker.run(desk.settings.correction, lambda: power.duty_of(desk.settings.duty))


@app.command()
def pause(context: typer.Context) -> None:
    """Be silent and deaf until `spot resume`; also across restarts."""
    desk: Desk = context.obj
    with desk.store() as store:
        store.put(service.PAUSED, True)
    out.print("Paused: nothing is broadcast or heard. Go on with: spot resume")


@app.command()
def resume(context: typer.Context) -> None:
    """Be on air again after `spot pause`."""
    desk: Desk = context.obj
    with desk.store() as store:
        store.put(service.PAUSED, None)
    out.print("Resumed." if service.is_running(desk.folder) else "Resumed; start the agent with: spot run")


@app.command()
def contacts(
    context: typer.Context,
    day: Annotated[str, typer.Option(help="Only this UTC day, such as 2026-11-22.")] = "",
    as_json: Json = False,
) -> None:
    """Show the contact list."""
    desk: Desk = context.obj
    number = _day(day) if day else None
    with desk.store() as store:
        risk = account.read_trusted(store).parameters.risk
        found = store.encounters(day=number)
    table = views.contact_table(found, risk) if found else "No contacts yet. Is the agent running? See: spot status"
    show(as_json, [views.contact_facts(one, risk) for one in found], table)


def _day(text: str) -> int:
    try:
        return day_number(text)
    except ValueError:
        raise Misuse(f"a day is written like 2026-11-22, not {text!r}") from None


@app.command()
def sync(context: typer.Context, as_json: Json = False) -> None:
    """Look for news from the authority now, and submit the contacts whose time has come.

    `spot run` does this by itself. Contacts have random delays, so that their times tell nothing; they are kept here
    too.
    """
    desk: Desk = context.obj
    curve = desk.curve()
    with desk.store() as store:
        worker = Sync(curve, desk.chance, store, desk.clock)
        with err.status("syncing"):
            progress = finish(worker.step(refresh=True))
        status = worker.status()
        waiting = len(store.encounters(state=State.WAITING)) + len(store.encounters(state=State.PENDING))
    show(
        as_json,
        views.progress_facts(progress) | {"waiting": waiting, "problem": status.problem, "routes": status.routes},
        f"Sync: {views.progress_text(progress, waiting)}",
        f"Backend: {views.sync_text(status)}",
    )
    if status.failures:
        raise typer.Exit(SpotError.exit_code)


@app.command()
def declare(
    context: typer.Context,
    code: Annotated[str, typer.Argument(help="The report code; asked for if not given.")] = "",
    days: Annotated[str, typer.Option(help="Only these UTC days, such as 2026-11-20,2026-11-21.")] = "",
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Declare an infection: send the signed contacts of days you choose to the authority.

    Shows first what would leave the device. Running it again with the same code after a failure is safe.
    """
    desk: Desk = context.obj
    curve = desk.curve()
    code = code or typer.prompt("Report code")
    with desk.store() as store:
        account.check_not_moved(store)
        worker = report.Reporter(curve, desk.chance, store, Sync(curve, desk.chance, store, desk.clock), desk.clock)
        stored = worker.outstanding(code)
        if stored is None:
            chosen = _choose_days(store, days, yes, as_json)
            with err.status("proving that these contacts are yours"):
                stored = finish(worker.make(code, chosen))
        elif not as_json:
            out.print(f"Taking up the report made before ({len(stored.encounters)} contacts).")
        try:
            with err.status("sending; the authority checks every contact"):
                receipt = finish(worker.send(stored))
        except report.ReportRefused as error:
            if error.refusals:
                err.print(views.refusal_table(error.refusals))
            raise
    facts = views.receipt_facts(receipt, len(stored.encounters))
    published = ", ".join(facts["published_days"]) or "none: outside the infectious days"
    show(
        as_json,
        facts,
        views.facts_table(
            "Accepted",
            [
                ("Receipt", views.plain(receipt.reference)),
                ("Contacts", str(len(stored.encounters))),
                ("Days to be published", published),
            ],
        ),
        "Thank you. Those who were near you will be warned, and will not learn by whom.",
    )


def _choose_days(store: Store, days: str, yes: bool, as_json: bool) -> set[int]:
    """The days to declare, shown and agreed to. Raises Misuse."""
    parameters = account.read_trusted(store).parameters
    found = report.declarable(store, parameters)
    if not found:
        raise Misuse(
            "there is no signed contact near enough to declare; see: spot contacts (those waiting need: spot sync)"
        )
    chosen = {_day(day.strip()) for day in days.split(",")} if days else set(found)
    if unknown := chosen - set(found):
        raise Misuse(f"there is nothing to declare on {', '.join(map(day_text, sorted(unknown)))}; see: spot contacts")
    if not as_json:
        selection = {day: found[day] for day in chosen}
        out.print(views.declaration_table(views.declaration_facts(selection, parameters.risk)))
        out.print(
            f"\nWhat leaves this device, sealed for {views.plain(parameters.authority)} and sent through a proxy:\n"
            "  the report code, and for each contact above its signed record and the secret of that one meeting.\n"
            "What does not: who you are, who they were, where it was, how near, any other contact.\n"
        )
        if left_out := report.unsigned(store, parameters):
            out.print(views.left_out_text(left_out))
    if not yes and not typer.confirm("Send it?"):
        raise Misuse("nothing was sent")
    return chosen


@app.command(name="exposure")
def exposure_command(
    context: typer.Context,
    explain: Annotated[
        bool, typer.Option("--explain", help="Each warned day's minutes, nearness and infectiousness, multiplied out.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw them: a .png, .svg or .pdf file (needs the extra `plot`).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show whether somebody you were near has declared an infection, and how much of a risk it was."""
    desk: Desk = context.obj
    with desk.store() as store:
        account.check_not_moved(store)  # "none known" would be a false comfort
        parameters = account.read_trusted(store).parameters
        risks = exposure.day_risks(store.exposures(), parameters.risk)
    if plot is not None:
        drawing.draw(plot, risks, parameters.risk)
    facts = views.exposure_facts(risks, parameters)
    table = views.exposure_table(risks, parameters) if risks else "No exposure known."
    warned = [day["day"] for day in facts["days"] if day["warning"]]
    advice: list[Any] = [
        f"[bold red]Warning[/] for {day}: follow what {views.plain(parameters.authority)} advises." for day in warned
    ]
    if explain:
        facts["explained"] = explanation_facts(risks, parameters.risk)
        advice = [
            *(explanation_table(day) for day in explained(risks)),
            explanation_text(parameters.risk),
            *advice,
        ]
    show(as_json, facts, table, *advice)


@app.command()
def status(context: typer.Context, as_json: Json = False) -> None:
    """Show whether the agent is on air, and how it gets on with the backend."""
    desk: Desk = context.obj
    with desk.store() as store:
        member = store.get(account.MEMBERSHIP, account.Membership)
        if member is None or member.issued is None:
            raise NotJoined("joining was not finished; run: spot join URL --invite CODE")
        trusted = account.read_trusted(store)
        running = service.is_running(desk.folder)
        beat = store.get(service.SERVICE, ServiceStatus) if running else None
        paused = bool(store.get(service.PAUSED, bool))
        moved = store.get(account.MOVED, float)
        synced = store.get(SYNC, SyncStatus) or SyncStatus()
        counts = {state: len(store.encounters(state=state)) for state in State}
        problems = {e.problem for e in store.encounters(state=State.WAITING) + store.encounters(state=State.PENDING)}
        published = store.get(PUBLICATIONS, messages.Head) or chain.EMPTY
    problems.discard("")
    fingerprint = chain.fingerprint(member.genesis)
    facts = {
        "authority": trusted.parameters.authority,
        "url": member.url,
        "fingerprint": fingerprint,
        "parameters": views.head_facts(trusted.head),
        "publications": views.head_facts(published),
        "running": running,
        "paused": paused,
        "moved": moved and round(moved),
        "on_air": bool(beat and beat.on_air and not paused),
        "peers": beat.peers if beat else 0,
        "dropped": beat.dropped if beat else 0,
        "radio_problem": beat.radio_problem if beat else "",
        "radio": views.radio_facts(beat),
        "unkept": beat.unkept if beat else 0,
        "lost": beat.lost if beat else 0,
        "disk_problem": beat.disk_problem if beat else "",
        "contacts": {state.value: count for state, count in counts.items()},
        "last_sync": round(synced.succeeded),
        "sync_problem": synced.problem,
        "contact_problems": sorted(problems),
        "data_dir": str(desk.folder),
    }
    listed = ", ".join(f"{count} {views.STATES[state]}" for state, count in counts.items() if count) or "none yet"
    lines = [
        ("Agent", views.service_text(beat, running=running, paused=paused, moved=moved)),
        *(("Radio", text) for text in views.radio_texts(beat, desk.clock.now())),
        *(("Disk", text) for text in views.disk_texts(beat)),
        ("Authority", views.plain(f"{trusted.parameters.authority} ({member.url})")),
        ("Fingerprint", fingerprint),
        ("Parameters", views.head_text(trusted.head)),
        ("Publications", views.head_text(published)),
        ("Contacts", listed),
        ("Backend", views.sync_text(synced)),
        *(("Trouble", f"[red]{views.plain(problem)}[/]; tried again with backoff") for problem in sorted(problems)),
        ("Data", views.plain(str(desk.folder))),
    ]
    show(as_json, facts, views.facts_table("SPOT", lines))


@app.command()
def leave(context: typer.Context, yes: Yes = False) -> None:
    """Delete everything this agent keeps: contacts, credential, keys. It cannot be undone.

    The settings file stays.
    """
    desk: Desk = context.obj
    if not (desk.folder / storage.DATABASE).exists():
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
    # The key first: without it the rest is noise already.
    sealing.forget_key(desk.folder)
    for suffix in ("", "-wal", "-shm", "-journal"):
        (desk.folder / f"{storage.DATABASE}{suffix}").unlink(missing_ok=True)
    for left_over in desk.folder.glob(f"{moving.WORK}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    for lock in (service.LOCK, database.MAKING_LOCK):
        (desk.folder / lock).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        desk.folder.rmdir()
    out.print("Left: everything is deleted.")


app.command(name="export")(export_command)
app.command(name="import")(import_command)
app.command(name="doctor")(doctor_command)
app.add_typer(service_app)


def main() -> NoReturn:
    """Run the command; every expected error is one line on standard error and an exit code of its own."""
    try:
        app()
    except SpotError as error:
        code = _fail(error)
    except OSError as error:
        code = _fail(StorageError(f"the system says: {error.strerror or error}; check disk and permissions"))
    sys.exit(code)


def _fail(error: SpotError) -> int:
    if "--json" in sys.argv:
        sys.stdout.write(json.dumps({"error": error.slug, "detail": error.text}) + "\n")
    err.print(f"[bold red]error:[/] {views.plain(error.text)}", soft_wrap=True)
    return error.exit_code
