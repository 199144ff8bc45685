"""The air that the virtual machines share, without any machine: two adapters on sockets, and raw HCI commands."""

from __future__ import annotations

import asyncio
import contextlib
import math
from typing import TYPE_CHECKING, Self

import pytest
from bumble import hci

from scripts.ble_vm import trace
from scripts.ble_vm.air import Air
from scripts.ble_vm.controller import Variant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

ADDRESS = "3A:01:02:03:04:05"  # the two highest bits are 0: non-resolvable
FRAME = bytes(range(16))
DATA = bytes([19, trace.SERVICE_DATA_16]) + trace.service_data(0xFF50, FRAME)[1]
NON_CONNECTABLE = 0x10  # with a legacy packet
SCANNABLE = 0x12


class Host:
    """The other end of an adapter's wire."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def of(cls, air: Air, name: str, variant: Variant = Variant.EXTENDED) -> Self:
        return cls(*await asyncio.open_unix_connection(await air.serve(name, variant=variant, tx_power=4)))

    async def command(self, command: hci.HCI_Command) -> bytes:
        """Send a command and return the parameters of its completion, the status being the first."""
        self._writer.write(bytes(command))
        while True:
            event = await asyncio.wait_for(self._event(), 5)
            if event[1] == 0x0E and int.from_bytes(event[4:6], "little") == command.op_code:
                assert event[6] == 0, command
                return event[6:]

    async def _event(self) -> bytes:
        head = await self._reader.readexactly(3)
        return head + await self._reader.readexactly(head[2])

    async def advertise(self, properties: int = NON_CONNECTABLE, answer: bytes = b"") -> None:
        parameters = hci.HCI_LE_Set_Extended_Advertising_Parameters_Command(
            advertising_handle=1,
            advertising_event_properties=properties,
            primary_advertising_interval_min=32,
            primary_advertising_interval_max=32,
            primary_advertising_channel_map=7,
            own_address_type=1,
            peer_address_type=0,
            peer_address=hci.Address.ANY,
            advertising_filter_policy=0,
            advertising_tx_power=0x7F,
            primary_advertising_phy=1,
            secondary_advertising_max_skip=0,
            secondary_advertising_phy=1,
            advertising_sid=0,
            scan_request_notification_enable=0,
        )
        assert await self.command(parameters) == bytes([0, 4]), "it tells its power"
        await self.command(hci.HCI_LE_Set_Advertising_Set_Random_Address_Command(1, hci.Address(ADDRESS)))
        await self.command(hci.HCI_LE_Set_Extended_Advertising_Data_Command(1, 3, 1, DATA))
        if answer:
            await self.command(hci.HCI_LE_Set_Extended_Scan_Response_Data_Command(1, 3, 1, answer))
        await self.command(hci.HCI_LE_Set_Extended_Advertising_Enable_Command(1, [1], [0], [0]))

    async def advertise_legacy(self) -> None:
        kind = hci.HCI_LE_Set_Advertising_Parameters_Command.AdvertisingType.ADV_NONCONN_IND
        parameters = hci.HCI_LE_Set_Advertising_Parameters_Command(32, 32, kind, 1, 0, hci.Address.ANY, 7, 0)
        await self.command(parameters)
        await self.command(hci.HCI_LE_Set_Random_Address_Command(hci.Address(ADDRESS)))
        await self.command(hci.HCI_LE_Set_Advertising_Data_Command(DATA))
        await self.command(hci.HCI_LE_Set_Advertising_Enable_Command(1))

    async def scan(self, *, active: bool = False, filter_duplicates: bool = False) -> None:
        await self.command(hci.HCI_LE_Set_Random_Address_Command(hci.Address("3B:00:00:00:00:01")))
        await self.command(hci.HCI_LE_Set_Extended_Scan_Parameters_Command(1, 0, 1, [int(active)], [18], [18]))
        await self.command(hci.HCI_LE_Set_Extended_Scan_Enable_Command(1, int(filter_duplicates), 0, 0))

    async def scan_legacy(self) -> None:
        await self.command(hci.HCI_LE_Set_Scan_Parameters_Command(0, 18, 18, 1, 0))
        await self.command(hci.HCI_LE_Set_Scan_Enable_Command(1, 0))

    def close(self) -> None:
        self._writer.close()


@contextlib.asynccontextmanager
async def pair(air: Air, variant: Variant = Variant.EXTENDED) -> AsyncIterator[tuple[Host, Host]]:
    async with air:
        a, b = await Host.of(air, "a", variant), await Host.of(air, "b", variant)
        with contextlib.closing(a), contextlib.closing(b):
            yield a, b


def heard(folder: Path) -> list[trace.Reported]:
    return trace.reported(trace.packets((folder / "b.btsnoop").read_bytes()))


def on_air(folder: Path) -> list[trace.Sent]:
    return trace.sent((folder / "air.jsonl").read_text())


async def test_a_broadcast_arrives_as_it_was_sent(tmp_path: Path) -> None:
    async with pair(Air(jitter=0.0, trace_dir=tmp_path)) as (a, b):
        await b.scan()
        await a.advertise()
        await asyncio.sleep(0.2)
    sent, reports = on_air(tmp_path), heard(tmp_path)
    assert len(sent) == len(reports) >= 4
    # 4 dBm sent, 40.2 dB lost over 1 m.
    assert {(one.by, one.kind, one.address, one.address_type, one.data) for one in sent} == {
        ("a", "ADV_NONCONN_IND", ADDRESS, "random", DATA)
    }
    assert sent[0].heard == {"b": -36}
    assert sent[0].fields == (trace.service_data(0xFF50, FRAME),)
    assert {(one.kind, one.address, one.rssi, one.data) for one in reports} == {("ADV_NONCONN_IND", ADDRESS, -36, DATA)}
    orders = trace.ordered(trace.packets((tmp_path / "a.btsnoop").read_bytes()))
    assert [(one.address, one.data) for one in orders] == [(ADDRESS, DATA)]
    # The wire and the air tell the same time.
    assert orders[0].at == pytest.approx(sent[0].at, abs=0.1)


async def test_distance_loss_and_silence(tmp_path: Path) -> None:
    air = Air(distance=math.inf, jitter=0.0, trace_dir=tmp_path)
    async with pair(air) as (a, b):
        await b.scan()
        await a.advertise()
        await asyncio.sleep(0.2)
        assert not heard(tmp_path)
        air.distance, air.loss = 20.0, 1.0
        await asyncio.sleep(0.1)
        assert not heard(tmp_path)
        air.loss = 0.0
        await asyncio.sleep(0.1)
        # 18 dB less for each tenfold distance
        assert {one.rssi for one in heard(tmp_path)} == {4 - round(40.2 + 18 * math.log10(20))}
        await a.command(hci.HCI_Reset_Command())
        before = len(on_air(tmp_path))
        await asyncio.sleep(0.1)
        assert len(on_air(tmp_path)) == before


async def test_duplicates_are_filtered_until_the_scan_starts_anew(tmp_path: Path) -> None:
    async with pair(Air(trace_dir=tmp_path)) as (a, b):
        await b.scan(filter_duplicates=True)
        await a.advertise()
        await asyncio.sleep(0.2)
        assert len(heard(tmp_path)) == 1
        await b.scan(filter_duplicates=True)
        await asyncio.sleep(0.2)
        assert len(heard(tmp_path)) == 2


async def test_an_active_scan_leaves_its_traces(tmp_path: Path) -> None:
    name = b"\x05\x09host"
    async with pair(Air(trace_dir=tmp_path)) as (a, b):
        await b.scan(active=True)
        await a.advertise(SCANNABLE, name)
        await asyncio.sleep(0.1)
    kinds = [(one.by, one.kind, one.data) for one in on_air(tmp_path)[:3]]
    assert kinds == [("a", "ADV_SCAN_IND", DATA), ("b", "SCAN_REQ", b""), ("a", "SCAN_RSP", name)]
    assert [one.kind for one in heard(tmp_path)[:2]] == ["ADV_SCAN_IND", "SCAN_RSP"]


async def test_an_adapter_of_bluetooth_4_2(tmp_path: Path) -> None:
    async with pair(Air(trace_dir=tmp_path), Variant.LEGACY) as (a, b):
        features = await a.command(hci.HCI_LE_Read_Local_Supported_Features_Command())
        assert not features[2] & 0x10, "no extended advertising"
        await b.scan_legacy()
        await a.advertise_legacy()
        await asyncio.sleep(0.2)
    assert {(one.kind, one.address, one.data) for one in heard(tmp_path)} == {("ADV_NONCONN_IND", ADDRESS, DATA)}
    orders = trace.ordered(trace.packets((tmp_path / "a.btsnoop").read_bytes()))
    assert [(one.address, one.data) for one in orders] == [(ADDRESS, DATA)]


async def test_an_adapter_that_was_unplugged_is_silent_and_deaf_until_it_is_told_anew(tmp_path: Path) -> None:
    air = Air(trace_dir=tmp_path)
    async with pair(air) as (a, b):
        await b.scan()
        await a.advertise()
        await asyncio.sleep(0.1)
        a._writer.write(bytes(hci.HCI_Reset_Command())[:2])  # cut off
        await asyncio.sleep(0.1)
        air.unplug("a")
        count = len(on_air(tmp_path))
        await asyncio.sleep(0.1)
        assert len(on_air(tmp_path)) == count
        await a.command(hci.HCI_Reset_Command())
        await a.advertise()
        await asyncio.sleep(0.1)
        assert len(on_air(tmp_path)) > count


def test_the_same_seed_is_the_same_air() -> None:
    airs = [Air(loss=0.3, seed=seed) for seed in (1, 1, 2)]
    first, again, other = ([air.rssi(0) for _ in range(50)] for air in airs)
    assert first == again != other
    assert None in first


@pytest.mark.parametrize("snoop", [b"", b"btsnoop\0\0\0\0\1\0\0\3\xe9", b"something else altogether"])
def test_what_is_no_trace_is_refused(snoop: bytes) -> None:
    with pytest.raises(trace.TraceError):
        trace.packets(snoop)


@pytest.mark.parametrize("data", ["00", "0516", "02010605"])
def test_malformed_fields_are_refused(data: str) -> None:
    with pytest.raises(trace.TraceError):
        trace.fields(bytes.fromhex(data))
