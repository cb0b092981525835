"""One connection to a camera: requests and their answers, with the login where it is asked for.

Requests go one after another, so an answer belongs to the request before it whatever its CSeq
says: cameras count wrongly.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import cast

from recorder.rtsp.address import Address
from recorder.rtsp.auth import Authenticator, parse_challenges, strongest
from recorder.rtsp.messages import ProtocolError, Request, Response, bytes_of
from recorder.rtsp.stream import Channel, MessageStream

DEFAULT_USER_AGENT = "Kuager"
LOOKUP_THREADS = 32  # names that are looked up at a time; a dead name server blocks each for long
ANSWERS = 2  # to challenges of one request: the login, and once more where its nonce was stale
MAX_UNSENT = 16 * 1024  # bytes that wait for a camera: then it gets no reports
MAX_UNASKED = 1_000  # answers that belong to no request, and the camera's own, between two of ours
_SHUTDOWN_S = 1.0  # for the other side to see that the connection is closed


class ClosedError(ConnectionError):
    """The camera closed the connection where an answer was due."""


def look_up(host: str) -> list[str]:
    """Return the numbers of a host as the system knows them; raises socket.gaierror; blocks."""
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except UnicodeError:  # of a name that is none
        raise socket.gaierror(socket.EAI_NONAME, "not a name of a host") from None


class Resolver:
    """Looks up names in threads of its own.

    The event loop has four for everything; names that nobody answers for would keep them all.
    """

    def __init__(self, look_up: Callable[[str], list[str]] = look_up):
        self._look_up = look_up
        self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="resolver")

    async def __call__(self, host: str) -> list[str]:
        """Return the numbers of a host, at least one; raises socket.gaierror."""
        try:
            ipaddress.ip_address(host)
            return [host]
        except ValueError:
            pass
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._pool, self._look_up, host)
        return list(dict.fromkeys(found))

    def close(self) -> None:
        """Start no more look-ups; those under way are not waited for."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Connection:
    """A connection that was opened, until it is closed.

    It connects again where a camera closes after its challenge. TimeoutError, ClosedError,
    ProtocolError and OSError (ssl.SSLError and socket.gaierror among them) come out of `open` and
    `request`; the connection is then of no more use.
    """

    def __init__(
        self,
        address: Address,
        resolver: Resolver,
        *,
        user_agent: str = DEFAULT_USER_AGENT,
        clock_ms: Callable[[], float] = lambda: time.time() * 1000,
    ):
        """`clock_ms` (UTC) says when packets arrive."""
        self.address = address
        self.authenticator: Authenticator | None = None
        self._resolver, self._user_agent, self.clock_ms = resolver, user_agent, clock_ms
        self._wire: _Wire | None = None
        self._sequence = 0

    async def open(self, timeout_s: float) -> None:
        """Connect, to the first of the host's numbers that takes the connection."""
        numbers = await self._resolve(timeout_s)
        for n, number in enumerate(numbers):
            try:
                async with asyncio.timeout(timeout_s / len(numbers)):
                    self._wire = await self._connect(number)
                    return
            except OSError:  # TimeoutError is one
                if n == len(numbers) - 1:
                    raise

    async def _resolve(self, timeout_s: float) -> list[str]:
        try:
            async with asyncio.timeout(timeout_s):
                return await self._resolver(self.address.host)
        except TimeoutError:
            raise socket.gaierror(socket.EAI_AGAIN, "no name server answers") from None

    async def _connect(self, number: str) -> _Wire:
        tls = _tls() if self.address.secure else None
        _, wire = await asyncio.get_running_loop().create_connection(
            lambda: _Wire(self.clock_ms),
            number,
            self.address.port,
            ssl=tls,
            server_hostname=self.address.host if tls else None,
        )
        return wire

    async def request(
        self, method: str, uri: str, headers: Mapping[str, str], timeout_s: float
    ) -> Response:
        """Send a request and return its answer; challenges are answered as often as is right.

        An answer of 401 that comes back is final: there is no login, or it was refused.
        """
        for attempt in range(ANSWERS + 1):
            response = await self._exchange(method, uri, headers, timeout_s, again=attempt > 0)
            if response.status != 401 or attempt == ANSWERS:
                break
            challenge = strongest(parse_challenges(response.all("www-authenticate")))
            if challenge is None or self.address.credentials is None:
                break
            if attempt > 0 and not challenge.stale:
                break
            self.authenticator = Authenticator(self.address.credentials, challenge)
        return response

    async def _exchange(
        self, method: str, uri: str, headers: Mapping[str, str], timeout_s: float, again: bool
    ) -> Response:
        """Send once and wait for the answer; after a challenge connect again where it closed."""
        assert self._wire is not None, "not open"
        try:
            if self._wire.closed and again:
                raise ClosedError
            return await self._send(self._wire, method, uri, headers, timeout_s)
        except ConnectionError:
            if not again:
                raise
        await self.close()
        await self.open(timeout_s)
        return await self._send(self._wire, method, uri, headers, timeout_s)

    async def _send(
        self, wire: _Wire, method: str, uri: str, headers: Mapping[str, str], timeout_s: float
    ) -> Response:
        self._sequence += 1
        lines = {"CSeq": str(self._sequence), "User-Agent": self._user_agent, **headers}
        if self.authenticator is not None:
            lines["Authorization"] = self.authenticator.authorization(method, uri)
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        async with asyncio.timeout(timeout_s):
            return await wire.send(bytes_of(f"{method} {uri} RTSP/1.0\r\n{head}\r\n"))

    def expect(self, number: int, channel: Channel) -> None:
        """Take the packets of an interleaved channel that SETUP agreed on."""
        assert self._wire is not None, "not open"
        self._wire.stream.expect(number, channel)

    def send_packet(self, number: int, packet: bytes) -> None:
        """Send a packet on an interleaved channel; none where the camera takes nothing any more."""
        assert self._wire is not None, "not open"
        self._wire.send_packet(number, packet)

    @property
    def hosts(self) -> tuple[str, str]:
        """The numbers of this machine and of the camera."""
        assert self._wire is not None, "not open"
        return self._wire.hosts

    def fail(self, error: Exception) -> None:
        """Give the connection up for this reason, which `ended` returns."""
        assert self._wire is not None, "not open"
        self._wire.fail(error)

    async def ended(self) -> Exception | None:
        """Wait until the connection is closed; return what is wrong, None for a plain end."""
        assert self._wire is not None, "not open"
        await asyncio.wait({self._wire.lost})
        return self._wire.error

    async def close(self) -> None:
        """Close, and see to it that the camera knows."""
        if self._wire is not None:
            await self._wire.close()


@cache
def _tls() -> ssl.SSLContext:
    """Return what takes cameras as they are.

    They make their certificates themselves and nobody vouches for them; old ones know short keys
    and old versions of TLS only, which is still more than none.
    """
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    tls.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    tls.set_ciphers("DEFAULT:@SECLEVEL=0")
    return tls


class _Wire(asyncio.BufferedProtocol):
    """The bytes of one connection; answers that nobody waits for are dropped.

    Whoever sends so much that a read fills the buffer waits for the other connections: an event
    loop may read on from one as long as there is something to read.
    """

    def __init__(self, clock_ms: Callable[[], float]):
        self.closed = False
        self.error: Exception | None = None
        self.stream = MessageStream(self._take)
        self._clock_ms = clock_ms
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._answer: asyncio.Future[Response] | None = None
        self._answered = False  # at least once: it does speak RTSP
        self._unasked = 0  # answers and requests since one was waited for
        self._room = 0  # bytes that the read under way has room for

    async def send(self, request: bytes) -> Response:
        if self.closed:
            raise ClosedError
        self._answer = asyncio.get_running_loop().create_future()
        self._unasked = 0  # some never answer, and ask themselves all day
        self._transport.write(request)
        return await self._answer

    def send_packet(self, number: int, packet: bytes) -> None:
        if not self.closed and self._transport.get_write_buffer_size() < MAX_UNSENT:
            head = bytes([ord("$"), number]) + len(packet).to_bytes(2, "big")
            self._transport.write(head + packet)

    async def close(self) -> None:
        self._transport.close()
        done, _ = await asyncio.wait({self.lost}, timeout=_SHUTDOWN_S)
        if not done:
            self._transport.abort()

    def fail(self, error: Exception) -> None:
        self.error = self.error or error
        self._give_up(error)
        self.closed = True
        self._transport.abort()

    # -- called by the event loop ---------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        own, other = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        self.hosts = own[0], other[0] if other else ""  # the camera has closed it already

    def get_buffer(self, sizehint: int) -> memoryview:
        buffer = self.stream.buffer()
        self._room = len(buffer)
        return buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self.closed:
            return
        try:
            self.stream.advance(nbytes, self._clock_ms())
        except ProtocolError as error:
            self.fail(error)
            return
        if nbytes == self._room and not self.closed:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        if not self.closed:
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        self.error = self.error or error
        if self.stream.skipped and not self._answered:
            self._give_up(ProtocolError("something that is not RTSP"))
        self._give_up(ClosedError())
        if not self.lost.done():
            self.lost.set_result(None)

    def _take(self, message: Response | Request) -> None:
        if isinstance(message, Request):
            self._count_unasked("requests")
            if not self.closed and self._transport.get_write_buffer_size() < MAX_UNSENT:
                self._transport.write(message.answer)
            return
        is_answer = message.status >= 200  # 100 is not the answer yet
        self._answered = self._answered or is_answer
        if is_answer and self._answer is not None and not self._answer.done():
            self._answer.set_result(message)
            return
        self._count_unasked("answers to nothing")

    def _count_unasked(self, what: str) -> None:
        self._unasked += 1
        if self._unasked > MAX_UNASKED:
            raise ProtocolError(f"more than {MAX_UNASKED:,} {what}")

    def _give_up(self, error: Exception) -> None:
        """Have no answer come any more."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
