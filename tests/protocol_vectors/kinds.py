"""Every kind of vector, by its name in the files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.errors import SpotError
from tests.protocol_vectors import arithmetic, flow

if TYPE_CHECKING:
    from collections.abc import Callable

    from protocol.curve import Curve
    from tests.protocol_vectors.plain import Values

KINDS: dict[str, Callable[[Curve, Values], Values]] = {
    "stream": arithmetic.make_stream,
    "random scalar": arithmetic.make_random_scalar,
    "joined": arithmetic.make_joined,
    "number": arithmetic.make_number,
    "expansion": arithmetic.make_expansion,
    "hashes": arithmetic.make_hashes,
    "G1": arithmetic.make_g1,
    "G2": arithmetic.make_g2,
    "scalar": arithmetic.make_scalar,
    "issuer": arithmetic.make_issuer,
    "checked issuer": arithmetic.make_checked_issuer,
    "join": arithmetic.make_join,
    "issued": arithmetic.make_issued,
    "accepted": arithmetic.make_accepted,
    "show": arithmetic.make_show,
    "verified": arithmetic.make_verified,
    "opened": arithmetic.make_opened,
    "encounter": flow.make_encounter,
    "meeting": flow.make_meeting,
    "times": flow.make_times,
    "submission": flow.make_submission,
    "checked submission": flow.make_checked_submission,
    "partial": flow.make_partial,
    "checked partial": flow.make_checked_partial,
    "record": flow.make_record,
    "checked record": flow.make_checked_record,
    "code": flow.make_code,
    "typed code": flow.make_typed_code,
    "report": flow.make_report,
    "checked report": flow.make_checked_report,
    "opened report": flow.make_opened_report,
    "receipt": flow.make_receipt,
    "opened receipt": flow.make_opened_receipt,
    "unpadded": flow.make_unpadded,
    "decoded": flow.make_decoded,
    "link": flow.make_link,
    "followed parameters": flow.make_followed_parameters,
    "keys": flow.make_keys,
    "publication": flow.make_publication,
    "followed publications": flow.make_followed_publications,
}


def outcome(curve: Curve, kind: str, given: Values) -> Values:
    """What a vector of this kind says: the values that follow (`gives`), or the error's slug (`refused`)."""
    try:
        return {"gives": KINDS[kind](curve, given)}
    except SpotError as error:
        return {"refused": error.slug}
