"""What a person sees: tables for the terminal, the same facts as plain values for scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from rich.markup import escape
from rich.table import Table

from agent.clock import day_text, time_text
from agent.exposure import near_seconds
from agent.kept import State
from ble.duty import MAINS
from ble.watchdog import Health
from protocol import chain, messages

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from agent.declaring import Tried
    from agent.exposure import DayRisk
    from agent.following import SyncStatus
    from agent.kept import Encounter, StoredReport
    from agent.report import Refusal
    from agent.service import ServiceStatus
    from agent.sync import Progress
    from protocol.messages import Head, Limits, Parameters, Receipt, Risk

STATES = {
    State.OPEN: "under way",
    State.WAITING: "to be submitted",
    State.PENDING: "waiting for the other side",
    State.SIGNED: "signed",
    State.ENDED: "the other side never came",
    State.REFUSED: "cannot be signed",
}

Plain = dict[str, Any]


def plain(text: str) -> str:
    """A text that is not ours: what could forge lines, steer the terminal or pass for markup is taken out."""
    return escape("".join(character if character.isprintable() else "?" for character in text))


def contact_facts(one: Encounter, risk: Risk) -> Plain:
    """One line of the contact list."""
    return {
        "id": one.id,
        "day": day_text(one.day),
        "first": round(one.first),
        "last": round(one.last),
        "minutes": round(one.span / 60, 1),
        "near_minutes": round(near_seconds(one, risk) / 60, 1),
        "state": one.state.value,
        "declared": one.declared,
        "problem": one.problem,
    }


def contact_table(contacts: Sequence[Encounter], risk: Risk) -> Table:
    """The contact list."""
    table = _table("Contact list", "#", "From", "To", "Minutes", "Near", "State")
    for one in contacts:
        facts = contact_facts(one, risk)
        state = STATES[one.state] + (", declared" if one.declared else "")
        if one.problem:
            state += f" ({plain(one.problem)})"
        table.add_row(
            str(one.id),
            time_text(one.first),
            time_text(one.last)[-5:],
            f"{facts['minutes']:.1f}",
            f"{facts['near_minutes']:.1f}",
            state,
        )
    return table


def exposure_facts(risks: Iterable[DayRisk], parameters: Parameters) -> Plain:
    """What is known of exposures."""
    days = [
        {
            "day": day_text(one.day),
            "encounters": one.encounters,
            "minutes": round(one.minutes, 1),
            "risk": round(one.score, 1),
            "warning": one.warning,
        }
        for one in risks
    ]
    return {"warned": any(day["warning"] for day in days), "warn_at": parameters.risk.warn_at, "days": days}


def exposure_table(risks: Iterable[DayRisk], parameters: Parameters) -> Table:
    """The exposures by day."""
    table = _table(
        "Exposures", "Day", "Encounters", "Minutes near", f"Risk (warning at {parameters.risk.warn_at:g})", ""
    )
    for one in risks:
        verdict = "[bold red]warning[/]" if one.warning else "low"
        table.add_row(day_text(one.day), str(one.encounters), f"{one.minutes:.1f}", f"{one.score:.1f}", verdict)
    return table


def declaration_facts(contacts: Mapping[int, Sequence[Encounter]], risk: Risk) -> list[Plain]:
    """What would leave the device, by day."""
    return [
        {
            "day": day_text(day),
            "contacts": len(found),
            "near_minutes": round(sum(near_seconds(one, risk) for one in found) / 60, 1),
        }
        for day, found in sorted(contacts.items())
    ]


def declaration_table(facts: Iterable[Plain]) -> Table:
    """What would leave the device."""
    table = _table("Contacts to declare", "Day", "Contacts", "Minutes near")
    for day in facts:
        table.add_row(day["day"], str(day["contacts"]), f"{day['near_minutes']:.1f}")
    return table


def left_out_text(contacts: Sequence[Encounter]) -> str:
    """What is said of near contacts that a declaration now would leave out."""
    return (
        f"{len(contacts)} more near contacts are not signed yet, the latest of {time_text(contacts[-1].last)}, and "
        "would be left out; a code declares once.\nIf they are of the last hours, wait an hour or two, then declare.\n"
    )


def hours(seconds: float) -> str:
    """A length of time for people."""
    return f"{seconds / 3600:.3g} hours" if seconds >= 5400 else f"{seconds / 60:.3g} minutes"


def report_facts(reports: Sequence[StoredReport], moment: float, tried: Tried | None) -> list[Plain]:
    """What became of each report. moment: when the next one without an answer is sent; tried: when that failed last."""
    found = []
    for one in reports:
        receipt = messages.decode(messages.Receipt, one.receipt) if one.receipt else None
        facts: Plain = {"made": round(one.made), "contacts": len(one.encounters), "answered": receipt is not None}
        if receipt is None:
            facts |= {"about": round(moment) or None, "problem": tried.problem if tried and tried.at > one.made else ""}
        else:
            facts |= {"accepted": receipt.accepted, "reference": receipt.reference, "problem": receipt.text}
            facts["refused_contacts"] = sum(map(bool, receipt.reasons))
        found.append(facts)
    return found


def report_text(facts: Plain, *, running: bool) -> str:
    """The same of one report, in a line."""
    of = f"of {time_text(facts['made'])}, {facts['contacts']} contacts: "
    if not facts["answered"]:
        when = f"is sent about {time_text(facts['about'])}" if running and facts["about"] else "waits for: spot run"
        return f"{of}{when}" + (f" (last time: {plain(facts['problem'])})" if facts["problem"] else "")
    if facts["accepted"]:
        return f"{of}accepted, receipt {plain(facts['reference'])}"
    named = "; which ones: spot contacts" if facts["refused_contacts"] else ""
    return f"{of}[red]not accepted[/]: {plain(facts['problem'])}{named}"


def cover_text(limits: Limits) -> str:
    """Whether a watcher of the network can tell contacts and declarations, in a line."""
    kinds = {"contacts": limits.submission_gap, "declarations": limits.declaration_gap}
    hidden = [f"{name} among dummies, one every {hours(gap)}" for name, gap in kinds.items() if gap]
    shown = [name for name, gap in kinds.items() if not gap]
    off = f"off for {' and '.join(shown)}: who watches the network sees when they are sent" if shown else ""
    return "; ".join((*hidden, *([off] if off else [])))


def receipt_facts(receipt: Receipt, contacts: int) -> Plain:
    """What the authority answered to a declaration that it accepted."""
    return {
        "accepted": receipt.accepted,
        "reference": receipt.reference,
        "contacts": contacts,
        "published_days": [day_text(day) for day in receipt.days],
    }


def refusal_table(refusals: Iterable[Refusal]) -> Table:
    """The contacts that the authority refused, and why."""
    table = _table("Not accepted", "#", "Day", "Why")
    for one in refusals:
        table.add_row(str(one.encounter.id), day_text(one.encounter.day), one.reason.text)
    return table


def progress_facts(progress: Progress) -> Plain:
    """What a sync did."""
    return {name: getattr(progress, name) for name in progress.__struct_fields__}


def progress_text(progress: Progress, waiting: int) -> str:
    """What a sync did, in a line."""
    facts = progress_facts(progress)
    parts = [f"{count} {name}" for name, count in facts.items() if count]
    return (", ".join(parts) or "nothing was due") + (f"; {waiting} more when their time comes" if waiting else "")


def service_text(service: ServiceStatus | None, *, running: bool, paused: bool, moved: float | None = None) -> str:
    """What the running agent is doing, in a line. moved: since when it goes on on another device."""
    if moved is not None:
        return f"retired: moved to another device on {day_text(int(moved // 86400))}; delete the rest with: spot leave"
    if not running:
        return "not running (start it with: spot run)" + (", paused" if paused else "")
    if service is None:
        return "starting"
    if paused:
        return f"paused (process {service.pid}); go on with: spot resume"
    if service.health.problem:
        return f"[red]not on air[/] (process {service.pid})"
    if service.duty == MAINS.name:
        return f"on air (process {service.pid}), {service.peers} peers heard within the last minute"
    return (
        f"on air (process {service.pid}), {service.peers} peers heard within the last three minutes; "
        "listens now and then to save the battery"
    )


def radio_facts(service: ServiceStatus | None) -> Plain:
    """How the radio is: since when it is mute or deaf (Unix seconds, null if it is not), and what was wrong last.

    unread: devices heard for as long as an encounter must last, but never well enough to make out who it was
    """
    health = service.health if service else Health()
    return {
        "mute_since": health.mute and round(health.mute.since),
        "mute": health.mute.what if health.mute else "",
        "deaf_since": health.deaf and round(health.deaf.since),
        "deaf": health.deaf.what if health.deaf else "",
        "quiet_since": health.quiet_since and round(health.quiet_since),
        "unread": service.unread if service else 0,
        "last_trouble": health.last and msgspec.to_builtins(health.last),
    }


def radio_texts(service: ServiceStatus | None, now: float) -> list[str]:
    """The same for a person, a line each: what is wrong now, else what was."""
    if service is None:
        return []
    health = service.health
    texts = [
        f"[red]{_TROUBLES[one.kind]} since {time_text(one.since)}[/] ({_minutes(now - one.since)}): {plain(one.what)}"
        for one in (health.mute, health.deaf)
        if one
    ]
    if health.quiet_since is not None:
        texts.append(
            f"nothing heard since {time_text(health.quiet_since)} ({_minutes(now - health.quiet_since)}), not even "
            "foreign devices: alone, deaf or jammed; it listens anew now and then"
        )
    if service.unread and service.unread >= service.peers:
        texts.append(
            f"[red]reception is poor[/]: {service.unread} of {service.unread + service.peers} devices heard could not "
            "be made out, so encounters with them are missed: too many radios at once, too far away, or a jammer"
        )
    if health.last and health.last.until is not None:
        lasted = _minutes(health.last.until - health.last.since)
        texts.append(
            f"was {health.last.kind} from {time_text(health.last.since)} for {lasted}: {plain(health.last.what)}"
        )
    return texts


def disk_texts(service: ServiceStatus | None) -> list[str]:
    """What the disk did not take, a line each; none while all is well."""
    if service is None:
        return []
    texts = []
    if service.disk_problem:
        texts.append(f"[red]{plain(service.disk_problem)}[/]; {service.unkept} encounters wait in memory")
    if service.lost:
        texts.append(f"[red]{service.lost} short encounters are lost[/]: the disk took nothing for too long")
    return texts


def crowd_texts(service: ServiceStatus | None) -> list[str]:
    """What was left out of a crowd, in a line; none while nothing was."""
    if service is None or not service.crowded:
        return []
    return [f"{service.crowded} of a crowd were left out, as those heard least: more at once than can be submitted"]


_TROUBLES = {"mute": "mute: nobody can hear this device", "deaf": "deaf: it hears nobody"}


def _minutes(seconds: float) -> str:
    return f"{max(seconds, 0):.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def sync_text(status: SyncStatus) -> str:
    """How the last look at the backend went, in a line."""
    when = f"last {time_text(status.succeeded)}" if status.succeeded else "never yet"
    if status.problem:
        again = f"; next try {time_text(status.refresh_at)}" if status.failures else ""
        return f"{when}; [red]{plain(status.problem)}[/]{again}"
    if not status.tried:
        return "not asked yet"
    return f"{when}, keys compared over {status.routes} proxy groups"


def head_facts(head: Head) -> Plain:
    """The number of the last link of one of the authority's chains, and its fingerprint, for people to compare."""
    return {"number": head.number, "fingerprint": chain.fingerprint(head.hash)}


def head_text(head: Head) -> str:
    """The same, in a line."""
    if head.number < 0:
        return "none yet"
    return f"number {head.number}: {chain.fingerprint(head.hash)}, the same on everybody's device"


def facts_table(title: str, facts: Iterable[tuple[str, str]]) -> Table:
    """Names and values, a line each."""
    table = Table(
        title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, value)
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 2, 0, 0)
    )
    for column in columns:
        numeric = column in ("#", "Minutes", "Near", "Contacts", "Encounters", "Minutes near")
        table.add_column(column, justify="right" if numeric or column.startswith("Risk") else "left")
    return table
