"""Recorded contacts, lived through by real agents and a real backend of processes: what `scripts/bench replay` does."""

from __future__ import annotations

import gzip
import random
import zipfile
from typing import TYPE_CHECKING

import pytest

from agent.kept import State
from protocol.encounter import SECONDS_A_DAY
from scripts.benchmarks.replay import contacts as contact_files
from scripts.benchmarks.replay import row_of, truth
from scripts.benchmarks.replay.contacts import SLOT, START_DAY
from scripts.benchmarks.replay.plan import Illness
from scripts.benchmarks.replay.progress import read_progress
from scripts.benchmarks.replay.town import replay
from scripts.benchmarks.replay.truth import Declared, begin_of

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.benchmarks.replay.contacts import Contacts
    from scripts.benchmarks.replay.progress import Progress

LOSS = 0.5
HOUR = 3600


def made_up(seed: int, people: int, days: int) -> str:
    """Rows of the sensors' form: everybody meets the next one for half an hour, and somebody else for a while."""
    chance = random.Random(seed)
    rows = set()
    for day in range(days):
        for one in range(people):
            far = chance.randrange(people)
            for other, minutes in (((one + 1) % people, 30), (far, chance.choice((2, 5, 10)))):
                begin = day * SECONDS_A_DAY + 9 * HOUR + chance.randrange(2 * HOUR // SLOT) * SLOT
                if one != other:
                    rows |= {(begin + slot, one + 100, other + 100) for slot in range(0, minutes * 60, SLOT)}
    return "".join(f"{at}\t{one}\t{other}\tA\tB\n" for at, one, other in sorted(rows))


def contacts_of(folder: Path, people: int, days: int) -> Contacts:
    (folder / "rows.dat").write_text(made_up(1, people, days))
    return contact_files.read(folder / "rows.dat")


class Interrupted(Exception):
    pass


async def test_a_replay_goes_on_where_it_was_interrupted(tmp_path: Path) -> None:
    contacts = contacts_of(tmp_path, people=4, days=2)
    ill = [Illness("100", begin_of(1) + 14 * HOUR, START_DAY + 1)]

    def interrupt(what: str, _: Progress) -> None:
        if what == "day 2":
            raise Interrupted

    with pytest.raises(Interrupted):
        await replay(contacts, tmp_path / "state", LOSS, 1, ill, interrupt)
    assert read_progress(tmp_path / "state").days == 1
    told: list[str] = []
    done = await replay(contacts, tmp_path / "state", LOSS, 1, ill, lambda what, _: told.append(what))
    assert told[0] == "day 2"
    assert done.days == 3

    row = row_of(contacts, truth.Perfect.of(contacts), LOSS, done)
    assert row["pair_days"] >= 6
    assert (row["share"], row["missing"], row["fabricated"]) == (1.0, [], [])
    assert {State.SIGNED.value} == set(row["states"]) - {State.PENDING.value}
    assert [one["contacts"] > 0 for one in row["declarations"]] == [True]
    assert {"101", "103"} <= set(row["warned"]["both"]), "they met the diagnosed for half an hour"
    assert (row["warned"]["missed"], row["warned"]["false"]) == ([], [])
    assert max(row["minutes_to_warning"]) < 6 * 60
    assert row["sent_per_agent_day"] > 1000
    assert all(seconds > 0 for seconds in row["cpu"].values())


def test_contacts_are_read_from_any_file_of_the_form(tmp_path: Path) -> None:
    rows = "28820 1 2\n28840 2 1\n115240 1 3\n"
    forms = {"a.dat": rows, "b.csv": "t,i,j\n" + rows.replace(" ", ","), "c.txt": "# second a b\n" + rows}
    for name, text in forms.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "d.dat.gz").write_bytes(gzip.compress(rows.encode()))
    with zipfile.ZipFile(tmp_path / "e.dat.zip", "w") as archive:
        archive.writestr("rows.dat", rows)
    for file in sorted(tmp_path.iterdir()):
        read = contact_files.read(file)
        assert read.people == ("1", "2", "3")
        assert read.seconds() == {(0, ("1", "2")): 40, (1, ("1", "3")): 20}
        assert read.days[0] == {START_DAY * SECONDS_A_DAY + at: {("1", "2")} for at in (28820, 28840)}
    fewer = contact_files.read(tmp_path / "a.dat", days=1)
    assert (fewer.people, fewer.length) == (("1", "2"), 1)


@pytest.mark.parametrize("rows", ["", "28820 1\n", "28820 1 1\n", "1 2 3\nmorning 1 2\n"])
def test_what_is_no_such_file_is_said(tmp_path: Path, rows: str) -> None:
    (tmp_path / "rows.dat").write_text(rows)
    with pytest.raises(ValueError, match="of the form"):
        contact_files.read(tmp_path / "rows.dat")


def test_a_folder_is_read_where_it_has_one_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="0 files"):
        contact_files.read(tmp_path)
    (tmp_path / "rows.dat.gz").write_bytes(gzip.compress(b"1 a b\n"))
    assert contact_files.read(tmp_path).people == ("a", "b")


def entry(first: float, *, last: float = 0.0, exposed: bool = False) -> truth.Entry:
    return truth.Entry(first=first, last=last or first, day=START_DAY, state="signed", declared=False, exposed=exposed)


def test_the_judge_sees_what_is_made_up_and_what_is_missed(tmp_path: Path) -> None:
    begin = 9 * HOUR
    (tmp_path / "rows.dat").write_text("".join(f"{begin + slot} a b\n" for slot in range(0, 1200, SLOT)))
    contacts = contact_files.read(tmp_path / "rows.dat")
    perfect = truth.Perfect.of(contacts)
    at = begin_of(0) + begin
    honest = {"a": {"ccm": entry(at + 5)}, "b": {"ccm": entry(at + 5)}}
    found = truth.signed(contacts, perfect, honest)
    assert (found.long, found.long_signed, found.epochs, found.epochs_signed) == (1, 1, 2, 1)
    assert truth.fabricated(contacts, honest, []) == []
    assert truth.signed(contacts, perfect, {"a": honest["a"], "b": {}}).missing
    for ledger in (
        {"a": {"ccm": entry(at)}},  # nobody else has it
        {"a": {"ccm": entry(at)}, "c": {"ccm": entry(at)}},  # they never met
        {"a": {"ccm": entry(at + 7200)}, "b": {"ccm": entry(at + 7200)}},  # not then
        {"a": {"ccm": entry(at, exposed=True)}, "b": {"ccm": entry(at)}},  # nobody declared
    ):
        assert truth.fabricated(contacts, ledger, [])

    declared = [Declared(person="a", at=at + 7200, onset=START_DAY, contacts=1)]
    assert truth.warnings(contacts, perfect, declared, {"b": at + 9000}).delays == [1800]
    assert truth.warnings(contacts, perfect, declared, {}).missed == ["b"]
    assert truth.warnings(contacts, perfect, [], {"b": at}).false == ["b"]
    late = [Declared(person="a", at=at + 7200, onset=START_DAY - 20, contacts=1)]
    assert truth.warnings(contacts, perfect, late, {}).missed == [], "they were not infectious then"
