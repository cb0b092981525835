"""A session with a camera (RFC 2326, 10): SETUP, PLAY, keeping it alive, TEARDOWN.

It goes over the connection that DESCRIBE was asked on: some cameras take one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from recorder.rtsp.connection import Connection
from recorder.rtsp.describe import Offer
from recorder.rtsp.messages import ProtocolError, Response
from recorder.rtsp.packets import RTCP_KINDS
from recorder.rtsp.rtp import WINDOW, RtpReceiver
from recorder.rtsp.stream import Channel
from recorder.rtsp.udp import UdpPair

ANSWER_S = 10.0
TEARDOWN_S = 1.0
SESSION_S = 60  # after which a session ends that is not kept alive (RFC 2326, 12.37)
# Of that time when it is kept alive: some cameras wait only for half of what they say.
ALIVE_AFTER = 0.4
LONGEST_ALIVE_S, SHORTEST_ALIVE_S = 30.0, 1.0
CLOSED_TIMES = 2  # in a row: a request that ends sessions is made no more
REPORT_S = 5.0  # between receiver reports (RFC 3550, 6.2)

UNSUPPORTED_TRANSPORT = 461  # RFC 2326, 11.3.14
_NO_RANGE, _NOT_TOGETHER = (456, 457), 459  # RFC 2326, 11.3.9, 11.3.10 and 11.3.12

_NOBODY = Channel(lambda packet, arrival_ms: None, lambda head: True)


class RefusedError(Exception):
    """The camera does not do what was asked; `status` is its answer to `method`."""

    def __init__(self, method: str, status: int):
        super().__init__(f"{status} to {method}")
        self.method, self.status = method, status


class RtspSession:
    """One session; its methods raise RefusedError and what `Connection.request` raises."""

    def __init__(
        self,
        connection: Connection,
        offer: Offer,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        closed_at: Counter[str] | None = None,
    ):
        """Take a connection over which the offer was made; `sleep` waits between keepalives.

        `closed_at` counts for the sessions of a camera how often in a row it closed the connection
        where a method was to keep the session.
        """
        self._connection, self._offer, self._sleep = connection, offer, sleep
        self._closed_at = Counter[str]() if closed_at is None else closed_at
        self._id = ""
        self._channels: dict[int, list[RtpReceiver]] = {}
        self._pairs: list[UdpPair] = []
        self._uris: list[str] = []  # of the tracks that were set up
        self._timeout_s = SESSION_S
        self._ssrc, self._name = secrets.randbits(32), secrets.token_urlsafe(12).encode()
        # receivers, and how a report goes to the camera
        self._reports: list[tuple[RtpReceiver, Callable[[bytes], None]]] = []

    async def set_up_udp(self, track: int, receiver: RtpReceiver) -> None:
        """Have a track of the offer sent to the receiver by UDP."""
        own, camera = self._connection.hosts
        pair = UdpPair(own)
        self._pairs.append(pair)
        transport = f"RTP/AVP;unicast;client_port={pair.port}-{pair.port + 1}"
        response = await self._ask("SETUP", self._offer.track_uris[track], {"Transport": transport})
        self._uris.append(self._offer.track_uris[track])
        answered = response.get("transport") or ""
        source = re.search(r"source\s*=\s*\"?([\w.:]+)", answered, re.I)
        senders = {camera, source[1] if source else camera}
        receiver.window = WINDOW
        clock_ms, fail = self._connection.clock_ms, self._connection.fail
        await pair.receive(receiver.push, receiver.push_rtcp, senders, clock_ms, fail)
        port = re.search(r"server_port\s*=\s*\"?\d{1,5}\s*-\s*(\d{1,5})", answered, re.I)
        if port and 0 < int(port[1]) < 65536:
            send = partial(pair.send_control, host=camera, port=int(port[1]))
            self._reports.append((receiver, send))

    async def set_up(self, track: int, receiver: RtpReceiver) -> None:
        """Have a track of the offer sent to the receiver, between the answers (10.12)."""
        wanted = 2 * track
        transport = f"RTP/AVP/TCP;unicast;interleaved={wanted}-{wanted + 1}"
        response = await self._ask("SETUP", self._offer.track_uris[track], {"Transport": transport})
        answered = response.get("transport") or ""
        by_udp = re.search(r"(?:client|server)_port\s*=", answered, re.I)
        if by_udp and "interleaved" not in answered.lower():  # it sends by UDP all the same
            raise RefusedError("SETUP", UNSUPPORTED_TRANSPORT)
        media, control = _channels(answered, wanted)
        self._uris.append(self._offer.track_uris[track])
        self._expect(media, receiver, Channel(receiver.push, receiver.is_plausible))
        # some send on the channels that they were asked for, whatever they answer
        for number in {control, wanted, wanted + 1} - {media}:
            self._expect(number, receiver, Channel(receiver.push_rtcp, receiver.is_plausible))
        self._reports.append((receiver, partial(self._connection.send_packet, control)))

    def _expect(self, number: int, receiver: RtpReceiver, channel: Channel) -> None:
        """Have a receiver take a channel; some cameras name the same one for two tracks."""
        receivers = self._channels.setdefault(number, [])
        receivers.append(receiver)
        self._connection.expect(number, channel if len(receivers) == 1 else _shared(receivers))

    async def play(self, answer_s: float = ANSWER_S) -> None:
        """Let the stream begin; packets may come before this returns.

        What the answer says of the first packets (RTP-Info) is not used: cameras write it wrongly.
        Some play and never answer.
        """
        try:
            await self._ask("PLAY", self._offer.uri, {"Range": "npt=0.000-"}, answer_s)
        except TimeoutError:
            if not any(receiver.counts.received for receiver, _ in self._reports):
                raise
        except RefusedError as refused:
            if refused.status not in (*_NO_RANGE, _NOT_TOGETHER):
                raise
            together = refused.status != _NOT_TOGETHER
            for uri in [self._offer.uri] if together else self._uris:
                await self._ask("PLAY", uri)

    async def keep_alive(self) -> None:
        """Keep the session until this is cancelled; returns where the camera has ended it.

        Some cameras need GET_PARAMETER and do not announce it: where they do not, both are sent
        in turn, and so they are where one is not answered. Others close the connection at one of
        them: it is then left out, and tried once more after that session. Where both are, reports
        have to keep it.
        """
        either = ("OPTIONS", "GET_PARAMETER")
        left_out = [m for m in either if self._closed_at[m] >= CLOSED_TIMES]
        try:
            await self._keep_alive_by([m for m in either if m not in left_out])
        except ConnectionError:
            left_out = []
            raise
        finally:
            for method in left_out:
                self._closed_at[method] -= 1

    async def _keep_alive_by(self, methods: list[str]) -> None:
        if not methods:
            await asyncio.Event().wait()
        pause_s = min(LONGEST_ALIVE_S, max(SHORTEST_ALIVE_S, ALIVE_AFTER * self._timeout_s))
        turn, waited_s, known, is_silent = 0, 0.0, methods, False
        while True:
            await self._sleep(max(SHORTEST_ALIVE_S, pause_s - waited_s))
            waited_s = 0.0
            method = methods[turn % len(methods)]
            turn += 1
            try:
                response = await self._ask(method, self._offer.uri)
            except TimeoutError:  # some never answer; whether pictures come is looked at elsewhere
                # nor may it keep the session, though the camera announces it
                methods, is_silent, waited_s = known, True, ANSWER_S
                continue
            except ConnectionError:
                self._closed_at[method] += 1
                raise
            except RefusedError as refused:
                self._closed_at[method] = 0
                if refused.status == 454:  # no such session
                    return
                methods = [m for m in methods if m != method] or methods
                continue
            self._closed_at[method] = 0
            announced = "GET_PARAMETER" in (response.get("public") or "").upper()
            if announced and "GET_PARAMETER" in known and not is_silent:
                methods = ["GET_PARAMETER"]

    async def report(self) -> None:
        """Tell the camera what came of its packets until this is cancelled.

        Some cameras end a session where nothing tells that its packets are taken.
        """
        while True:
            now_ms = self._connection.clock_ms()
            for receiver, send in self._reports:
                send(receiver.receiver_report(self._ssrc, self._name, now_ms))
            await self._sleep(REPORT_S)

    async def tear_down(self) -> None:
        """End the session, whether the camera answers or not, and close the connection.

        What still comes is given to nobody.
        """
        for pair in self._pairs:
            pair.close()
        for number in self._channels:
            self._connection.expect(number, _NOBODY)
        with contextlib.suppress(OSError, ProtocolError, RefusedError):  # TimeoutError is one
            if self._id:
                await self._ask("TEARDOWN", self._offer.uri, timeout_s=TEARDOWN_S)
        await self._connection.close()

    async def _ask(
        self,
        method: str,
        uri: str,
        headers: dict[str, str] | None = None,
        timeout_s: float = ANSWER_S,
    ) -> Response:
        session = {"Session": self._id} if self._id else {}
        response = await self._connection.request(
            method, uri, {**session, **(headers or {})}, timeout_s
        )
        if not 200 <= response.status < 300:
            raise RefusedError(method, response.status)
        self._read_session(response.get("session") or "")
        return response

    def _read_session(self, value: str) -> None:
        """Read a Session header (12.37); cameras put blanks anywhere in it.

        Some say the time with the answer to PLAY alone.
        """
        name, _, rest = value.partition(";")
        self._id = self._id or name.strip()
        if found := re.search(r"timeout\s*=\s*\"?(\d{1,6})", rest, re.I):
            self._timeout_s = int(found[1]) or SESSION_S


def _shared(receivers: Sequence[RtpReceiver]) -> Channel:
    """Return a channel of several tracks, which payload types tell apart."""

    def take(packet: memoryview, arrival_ms: float) -> None:
        kind = packet[1] if len(packet) > 1 else 0
        if kind in RTCP_KINDS:
            for receiver in receivers:
                receiver.push_rtcp(packet, arrival_ms)
            return
        its = (r for r in receivers if r.payload_type == kind & 0x7F)
        next(its, receivers[0]).push(packet, arrival_ms)

    return Channel(take, lambda head: any(r.is_plausible(head) for r in receivers))


def _channels(transport: str, wanted: int) -> tuple[int, int]:
    """Return the channels of RTP and RTCP that the camera chose, or those wanted."""
    found = re.search(r"interleaved\s*=\s*\"?(\d{1,3})(?:\s*-\s*(\d{1,3}))?", transport, re.I)
    if found is None or int(found[1]) > 255:
        return wanted, wanted + 1
    media = int(found[1])
    control = int(found[2]) if found[2] else media + 1
    return media, control if control != media and control < 256 else media + 1 & 0xFF
