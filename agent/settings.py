"""What a user may set: one file, `settings.toml` in the data folder, and an environment variable for each setting."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import platformdirs
from msgspec import Meta

from agent.clock import Clock
from protocol.errors import Misuse, StorageError
from protocol.timescale import Timescale, read_timescale

FILE = "settings.toml"
PREFIX = "SPOT_"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings; each can be given as SPOT_<NAME> in the environment, which wins over the file.

    radio: "auto" is this platform's own; "simulated" hears nobody unless several agents share a process
    adapter: such as hci0; the first that is on, if empty
    service_uuid: 16 bits, the same on all devices that are to meet
    tx_power: the power the radio sends with, dBm; correction: added to every attenuation measured, dB
    power_cycle: whether an adapter that is stuck may be switched off and on; a keyboard may hang on it
    duty: "mains" listens always, "battery" now and then, "auto" as the machine is powered at the moment
    curve: "arkworks" or "py_ecc"; the fastest installed, if empty
    key: where the store's key is kept: "auto" is the system's keyring where there is one, else a file
    clock: SPEED@ANCHOR for demonstrations; the machine's own time, if empty
    """

    radio: Literal["auto", "bluez", "windows", "macos", "simulated"] = "auto"
    adapter: str = ""
    service_uuid: Annotated[int, Meta(ge=0, le=0xFFFF)] | None = None
    tx_power: Annotated[int, Meta(ge=-50, le=20)] = 0
    correction: Annotated[float, Meta(ge=-60, le=60)] = 0.0
    power_cycle: bool = False
    duty: Literal["auto", "mains", "battery"] = "auto"
    curve: Literal["", "arkworks", "py_ecc"] = ""
    key: Literal["auto", "keyring", "file"] = "auto"
    clock: str = ""

    def open_clock(self) -> Clock:
        """The clock of these settings. Raises Misuse."""
        return Clock(read_timescale(self.clock) if self.clock else Timescale())


def default_folder() -> Path:
    """Where the agent keeps its data unless told otherwise: SPOT_DATA_DIR, or the platform's own place."""
    return Path(os.environ.get("SPOT_DATA_DIR") or platformdirs.user_data_dir("spot", appauthor=False))


def read_settings(folder: Path) -> Settings:
    """The settings for this data folder. Raises Misuse naming the setting that is wrong."""
    path = folder / FILE
    values: dict[str, Any] = {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        pass
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Misuse(f"{path} is not TOML ({error}); mend or remove it") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read ({error.strerror}); mend its permissions") from None
    for name in Settings.__struct_fields__:
        if (value := os.environ.get(PREFIX + name.upper())) is not None:
            values[name] = value
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Misuse(f"a setting is wrong: {error}; mend {path} or the {PREFIX}… environment variable") from None
