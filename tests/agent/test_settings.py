"""Settings from file and environment, and the clock they choose."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from agent import settings as module
from agent.clock import Clock, day_number, day_text, time_text
from agent.settings import Settings, default_folder, read_settings
from protocol.errors import Misuse, SpotError, StorageError
from protocol.timescale import Timescale


def written(folder: Path, text: str | bytes) -> Path:
    (folder / module.FILE).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def test_without_a_file_the_defaults_hold(tmp_path: Path) -> None:
    assert read_settings(tmp_path) == Settings()
    assert read_settings(tmp_path / "nowhere") == Settings()


def test_every_setting_can_stand_in_the_file(tmp_path: Path) -> None:
    written(
        tmp_path,
        'radio = "simulated"\nadapter = "hci1"\nservice_uuid = 0xFD6F\ntx_power = -12\ncorrection = 3.5\n'
        'duty = "battery"\ncurve = "py_ecc"\nkey = "file"\nclock = "120@1700000000"\n',
    )
    assert read_settings(tmp_path) == Settings(
        radio="simulated",
        adapter="hci1",
        service_uuid=0xFD6F,
        tx_power=-12,
        correction=3.5,
        duty="battery",
        curve="py_ecc",
        key="file",
        clock="120@1700000000",
    )


def test_every_setting_can_stand_in_the_environment_which_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path, 'tx_power = 4\nradio = "bluez"\nadapter = "hci0"\n')
    values = {
        "RADIO": "simulated",
        "SERVICE_UUID": "64879",
        "TX_POWER": "-12",
        "CORRECTION": "-3.5",
        "CURVE": "arkworks",
        "KEY": "keyring",
        "CLOCK": "60@0",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SPOT_{name}", value)
    assert read_settings(tmp_path) == Settings(
        radio="simulated",
        adapter="hci0",
        service_uuid=64879,
        tx_power=-12,
        correction=-3.5,
        curve="arkworks",
        key="keyring",
        clock="60@0",
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('radio = "wifi"', "radio"),
        ("radio = 3", "radio"),
        ("service_uuid = 65536", "service_uuid"),
        ("service_uuid = -1", "service_uuid"),
        ("tx_power = 21", "tx_power"),
        ("tx_power = -51", "tx_power"),
        ('tx_power = "much"', "tx_power"),
        ("tx_power = 1.5", "tx_power"),
        ("correction = nan", "correction"),
        ("correction = inf", "correction"),
        ('curve = "ed25519"', "curve"),
        ('key = "paper"', "key"),
        ("clock = 120", "clock"),
        ("colour = 1", "colour"),
        ("[radio]\nkind = 1", "radio"),
        ("adapter = 1979-05-27", "adapter"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, text: str, name: str) -> None:
    with pytest.raises(Misuse, match=name) as raised:
        read_settings(written(tmp_path, text))
    assert str(tmp_path / module.FILE) in raised.value.text


def test_a_wrong_environment_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPOT_TX_POWER", "loud")
    with pytest.raises(Misuse, match="tx_power"):
        read_settings(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"radio", b"= 3", b"\xff\xfe", "radio = 'caf\xe9'".encode("latin-1"), b"\x00", b"a = " + b"[" * 5000],
    ids=["no value", "no name", "not UTF-8", "Latin-1", "zero byte", "nested"],
)
def test_what_is_not_toml_is_told(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(Misuse, match=r"settings\.toml is not TOML"):
        read_settings(written(tmp_path, content))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / module.FILE).mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        read_settings(tmp_path)


def test_where_the_data_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert default_folder().name == "spot"
    monkeypatch.setenv("SPOT_DATA_DIR", str(tmp_path))
    assert default_folder() == tmp_path
    monkeypatch.setenv("SPOT_DATA_DIR", "")
    assert default_folder() == Path(os.environ["XDG_DATA_HOME"]) / "spot"


# --- the clock ---


def test_the_clock_is_the_machines_own_unless_told() -> None:
    assert Settings().open_clock() == Clock()
    assert Settings(clock="120@1700000000").open_clock() == Clock(Timescale(120.0, 1_700_000_000.0))


@pytest.mark.parametrize("text", ["fast", "120", "@", "0.5@0", "0@0", "-1@0", "10001@0", "nan@0", "inf@0", "1@x"])
def test_a_wrong_clock_is_told(text: str) -> None:
    with pytest.raises(SpotError, match="clock"):
        Settings(clock=text).open_clock()


def test_a_fast_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.clock.time.time", lambda: 1010.0)
    assert Clock(Timescale(60.0, 1000.0)).now() == 1600.0
    assert Clock().now() == 1010.0


async def test_a_fast_clock_sleeps_shorter(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("agent.clock.asyncio.sleep", sleep)
    await Clock(Timescale(60.0)).sleep(90)
    await Clock().sleep(2)
    await Clock().sleep(-2)
    assert slept == [1.5, 2, 0]


@pytest.mark.parametrize(("day", "text"), [(0, "1970-01-01"), (20_000, "2024-10-04"), (10**6, "4707-11-29")])
def test_days_are_written_and_read(day: int, text: str) -> None:
    assert day_text(day) == text
    assert day_number(text) == day


@pytest.mark.parametrize(
    "text", ["", "today", "2024-13-01", "2024-02-30", "2024/10/04", "24-10-04", "2024-10-04T00:00"]
)
def test_what_is_no_day(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        day_number(text)


def test_a_time_is_written_in_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(time_text(0)) == len("1970-01-01 00:00")
