"""RTP and RTCP over UDP (RFC 3550, 11): a pair of ports for each track."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Collection
from functools import partial
from typing import cast

PORTS = range(20_000, 60_000, 2)
PORTS_TRIED = 50
BUFFER = 1 << 20  # bytes that the kernel is asked to keep: a keyframe comes at once

Take = Callable[[memoryview, float], None]
Fail = Callable[[Exception], None]


class _Socket(asyncio.DatagramProtocol):
    """Hands on what comes from the camera, whatever its port, until a fault of ours.

    `made` is given the transport as soon as there is one.
    """

    def __init__(
        self,
        take: Take,
        senders: Collection[str],
        clock_ms: Callable[[], float],
        fail: Fail,
        made: Callable[[asyncio.BaseTransport], None],
    ):
        self._take, self._senders, self._clock_ms, self._fail = take, senders, clock_ms, fail
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made(transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if addr[0] not in self._senders:
            return
        try:
            self._take(memoryview(data), self._clock_ms())
        except Exception as error:
            self._senders = ()  # what was to become of the datagram is not known: none after it
            self._fail(error)
            raise  # the event loop says where it is


class UdpPair:
    """An even port for RTP and the next one for RTCP; `close` frees them."""

    def __init__(self, host: str):
        """Take two ports side by side of one of our addresses; raises OSError without such."""
        self._sockets: list[socket.socket] = []
        self._transports: list[asyncio.DatagramTransport] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        for _ in range(PORTS_TRIED):
            self.port = secrets.choice(PORTS)
            with contextlib.suppress(OSError):
                for number in (self.port, self.port + 1):
                    self._sockets.append(opened := socket.socket(family, socket.SOCK_DGRAM))
                    opened.setblocking(False)
                    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
                    opened.bind((host, number))
                return
            self.close()
        raise OSError("no two UDP ports side by side are free")

    async def receive(
        self,
        media: Take,
        control: Take,
        senders: Collection[str],
        clock_ms: Callable[[], float],
        fail: Fail,
    ) -> None:
        """Hand on packets from these hosts with their arrival by `clock_ms` (UTC).

        `fail` is told of a fault of ours: an event loop would go on with the next datagram.
        """
        loop = asyncio.get_running_loop()
        for take in (media, control):
            make = partial(_Socket, take, senders, clock_ms, fail, self._made)
            await loop.create_datagram_endpoint(make, sock=self._sockets[0])

    def _made(self, transport: asyncio.BaseTransport) -> None:
        """Have a transport instead of a socket, whoever still waits for it: it is its owner now."""
        del self._sockets[0]
        self._transports.append(cast(asyncio.DatagramTransport, transport))  # uvloop's is none

    def send_control(self, packet: bytes, host: str, port: int) -> None:
        """Send an RTCP packet to the camera, from our port for RTCP."""
        if len(self._transports) > 1:
            self._transports[1].sendto(packet, (host, port))

    def close(self) -> None:
        """Free the ports; may be called twice."""
        for transport in self._transports:
            transport.close()
        for opened in self._sockets:
            opened.close()
        self._transports, self._sockets = [], []
