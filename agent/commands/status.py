"""How the agent gets on: `spot status`."""

from __future__ import annotations

import typer

from agent import account, service
from agent.commands import views
from agent.commands.desk import Desk, Json, show
from agent.declaring import TRIED, Tried, next_moment
from agent.following import PUBLICATIONS, read_status
from agent.kept import State
from agent.service import ServiceStatus
from protocol import chain, messages
from protocol.errors import NotJoined


def status_command(context: typer.Context, as_json: Json = False) -> None:
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
        synced = read_status(store)
        counts = {state: len(store.encounters(state=state)) for state in State}
        problems = {e.problem for e in store.encounters(state=State.WAITING) + store.encounters(state=State.PENDING)}
        reports = views.report_facts(store.reports(), next_moment(store), store.get(TRIED, Tried))
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
        "crowded": beat.crowded if beat else 0,
        "disk_problem": beat.disk_problem if beat else "",
        "contacts": {state.value: count for state, count in counts.items()},
        "reports": reports,
        "submission_gap": trusted.parameters.limits.submission_gap,
        "declaration_gap": trusted.parameters.limits.declaration_gap,
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
        *(("", text) for text in views.crowd_texts(beat)),
        *(("Report", views.report_text(one, running=running)) for one in reports),
        ("Cover", views.cover_text(trusted.parameters.limits)),
        ("Backend", views.sync_text(synced)),
        *(("Trouble", f"[red]{views.plain(problem)}[/]; tried again with backoff") for problem in sorted(problems)),
        ("Data", views.plain(str(desk.folder))),
    ]
    show(as_json, facts, views.facts_table("SPOT", lines))
