"""Known vulnerabilities of what scripts/locks/ names: asked with pip-audit, judged by one rule, never made up.

pip-audit says "no known vulnerabilities" of packages that its service did not know, too. Here each package is one of:
vulnerable, accepted (scripts/locks/accepted.toml), clear, or not looked up; and the last is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import date  # noqa: TC003 (msgspec reads it when the program runs)
from pathlib import Path
from typing import Annotated, Any

import msgspec
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

LOCKS = Path(__file__).parent / "locks"
SERVICES = ("pypi", "osv")
SECONDS = 120.0  # for one look at all packages
TRIES = 2  # rounds, as pip-audit takes one version of a package at a time: no more than two are locked

Locked = dict[str, set[str]]
"""Versions by the name of their package; of a few there are two, for older and newer Pythons."""


class Accepted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A vulnerability that somebody looked at and found not to matter here."""

    id: str
    package: str
    since: date
    reason: Annotated[str, msgspec.Meta(min_length=20)]


class _List(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    accepted: tuple[Accepted, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """One vulnerability of one locked package. accepted: the reason, where it is listed; runs: not for tests only."""

    package: str
    version: str
    ids: tuple[str, ...]
    fixed_in: tuple[str, ...]
    runs: bool
    accepted: str = ""

    @property
    def fails(self) -> bool:
        """Whether it has to be dealt with before anything else lands."""
        return self.runs and not self.accepted


@dataclass(frozen=True, slots=True)
class Audit:
    """What came of it. looked_up, not_looked_up: packages as NAME VERSION; unused: of the list, what was not found."""

    service: str
    findings: tuple[Finding, ...]
    looked_up: tuple[str, ...]
    not_looked_up: tuple[str, ...]
    unused: tuple[str, ...]


def locked(file: Path) -> Locked:
    """What a lock names, for every Python and system."""
    found: Locked = defaultdict(set)
    for line in file.read_text("utf-8").splitlines():
        if line[:1].isalnum():
            requirement = Requirement(line.removesuffix("\\").strip())
            (pin,) = requirement.specifier
            found[requirement.name].add(pin.version)
    return dict(found)


def read_accepted(file: Path) -> tuple[Accepted, ...]:
    """The list of what was looked at. Raises msgspec.ValidationError."""
    return msgspec.convert(tomllib.loads(file.read_text("utf-8")), _List).accepted


def audit(folder: Path, services: tuple[str, ...], osv_url: str) -> Audit:
    """Ask one service after the other, until one knows any package."""
    every = locked(folder / "fuzz.txt")
    running, accepted = locked(folder / "run.txt"), read_accepted(folder / "accepted.toml")
    service, told = "none", dict[str, list[dict[str, Any]]]()
    for service in services:
        told = _ask(every, service, osv_url)
        if told:
            break
    findings = tuple(
        _judged(package, vulnerability, running, accepted)
        for package, vulnerabilities in sorted(told.items())
        for vulnerability in vulnerabilities
    )
    names = {f"{name} {version}" for name, versions in every.items() for version in versions}
    matched = {identifier for finding in findings for identifier in finding.ids}
    unused = tuple(one.id for one in accepted if told and one.id not in matched)
    return Audit(service, findings, tuple(sorted(told)), tuple(sorted(names - set(told))), unused)


def _judged(package: str, told: dict[str, Any], running: Locked, accepted: tuple[Accepted, ...]) -> Finding:
    name, _, version = package.partition(" ")
    ids = (told["id"], *told["aliases"])
    reason = next((one.reason for one in accepted if one.package == name and one.id in ids), "")
    return Finding(name, version, ids, tuple(told["fix_versions"]), version in running.get(name, ()), reason)


def _ask(every: Locked, service: str, osv_url: str) -> dict[str, list[dict[str, Any]]]:
    """What a service says of the packages that it knows, by NAME VERSION."""
    told = {}
    for turn in range(TRIES):
        pins = [f"{name}=={sorted(versions)[turn]}\n" for name, versions in every.items() if turn < len(versions)]
        for one in _pip_audit(pins, service, osv_url) if pins else []:
            if "skip_reason" not in one:
                told[f"{one['name']} {one['version']}"] = one["vulns"]
    return told


def _pip_audit(pins: list[str], service: str, osv_url: str) -> list[dict[str, Any]]:
    """pip-audit's report; empty where its service is away, which it ends on with an error of its own."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.writelines(pins)
        file.flush()
        command = [sys.executable, "-m", "pip_audit", "--no-deps", "--disable-pip", "--progress-spinner=off"]
        command += ["--format=json", f"--vulnerability-service={service}", f"--requirement={file.name}"]
        command += [f"--osv-url={osv_url}"] if osv_url else []
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
            found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, json.JSONDecodeError):
            return []
    return found


def main() -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/audit",
        description="Ask whether what the locks name has known vulnerabilities.",
        epilog="Exit codes: 0 nothing that has to be dealt with, or nobody could be asked (which is said); 1 something "
        "that this program runs with is vulnerable, and not in scripts/locks/accepted.toml.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")
    parser.add_argument("--osv-url", default="", help="ask this mirror of osv.dev, and nobody else")
    parser.add_argument("--locks", type=Path, default=LOCKS, help="the folder with the locks")
    options = parser.parse_args()
    done = audit(options.locks, ("osv",) if options.osv_url else SERVICES, options.osv_url)
    if options.json:
        sys.stdout.write(json.dumps(asdict(done), indent=2) + "\n")
    else:
        _show(done)
    return int(any(finding.fails for finding in done.findings))


def _show(done: Audit) -> None:
    out = Console(highlight=False)
    if done.findings:
        table = Table(title="Known vulnerabilities", title_justify="left", box=None, header_style="dim")
        for column in ("Package", "Known as", "Mended in", "What now"):
            table.add_column(column, overflow="fold")
        for one in done.findings:
            mended = " ".join(one.fixed_in) or "nothing yet"
            table.add_row(f"{one.package} {one.version}", " ".join(one.ids), mended, escape(_advice(one)))
        out.print(table)
    for identifier in done.unused:
        out.print(f"{identifier} is in accepted.toml and was not found any more: take it out", soft_wrap=True)
    if not done.looked_up:
        out.print(
            "[yellow]audit: nobody could be asked, so NOTHING is known about vulnerabilities[/] of "
            f"{len(done.not_looked_up)} packages; run it where the Python package index or osv.dev is reached",
            soft_wrap=True,
        )
        return
    left_out = f"; NOT looked up: {', '.join(done.not_looked_up)}" if done.not_looked_up else ""
    out.print(
        f"audit: {len(done.looked_up)} packages looked up at {done.service}, {len(done.findings)} known "
        f"vulnerabilities{left_out}",
        soft_wrap=True,
    )


def _advice(finding: Finding) -> str:
    if finding.accepted:
        return f"accepted: {finding.accepted}"
    renew = f"scripts/lock {finding.package}" if finding.fixed_in else "look whether it matters here; list it if not"
    return renew if finding.runs else f"{renew} (for tests only: fails nothing)"


if __name__ == "__main__":
    raise SystemExit(main())
