"""What is installed: the locks fit pyproject.toml, and what is known of their vulnerabilities is told as it is."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import pytest
from packaging.requirements import Requirement

from scripts import auditing

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
BUILD = PROJECT["build-system"]["requires"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
INSTALLED = {"run": ["fast", "backend"], "dev": ["fast", "backend", "plot", "dev"], "fuzz": [*EXTRAS]}


@pytest.mark.parametrize("lock", INSTALLED)
def test_whatever_is_asked_for_is_locked_in_a_version_that_will_do(lock: str) -> None:
    locked = auditing.locked(auditing.LOCKS / f"{lock}.txt")
    asked = PROJECT["project"]["dependencies"] + BUILD
    asked += [one for extra in INSTALLED[lock] for one in EXTRAS[extra]]
    for requirement in map(Requirement, asked):
        versions = locked[requirement.name.lower().replace("_", "-")]
        assert versions
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_what_is_run_is_what_is_tested() -> None:
    run, dev, fuzz = (auditing.locked(auditing.LOCKS / f"{lock}.txt") for lock in INSTALLED)
    assert {name: versions for name, versions in dev.items() if name in run} == run
    assert {name: versions for name, versions in fuzz.items() if name in dev} == dev


@pytest.mark.parametrize("lock", [*INSTALLED, "lock"])
def test_nothing_is_installed_without_a_hash(lock: str) -> None:
    text = (auditing.LOCKS / f"{lock}.txt").read_text("utf-8")
    entries = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == sum(map(len, auditing.locked(auditing.LOCKS / f"{lock}.txt").values()))
    assert all("--hash=sha256:" in entry for entry in entries)


def test_what_the_scripts_install_is_locked() -> None:
    scripts = [path.read_text("utf-8") for path in (ROOT / "scripts").iterdir() if path.is_file()]
    asked = {name for text in scripts for name in re.findall(r"^make_environment (.*)$", text, re.MULTILINE)}
    assert asked == set(INSTALLED)


def test_what_was_accepted_can_be_read() -> None:
    auditing.read_accepted(auditing.LOCKS / "accepted.toml")


# --- the audit, with the real pip-audit and a service of advisories of our own ---


class Advisories(BaseHTTPRequestHandler):
    """Answers as osv.dev does: `broken` is vulnerable in its version 1.0, `checker` as well."""

    known: ClassVar = {"broken": "GHSA-aaaa-bbbb-cccc", "checker": "GHSA-dddd-eeee-ffff"}

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name, answer = asked["package"]["name"], {}
        if name in self.known and asked["version"] == "1.0":
            events = [{"introduced": "0"}, {"fixed": "1.1"}]
            ranges = [{"type": "ECOSYSTEM", "events": events}]
            affected = [{"package": {"name": name, "ecosystem": "PyPI"}, "ranges": ranges}]
            answer = {"vulns": [{"id": self.known[name], "summary": "it breaks", "affected": affected}]}
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def service() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Advisories) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
        server.shutdown()
        thread.join()


def audit(folder: Path, url: str) -> tuple[int, dict[str, list[object]]]:
    command = [sys.executable, "-m", "scripts.auditing", "--json", "--locks", str(folder), "--osv-url", url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


def write(folder: Path, dev: str, run: str, accepted: str = "") -> None:
    for name, text in {"fuzz.txt": dev, "run.txt": run, "accepted.toml": accepted}.items():
        (folder / name).write_text(text)


ACCEPTED = """[[accepted]]
id = "GHSA-aaaa-bbbb-cccc"
package = "broken"
since = 2026-11-22
reason = "SPOT does not call what breaks"
"""


def test_what_runs_with_a_known_vulnerability_fails_until_it_is_renewed_or_accepted(
    tmp_path: Path, service: str
) -> None:
    both = "broken==1.0 ; sys_platform == 'win32' \\\n    --hash=sha256:00\nfine==1.0\nfine==2.0\n"
    write(tmp_path, both, both)
    code, said = audit(tmp_path, service)
    assert code == 1
    assert [(one["package"], one["fixed_in"]) for one in said["findings"]] == [("broken", ["1.1"])]  # type: ignore[index]
    assert said["looked_up"] == ["broken 1.0", "fine 1.0", "fine 2.0"]
    both = both.replace("fine==2.0\n", "")
    write(tmp_path, both, both, ACCEPTED)
    code, said = audit(tmp_path, service)
    assert (code, len(said["findings"]), said["unused"]) == (0, 1, [])
    write(tmp_path, both.replace("broken==1.0", "broken==1.1"), both, ACCEPTED)
    code, said = audit(tmp_path, service)
    assert (code, said["findings"], said["unused"]) == (0, [], ["GHSA-aaaa-bbbb-cccc"])


def test_what_only_tests_use_is_told_and_fails_nothing(tmp_path: Path, service: str) -> None:
    write(tmp_path, "checker==1.0\nfine==1.0\n", "fine==1.0\n")
    code, said = audit(tmp_path, service)
    assert (code, len(said["findings"])) == (0, 1)


def test_a_service_that_is_away_fails_nothing_and_is_said(tmp_path: Path) -> None:
    write(tmp_path, "fine==1.0\n", "fine==1.0\n")
    code, said = audit(tmp_path, "http://127.0.0.1:9/v1/query")
    assert (code, said["looked_up"], said["not_looked_up"]) == (0, [], ["fine 1.0"])
