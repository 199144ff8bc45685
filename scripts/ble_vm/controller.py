"""A Bluetooth controller for the air: Bumble's, advertising and scanning the way the Core specification says.

Bumble reports every advertisement as connectable and follows it with a scan response that nobody sent, sends no
non-connectable legacy ones, and does not filter duplicates. Bluetooth Core 5.4, volume 4 part E, is the source.
"""

from __future__ import annotations

import asyncio
import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bumble import hci, ll
from bumble.controller import AdvertisingSet, Controller, LegacyAdvertiser

if TYPE_CHECKING:
    from collections.abc import Callable

    from bumble.transport.common import TransportSink

    from scripts.ble_vm.air import Link

# Event type bits of an extended report (7.7.65.13); the advertising properties (7.8.53) have the same ones.
CONNECTABLE: Final = 1
SCANNABLE: Final = 2
DIRECTED: Final = 4
SCAN_RESPONSE: Final = 8
LEGACY: Final = 16
_SHARED_BITS: Final = CONNECTABLE | SCANNABLE | DIRECTED | LEGACY
_KINDS: Final = {
    LEGACY | CONNECTABLE | SCANNABLE: "ADV_IND",
    LEGACY | CONNECTABLE | DIRECTED: "ADV_DIRECT_IND",
    LEGACY | SCANNABLE: "ADV_SCAN_IND",
    LEGACY: "ADV_NONCONN_IND",
    LEGACY | CONNECTABLE | SCANNABLE | SCAN_RESPONSE: "SCAN_RSP",
    LEGACY | SCANNABLE | SCAN_RESPONSE: "SCAN_RSP",
}
_LEGACY_TYPES: Final = (  # advertising_type of 7.8.5, in its order
    LEGACY | CONNECTABLE | SCANNABLE,
    LEGACY | CONNECTABLE | DIRECTED,
    LEGACY | SCANNABLE,
    LEGACY,
    LEGACY | CONNECTABLE | DIRECTED,
)
_SLOT: Final = 0.000625  # seconds; the unit of advertising intervals
_MAX_DELAY: Final = 0.010  # seconds; advDelay, the random addition to every interval (volume 6 part B, 4.4.2.2.1)
_NO_PREFERENCE: Final = 0x7F
_MAX_SEEN: Final = 256  # addresses that the duplicate filter remembers: real controllers remember fewer

_EXTENDED_COMMANDS: Final = {
    hci.HCI_LE_SET_ADVERTISING_SET_RANDOM_ADDRESS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_ADVERTISING_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_ADVERTISING_DATA_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_RESPONSE_DATA_COMMAND,
    hci.HCI_LE_SET_EXTENDED_ADVERTISING_ENABLE_COMMAND,
    hci.HCI_LE_READ_MAXIMUM_ADVERTISING_DATA_LENGTH_COMMAND,
    hci.HCI_LE_READ_NUMBER_OF_SUPPORTED_ADVERTISING_SETS_COMMAND,
    hci.HCI_LE_REMOVE_ADVERTISING_SET_COMMAND,
    hci.HCI_LE_CLEAR_ADVERTISING_SETS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_PARAMETERS_COMMAND,
    hci.HCI_LE_SET_EXTENDED_SCAN_ENABLE_COMMAND,
}
_AFTER_4_2: Final = (  # features that a controller of Bluetooth 4.2 does not have
    hci.LeFeatureMask.LE_2M_PHY
    | hci.LeFeatureMask.LE_CODED_PHY
    | hci.LeFeatureMask.CHANNEL_SELECTION_ALGORITHM_2
    | hci.LeFeatureMask.MINIMUM_NUMBER_OF_USED_CHANNELS_PROCEDURE
    | hci.LeFeatureMask.LE_EXTENDED_ADVERTISING
    | hci.LeFeatureMask.LE_PERIODIC_ADVERTISING
)
_COMMANDS_AFTER_4_2: Final = {
    hci.HCI_LE_READ_PHY_COMMAND,
    hci.HCI_LE_SET_DEFAULT_PHY_COMMAND,
    hci.HCI_LE_SET_PHY_COMMAND,
    hci.HCI_LE_RECEIVER_TEST_V2_COMMAND,
    hci.HCI_LE_TRANSMITTER_TEST_V2_COMMAND,
    hci.HCI_LE_READ_TRANSMIT_POWER_COMMAND,
    hci.HCI_LE_SET_PRIVACY_MODE_COMMAND,
    hci.HCI_LE_READ_BUFFER_SIZE_V2_COMMAND,
}


class Variant(enum.Enum):
    """What an adapter's controller can do."""

    EXTENDED = "extended"  # Bluetooth 5 with extended advertising: several sets, each with its own address
    LEGACY = "legacy"  # Bluetooth 4.2: one advertisement at a time, as on-board radios of small computers have


@dataclass(frozen=True, slots=True)
class Advertisement(ll.AdvertisingPdu):
    """One advertisement on the air. event_type: bits as in an extended report; tx_power: dBm."""

    event_type: int
    address: hci.Address
    data: bytes
    tx_power: int
    scan_response: bytes = b""

    @property
    def kind(self) -> str:
        """The name of the packet as the Core specification has it."""
        return _KINDS.get(self.event_type, "ADV_EXT_IND")


class AirController(Controller):
    """A controller of one adapter on a Link. tx_power: dBm, what it sends with; sets: how many it advertises."""

    link: Link
    advertising_sets: dict[int, AdvertisingSet]

    def __init__(
        self,
        name: str,
        link: Link,
        host: TransportSink,
        public_address: str,
        *,
        variant: Variant = Variant.EXTENDED,
        tx_power: int = 0,
        sets: int = 8,
    ) -> None:
        super().__init__(name, host_sink=host, link=link, public_address=public_address)
        self.tx_power = tx_power
        self.sets = sets
        self.le_legacy_advertiser = _Legacy(self)
        self._extended_reports = False
        self._seen: set[tuple[bytes, int]] = set()
        if variant is Variant.LEGACY:
            self.hci_version = self.lmp_version = hci.HCI_VERSION_BLUETOOTH_CORE_4_2
            self.le_features &= ~_AFTER_4_2
            self.supported_commands = self.supported_commands - _COMMANDS_AFTER_4_2
        else:
            self.supported_commands = self.supported_commands | _EXTENDED_COMMANDS

    def until_next(self, interval: int) -> float:
        """Return the seconds until the next advertisement; interval: in slots of 0.625 ms."""
        return max(interval * _SLOT, 0.020) + self.link.random.uniform(0.0, _MAX_DELAY)

    @property
    def active_scan(self) -> bool:
        """Whether it asks those that it hears for a scan response."""
        return self.le_scan_enable and self.le_scan_type == hci.HCI_LE_Set_Scan_Parameters_Command.ACTIVE_SCANNING

    @property
    def scan_address(self) -> hci.Address:
        """The address under which it asks for scan responses."""
        own = self.le_scan_own_address_type
        return self.public_address if own == hci.Address.PUBLIC_DEVICE_ADDRESS else self.random_address

    def hear(self, heard: Advertisement, rssi: int) -> None:
        """Report an advertisement to the host, if it scans and the advertisement is new to it; rssi: dBm."""
        legacy = bool(heard.event_type & LEGACY)
        if not self.le_scan_enable or not (legacy or self._extended_reports):
            return
        key = (bytes(heard.address), heard.event_type)
        if self.filter_duplicates:
            if key in self._seen:
                return
            if len(self._seen) < _MAX_SEEN:
                self._seen.add(key)
        self.send_hci_packet(_extended_report(heard, rssi) if self._extended_reports else _report(heard, rssi))

    # What the host commands. Bumble finds these by name.

    def on_hci_reset_command(self, command: hci.HCI_Reset_Command) -> hci.HCI_StatusReturnParameters:
        """Stop sending and listening, which Bumble's reset does not."""
        self.lose_power()
        return super().on_hci_reset_command(command)

    def lose_power(self) -> None:
        """Stop sending and listening, and forget what was ordered."""
        self.silence()
        self.advertising_sets.clear()
        self.le_scan_enable = False

    def silence(self) -> None:
        """Stop every advertisement."""
        self.le_legacy_advertiser.stop()
        for advertising_set in self.advertising_sets.values():
            advertising_set.stop()

    def on_hci_le_set_scan_enable_command(
        self, command: hci.HCI_LE_Set_Scan_Enable_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Scan, with legacy reports and an empty duplicate filter."""
        self._extended_reports = False
        self._seen.clear()
        return super().on_hci_le_set_scan_enable_command(command)

    def on_hci_le_set_extended_scan_enable_command(
        self, command: hci.HCI_LE_Set_Extended_Scan_Enable_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Scan, with extended reports and an empty duplicate filter."""
        self._extended_reports = True
        self._seen.clear()
        return super().on_hci_le_set_extended_scan_enable_command(command)

    def on_hci_le_set_extended_scan_parameters_command(
        self, command: hci.HCI_LE_Set_Extended_Scan_Parameters_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Keep whether the scan is an active one, which Bumble forgets."""
        self.le_scan_type = command.scan_types[0]
        return super().on_hci_le_set_extended_scan_parameters_command(command)

    def on_hci_le_set_advertising_set_random_address_command(
        self, command: hci.HCI_LE_Set_Advertising_Set_Random_Address_Command
    ) -> hci.HCI_StatusReturnParameters:
        """Give a set its address."""
        self._set(command.advertising_handle)
        return super().on_hci_le_set_advertising_set_random_address_command(command)

    def on_hci_le_set_extended_advertising_parameters_command(
        self, command: hci.HCI_LE_Set_Extended_Advertising_Parameters_Command
    ) -> hci.HCI_LE_Set_Extended_Advertising_Parameters_ReturnParameters:
        """Give a set its parameters, and say with what power it is sent."""
        self._set(command.advertising_handle)
        answer = super().on_hci_le_set_extended_advertising_parameters_command(command)
        answer.selected_tx_power = self.tx_power
        return answer

    def on_hci_le_read_number_of_supported_advertising_sets_command(
        self, command: hci.HCI_LE_Read_Number_Of_Supported_Advertising_Sets_Command
    ) -> hci.HCI_LE_Read_Number_Of_Supported_Advertising_Sets_ReturnParameters:
        """Say how many sets there are."""
        answer = super().on_hci_le_read_number_of_supported_advertising_sets_command(command)
        answer.num_supported_advertising_sets = self.sets
        return answer

    def on_hci_le_read_advertising_physical_channel_tx_power_command(
        self, command: hci.HCI_LE_Read_Advertising_Physical_Channel_Tx_Power_Command
    ) -> hci.HCI_LE_Read_Advertising_Physical_Channel_Tx_Power_ReturnParameters:
        """Say with what power a legacy advertisement is sent."""
        answer = super().on_hci_le_read_advertising_physical_channel_tx_power_command(command)
        answer.tx_power_level = self.tx_power
        return answer

    def on_hci_le_read_transmit_power_command(
        self, command: hci.HCI_LE_Read_Transmit_Power_Command
    ) -> hci.HCI_LE_Read_Transmit_Power_ReturnParameters:
        """Say that there is one power only."""
        answer = super().on_hci_le_read_transmit_power_command(command)
        answer.min_tx_power = answer.max_tx_power = self.tx_power
        return answer

    def on_hci_le_rand_command(self, _command: hci.HCI_LE_Rand_Command) -> hci.HCI_LE_Rand_ReturnParameters:
        """Return a random number of 8 bytes; Bumble's can be one too large."""
        number = struct.pack("<Q", self.link.random.getrandbits(64))
        return hci.HCI_LE_Rand_ReturnParameters(status=hci.HCI_ErrorCode.SUCCESS, random_number=number)

    def _set(self, handle: int) -> None:
        self.advertising_sets.setdefault(handle, _Set(self, handle))


class _Legacy(LegacyAdvertiser):
    """The one advertisement of the legacy commands. It can be started again without sending twice as often."""

    controller: AirController

    def _on_timer_fired(self) -> None:
        self.send_advertising_data()
        self.timer_handle = _later(self.controller.until_next(self.advertising_interval_min), self._on_timer_fired)

    def send_advertising_data(self) -> None:
        sent = Advertisement(
            _LEGACY_TYPES[self.advertising_type],
            self.address,
            self.advertising_data,
            self.controller.tx_power,
            self.scan_response_data,
        )
        self.controller.send_advertising_pdu(sent)


class _Set(AdvertisingSet):
    """One advertising set of the extended commands."""

    controller: AirController

    def start(self) -> None:
        self.stop()
        self.enabled = True
        self.timer_handle = asyncio.get_running_loop().call_soon(self._on_extended_advertising_timer_fired)

    def _on_extended_advertising_timer_fired(self) -> None:
        self.send_extended_advertising_data()
        interval = self.parameters.primary_advertising_interval_min if self.parameters else 0
        self.timer_handle = _later(self.controller.until_next(interval), self._on_extended_advertising_timer_fired)

    def send_extended_advertising_data(self) -> None:
        if self.parameters is None or self.address is None:
            return
        sent = Advertisement(
            self.parameters.advertising_event_properties & _SHARED_BITS,
            self.address,
            bytes(self.data),
            self.controller.tx_power,
            bytes(self.scan_response_data),
        )
        self.controller.send_advertising_pdu(sent)


def _later(seconds: float, action: Callable[[], None]) -> asyncio.Handle:
    return asyncio.get_running_loop().call_later(seconds, action)


def _extended_report(heard: Advertisement, rssi: int) -> hci.HCI_Packet:
    legacy = heard.event_type & LEGACY
    report = hci.HCI_LE_Extended_Advertising_Report_Event.Report(
        event_type=heard.event_type,
        address_type=heard.address.address_type,
        address=heard.address,
        primary_phy=hci.Phy.LE_1M,
        secondary_phy=0 if legacy else hci.Phy.LE_1M,
        advertising_sid=0xFF if legacy else 0,
        tx_power=_NO_PREFERENCE,  # not part of the packet: the receiver cannot know it
        rssi=rssi,
        periodic_advertising_interval=0,
        direct_address_type=0,
        direct_address=hci.Address.ANY,
        data=heard.data,
    )
    return hci.HCI_LE_Extended_Advertising_Report_Event([report])


def _report(heard: Advertisement, rssi: int) -> hci.HCI_Packet:
    kinds = hci.HCI_LE_Extended_Advertising_Report_Event.LEGACY_PDU_TYPE_MAP
    report = hci.HCI_LE_Advertising_Report_Event.Report(
        event_type=kinds[heard.event_type & ~LEGACY],
        address_type=heard.address.address_type,
        address=heard.address,
        data=heard.data,
        rssi=rssi,
    )
    return hci.HCI_LE_Advertising_Report_Event([report])
