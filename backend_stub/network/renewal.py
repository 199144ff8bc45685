"""How the authority renews certificates of the parts beside it: what its root signed, for proxies that are listed.

A part can write whatever it likes into its folder, so nothing there is believed for its own sake.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from backend_stub.network import certificates
from protocol.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

log = logging.getLogger(__name__)

RENEW_DAYS = 120  # before its end a certificate is renewed


def renew(authority: Path, part: Path, listed: Collection[str]) -> bool:
    """A fresh certificate for a part's key, with the names that the root signed for it. Raises SpotError.

    False where it has none, or is a proxy whose URL is not among those that are `listed` in the parameters.
    """
    found = certificates.shown(part)
    if not found:
        return False
    _check(found[0], certificates.roots(authority)[0], part)
    names = found[0].extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    hosts = [str(one.value) for one in names if not isinstance(one, x509.UniformResourceIdentifier)]
    urls = names.get_values_for_type(x509.UniformResourceIdentifier)
    if not set(urls) <= set(listed):
        return False
    public = (
        found[0].public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    certificates.write(part, certificates.issue(authority, public, hosts, urls[0] if urls else ""))
    return True


def _check(shown: x509.Certificate, root: x509.Certificate, part: Path) -> None:
    try:
        shown.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise StorageError(
            f"the root did not sign {part / certificates.CERTIFICATE}: look who changed it, "
            "and bring it back from a backup"
        ) from None


def renew_due(authority: Path, part: Path, listed: Collection[str]) -> None:
    """Renew what ends within RENEW_DAYS. Raises SpotError."""
    found = certificates.shown(part)
    due = bool(found) and found[0].not_valid_after_utc - datetime.now(UTC) < timedelta(days=RENEW_DAYS)
    if due and renew(authority, part, listed):
        log.info("the certificate of %s is renewed", part.name)
