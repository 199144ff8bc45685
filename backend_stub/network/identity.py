"""What a part shows of itself over TLS, and whom it trusts."""

from __future__ import annotations

import asyncio
import logging
import secrets
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives import serialization

from backend_stub.network.certificates import CERTIFICATE, KEY, LOCAL, ROOTS, WARN_DAYS, days_left, read_key, verdict
from protocol.errors import Misuse, SpotError

if TYPE_CHECKING:
    from backend_stub.settings import Settings

log = logging.getLogger(__name__)

LOOK_SECONDS = 600.0  # between two looks for a renewed certificate


class Identity:
    """What a part shows of itself over TLS, and whom it trusts; renewed certificates are taken up as it runs."""

    def __init__(self, part: Path, told: Settings) -> None:
        self._part = part
        self._told = told
        self.calling = _context(ssl.PROTOCOL_TLS_CLIENT)
        self.answering = _context(ssl.PROTOCOL_TLS_SERVER) if told.tls else None
        self._seen = self._changed_at()
        self._load()
        if (left := days_left(part, told)) is not None and left < WARN_DAYS:
            log.warning("the certificate of %s: %s", part.name, verdict(part, told))
        if self.answering is None and told.host not in LOCAL:
            log.warning("%s speaks no TLS at %s: whoever reaches it is answered", part.name, told.host)
        for context in (self.calling, *([self.answering] if self.answering else [])):
            if (part / ROOTS).exists():
                context.load_verify_locations(part / ROOTS)
            else:
                context.load_default_certs()
        if self.answering is not None:
            if (part / ROOTS).exists():
                self.answering.verify_mode = ssl.CERT_OPTIONAL  # agents show none, proxies do
            self.answering.num_tickets = 0

    def _changed_at(self) -> list[float]:
        shown = [self._part / CERTIFICATE, *map(Path, filter(None, (self._told.certificate, self._told.key_file)))]
        return [file.stat().st_mtime for file in shown if file.exists()]

    def _load(self) -> None:
        try:
            if (self._part / CERTIFICATE).exists():
                self._load_own()
            if self._told.certificate and self.answering is not None:
                self.answering.load_cert_chain(self._told.certificate, self._told.key_file or None)
        except (OSError, ssl.SSLError) as error:
            raise Misuse(
                f"the certificate of {self._part.name} cannot be used ({error.strerror or error}); "
                "see certificate and key_file in its settings.toml, or: spot-backend certificates DIR --renew"
            ) from None
        if self.answering is not None and not self._seen:
            raise Misuse(f"{self._part.name} has no certificate; see tls and certificate in its settings.toml")

    def _load_own(self) -> None:
        # OpenSSL reads keys from files only: it gets one that is sealed under a password of this moment.
        password = secrets.token_hex(16)
        sealed = read_key(self._part, KEY).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password.encode()),
        )
        with tempfile.TemporaryDirectory() as place:
            file = Path(place) / KEY
            file.write_bytes(sealed)
            for context in (self.calling, self.answering):
                if context is not None:
                    context.load_cert_chain(self._part / CERTIFICATE, file, password)

    async def watch(self) -> None:
        """Take up what was renewed, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(OSError):
                changed = self._changed_at()
                if changed != self._seen:
                    try:
                        self._load()
                        self._seen = changed  # only now: what could not be read this time is tried again
                        log.info("a renewed certificate is in use")
                    except SpotError as error:
                        log.warning("%s", error.text)


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.options |= ssl.OP_NO_TICKET
    return context
