"""Bytes that this process sends and receives over HTTP, headers included, where aiohttp hands them to the socket."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest import mock

import aiohttp
from aiohttp.client_proto import ResponseHandler

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Iterator


@dataclass
class Traffic:
    """Bytes since the start, and over how many connections; TLS and TCP are not in it."""

    sent: int = 0
    received: int = 0
    connections: int = 0


class _Counting(ResponseHandler):
    """What aiohttp does with a connection, counted."""

    traffic: Traffic

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.traffic.connections += 1
        super().connection_made(_CountingTransport(transport, self.traffic))  # type: ignore[arg-type]

    def data_received(self, data: bytes) -> None:
        self.traffic.received += len(data)
        super().data_received(data)


class _CountingTransport:
    """A transport that counts what is written to it."""

    def __init__(self, transport: Any, traffic: Traffic) -> None:
        self._transport = transport
        self._traffic = traffic

    def write(self, data: bytes) -> None:
        self._traffic.sent += len(data)
        self._transport.write(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        whole = list(parts)
        self._traffic.sent += sum(map(len, whole))
        self._transport.writelines(whole)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


@contextlib.contextmanager
def counted() -> Iterator[Traffic]:
    """Count meanwhile."""
    traffic = Traffic()
    handler = type("Counting", (_Counting,), {"traffic": traffic})

    class Connector(aiohttp.TCPConnector):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._factory = functools.partial(handler, loop=self._loop)

    with mock.patch.object(aiohttp, "TCPConnector", Connector):
        yield traffic
