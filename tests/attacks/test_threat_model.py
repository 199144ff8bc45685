"""docs/threat-model.md and the attacks: each is in the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PAGE = ROOT / "docs" / "threat-model.md"
ATTACKS = range(1, 29)
IN_WORK = "in work"
ROW = re.compile(r"^\| (\d+) \| (.*) \|$", re.MULTILINE)
NOT_PREVENTED = re.compile(r"\*\*not\s+prevented", re.IGNORECASE)
LINK = re.compile(r"\]\(([^)#]+)")


def rows() -> dict[int, str]:
    """The last column of each attack's row."""
    found = ROW.findall(PAGE.read_text(encoding="utf-8"))
    assert len(found) == len(dict(found)), "an attack is there twice"
    return {int(number): row.rpartition("| ")[2] for number, row in found}


def modules() -> dict[int, list[str]]:
    """The modules of each attack."""
    return {number: [path.name for path in HERE.glob(f"test_{number:02}_*.py")] for number in ATTACKS}


def test_every_attack_is_on_the_page() -> None:
    assert list(rows()) == list(ATTACKS)


@pytest.mark.parametrize("number", ATTACKS)
def test_every_attack_has_its_module_or_is_in_work(number: int) -> None:
    said, found = rows()[number], modules()[number]
    if found:
        assert all(f"(../tests/attacks/{name})" in said for name in found)
    else:
        assert said == IN_WORK


def test_nothing_else_is_numbered() -> None:
    known = {name for found in modules().values() for name in found}
    assert {path.name for path in HERE.glob("test_[0-9]*.py")} == known


def test_what_the_page_names_exists() -> None:
    named = LINK.findall(PAGE.read_text(encoding="utf-8"))
    assert len(named) > len(ATTACKS)
    assert [name for name in named if not (PAGE.parent / name).exists()] == []


def test_page_and_modules_agree_on_what_is_not_prevented() -> None:
    page = dict(ROW.findall(PAGE.read_text(encoding="utf-8")))
    texts = {number: (HERE / name).read_text(encoding="utf-8") for number, found in modules().items() for name in found}
    said = {int(number) for number, row in page.items() if NOT_PREVENTED.search(row)}
    shown = {number for number, text in texts.items() if NOT_PREVENTED.search(text)}
    assert said == shown, "what a module says of its attack, docs/threat-model.md says too"
