"""What vectors are made of: JSON values, bytes and scalars in hexadecimal."""

from __future__ import annotations

from typing import Any

import msgspec

from protocol.credential import Credential, Holder, IssuerKey
from protocol.curve import Curve, decode_scalar, encode_scalar

Values = dict[str, Any]


def scalar(value: int) -> str:
    """A scalar as 32 big-endian bytes."""
    return encode_scalar(value).hex()


def read_scalar(text: str) -> int:
    """A scalar of a vector."""
    return decode_scalar(bytes.fromhex(text), "the vector's scalar")


def plain(value: Any) -> Any:
    """A message as JSON values."""
    match value:
        case msgspec.Struct():
            return {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        case bytes():
            return value.hex()
        case tuple() | list():
            return [plain(item) for item in value]
        case _:
            return value


def read_issuer(curve: Curve, given: Values) -> IssuerKey:
    """The issuer key of a vector: `holder`, and X~ ‖ Y~ as `issuer`."""
    encoded = bytes.fromhex(given["issuer"])
    x, y = curve.decode_g2(encoded[:96], "X~"), curve.decode_g2(encoded[96:], "Y~")
    return IssuerKey(Holder(given["holder"].encode()), x, y, encoded)


def read_credential(curve: Curve, given: Values) -> Credential:
    """The credential of a vector: `secret`, `s1`, `s2`."""
    s1, s2 = (curve.decode_g1(bytes.fromhex(given[name]), name) for name in ("s1", "s2"))
    return Credential(read_scalar(given["secret"]), s1, s2)
