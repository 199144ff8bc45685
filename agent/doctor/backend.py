"""What the doctor sees of the backend: whether its parts answer, and their certificates."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from agent.doctor.probing import Probe

CERTIFICATE_DAYS = 14


@dataclass(frozen=True, slots=True)
class Joined:
    """What the store says of the backend: its URL, the proxies of each group, and the roots of their certificates."""

    url: str
    proxies: tuple[tuple[str, ...], ...]
    roots: tuple[bytes, ...] = ()


def check_backend(joined: Joined | None, probes: list[Probe]) -> list[Finding]:
    """Whether the authority and the proxies answer."""
    if not probes:
        text = "not known before joining"
        return [Finding("backend", Verdict.WARNING, text, "spot join URL --invite CODE, or look first: --url URL")]
    by_url = {one.url: one for one in probes}
    proxies = {} if joined is None else {url: by_url[url] for group in joined.proxies for url in group}
    authority = joined and joined.url
    findings = [_backend(one) for one in probes if one.url == authority or one.url not in proxies]
    if joined is not None:
        findings.append(_proxies(joined, proxies))
    return findings


def _backend(probe: Probe) -> Finding:
    if probe.problem:
        return Finding("backend", Verdict.FAULT, f"{probe.url} {probe.problem}", _reach(probe))
    return Finding("backend", Verdict.OK, f"{probe.url} answers in {probe.seconds * 1000:.0f} ms")


def _reach(probe: Probe) -> str:
    return "see the certificate" if probe.refused else "check the network and the URL; else ask who runs it"


def _proxies(joined: Joined, proxies: dict[str, Probe]) -> Finding:
    silent = [one for one in proxies.values() if one.problem]
    reached = sum(any(not proxies[url].problem for url in group) for group in joined.proxies)
    text = f"{len(proxies) - len(silent)} of {len(proxies)} answer, in {reached} of {len(joined.proxies)} groups"
    if not silent and proxies:
        return Finding("proxies", Verdict.OK, text)
    text += "".join(f"; {one.url} {one.problem}" for one in silent[:3])
    # Contacts go through a proxy drawn among all, and what two groups show is compared.
    verdict = Verdict.WARNING if reached >= min(2, len(joined.proxies)) and reached else Verdict.FAULT
    return Finding("proxies", verdict, text, _reach(silent[0]) if silent else "ask the authority")


def by_host(probes: list[Probe]) -> list[Probe]:
    """One for each host and port, as several URLs have one certificate."""
    return list({one.host: one for one in probes}.values())


def check_certificate(probe: Probe) -> Finding:
    """Whether the connection is encrypted, and for how long its certificate is good."""
    if not probe.encrypted:
        if probe.local or not probe.host:
            return Finding("certificate", Verdict.OK, f"none needed for {probe.host or 'this'}, on this machine")
        text = f"{probe.host} is spoken to without encryption"
        return Finding("certificate", Verdict.WARNING, text, "ask who runs it for an https:// URL")
    if probe.refused:
        return Finding("certificate", Verdict.FAULT, f"{probe.host}: {probe.refused}", probe.remedy)
    if probe.expires is None:
        return Finding("certificate", Verdict.WARNING, f"{probe.host} was not seen", "see the line backend")
    days = (probe.expires - time.time()) / 86400
    text = f"{probe.host}: good for {days:.0f} days"
    if days < CERTIFICATE_DAYS:
        return Finding("certificate", Verdict.WARNING, text, "have who runs it renew it")
    return Finding("certificate", Verdict.OK, text)
