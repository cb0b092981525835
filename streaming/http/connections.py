"""Connections that nobody can use up: caps in all and for each address, and deadlines.

A web process has as many connections as it may open files, less what it needs itself. One address
has a share of them. Where a cap is reached, a connection that waits for its client makes room: one
without a request, else one whose body does not come or whose answer is hardly taken. So those who
say nothing or dawdle shut nobody out; where none waits, the new one is closed.

A whole head has to come within HEAD_S (aiohttp's `keepalive_timeout`, which begins with the
connection and after each answer). A body: see `bodies`. Of an answer a client has to take
LEAST_BYTES in each STALL_S; what is not taken then is thrown away with the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler
from aiohttp.web_server import Server

from base.prefixes import counted
from streaming.http.clients import Address, bucket, read_address

HEAD_S = 30.0  # also between two requests: a proxy in front has to close earlier
LINGER_S = 2.0  # for the rest of a body that nobody asked for
STALL_S = 30.0
LEAST_BYTES = 64 << 10  # 2 kB/s: slower than any network on which video can be seen
SWEEP_S = 1.0
MOST_UNSENT = 256 << 20  # bytes of answers that wait for slow clients, in all
MOST_CONNECTIONS = 10_000  # about 25 kB of memory each
MOST_OF_MACHINES = 2_000  # of these, of the other machines of an installation
LEAST_EACH, SHARE_EACH = 64, 16  # one address: at least so many, at most that part of all
OWN_FILES = 256  # for the spool, the catalogue, archives, and what is being accepted
RECEIVED, UNSENT = 32 << 10, 128 << 10  # bytes that the system keeps for a connection
LOOKED_AT = 64  # connections, to find one that waits
MOST_LINE = 65_536  # bytes of a request line: a search of 5,000 letters is answered in words
MOST_HEAD = 96 << 10  # bytes of a request line with its headers, which would else be 1 MB
MOST_LINES = 400  # at once: a head has at most 128; also pieces of a body, and requests in advance
REFUSAL = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_TCP_INFO = struct.Struct("=120xQ100xI")  # tcpi_bytes_acked and tcpi_snd_wnd in linux/tcp.h

log = structlog.get_logger()


class Caps(NamedTuple):
    """What connections there may be: how many, for how long, and how much may wait in them."""

    in_all: int
    each: int
    head_s: float = HEAD_S
    stall_s: float = STALL_S
    unsent: int = MOST_UNSENT

    @classmethod
    def of_files(cls, files: int) -> Caps:
        """Return the caps of a process that may open so many files."""
        in_all = max(8, min(MOST_CONNECTIONS, files - OWN_FILES))
        return cls(in_all, min(in_all, max(LEAST_EACH, in_all // SHARE_EACH)))

    @classmethod
    def here(cls) -> Caps:
        """Return the caps of this process."""
        return cls.of_files(resource.getrlimit(resource.RLIMIT_NOFILE)[0])

    @classmethod
    def of_machines(cls, files: int) -> Caps:
        """Return the caps of the address at which other machines ask a process that may open so
        many files: each machine has some connections, and a country 80 machines."""
        return cls(max(LEAST_EACH, min(MOST_OF_MACHINES, files // SHARE_EACH)), LEAST_EACH)


class Connection(RequestHandler):
    """A connection that its server may close."""

    __slots__ = (
        *("acked", "acked_at", "address", "asks", "dawdles"),
        *("head", "held", "networks", "peer", "who"),
    )

    def __init__(self, manager: Server, **settings: Any):
        super().__init__(manager, **settings)
        self.peer: asyncio.Transport | None = None  # also while it is closing
        self.head = 0  # bytes that came of a head that is not whole yet
        self.held = 0  # bytes in memory for an answer, beside what its transport has
        self.address = self.who = ""  # of the peer; for whom it is counted, if for anybody
        self.networks: tuple[tuple[str, int], ...] = ()  # that it is counted for
        self.acked, self.acked_at = -1, 0.0
        self.asks: object = None  # the request whose body had not come at the last look
        self.dawdles = False

    @property
    def pending(self) -> bool:
        """Whether the parent awaits a head; one that has come may wait to be answered."""
        waiter = self._waiter  # of the parent: what it awaits a head by
        return waiter is not None and not waiter.done()

    @property
    def waits(self) -> bool:
        """Whether no request is being answered, and no answer is on its way."""
        return self.pending and not self._messages and self.unsent == 0

    @property
    def shut(self) -> bool:
        """Whether an answer waits because the client has no room for more of it."""
        return self.unsent > 0 and _taken(self.peer)[1] == 0

    @property
    def half(self) -> bool:
        """Whether the body of a request has not come to its end."""
        request = self._current_request
        return request is not None and not request.content.is_eof()

    def look(self, now_s: float, stall_s: float) -> bool:
        """See whether the client dawdles; returns whether it has done so for `stall_s`.

        It dawdles while the body of a request has not come since the last look, or while less
        than LEAST_BYTES of an answer were taken since then.
        """
        request = self._current_request if self.half else None
        self.dawdles = request is not None and request is self.asks
        self.asks = request
        if self.unsent == 0:
            self.acked = -1
            return False
        acked, _ = _taken(self.peer)
        if self.acked < 0 or acked >= self.acked + LEAST_BYTES:
            self.acked, self.acked_at = acked, now_s
        self.dawdles = self.dawdles or now_s > self.acked_at
        return now_s - self.acked_at > stall_s

    @property
    def unsent(self) -> int:
        """Bytes of answers in memory that the system has not taken over yet."""
        return self.held + (self.peer.get_write_buffer_size() if self.peer else 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, where there is room."""
        self.peer = cast(asyncio.Transport, transport)
        if cast(BoundedServer, self._manager).admit(self):
            _bound_buffers(self.peer)
            super().connection_made(transport)
        else:
            self.peer.abort()

    def data_received(self, data: bytes) -> None:
        """Take what has come, unless it is of so many pieces that reading them takes long, or of a
        head that has no end."""
        if data.count(b"\r\n") > MOST_LINES:
            self._refuse("TooManyLines")
            return
        requests = self._request_count
        self.take(data)
        is_body = self.half or (bool(self._messages) and not self._messages[-1][1].is_eof())
        has_ended = is_body or self._request_count != requests
        self.head = 0 if has_ended else self.head + len(data)
        if self.head > MOST_HEAD:
            self._refuse("HeadTooLong")

    def _refuse(self, kind: str) -> None:
        log.warning("A request could not be read", kind=kind)
        if self.waits and self.peer is not None:
            self.peer.write(REFUSAL)
        self.force_close()

    def take(self, data: bytes) -> None:
        """Take what has come."""
        super().data_received(data)

    def go_on(self) -> None:
        """Have the parent answer what has come."""
        if self._messages and self.pending and self._waiter is not None:
            self._waiter.set_result(None)

    def close(self) -> None:
        """Close when what has come is answered."""
        self.go_on()
        super().close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        if self._manager is not None:
            cast(BoundedServer, self._manager).forget(self)
        self.peer = None
        super().connection_lost(exc)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Say what aiohttp could not do, without the client's address or words."""
        error = kw.get("exc_info")
        if isinstance(error, HttpProcessingError):
            log.warning("A request could not be read", kind=type(error).__name__)
        elif not isinstance(error, ConnectionError):  # a client that left is no error
            log.error("A request could not be answered", exc_info=error)

    def abort(self) -> None:
        """Close at once: what was not sent is thrown away."""
        if self.peer is not None:
            self.peer.abort()


class BoundedServer(Server):
    """aiohttp's server with caps, and a look at all connections each SWEEP_S."""

    def __init__(
        self,
        handler: Any,
        *,
        caps: Caps,
        is_proxy: Callable[[Address | None], bool],
        connection: Callable[..., Connection],
        **settings: Any,
    ):
        super().__init__(handler, **settings)
        self._caps, self._is_proxy, self._connection = caps, is_proxy, connection
        self.open: dict[Connection, None] = {}  # the longest unlooked-at first
        self._of: dict[str, dict[Connection, None]] = {}
        self._timer = self._loop.call_later(SWEEP_S, self._sweep_again)
        self._ends = False

    def __call__(self) -> RequestHandler:
        """Return the handler of a new connection."""
        return self._connection(self, loop=self._loop, **self._kwargs)

    def admit(self, connection: Connection) -> bool:
        """Count a new connection, if there is room for it or room can be made."""
        assert connection.peer is not None
        if self._ends:
            return False
        name = connection.peer.get_extra_info("peername")
        connection.address = str(name[0]) if name else ""
        address = read_address(connection.address)
        if not self._is_proxy(address):  # through which all come: it has no share but all
            connection.who = bucket(address)
            connection.networks = counted(connection.who)
        for network, times in connection.networks:
            own = self._of.get(network, {})
            if len(own) >= self._caps.each * times and not self._make_room(own):
                return False
        if len(self.open) >= self._caps.in_all and not self._make_room(self.open):
            return False
        for name, _ in connection.networks:
            self._of.setdefault(name, {})[connection] = None
        self.open[connection] = None
        return True

    def forget(self, connection: Connection) -> None:
        """Count a connection no longer."""
        self.open.pop(connection, None)
        for name, _ in connection.networks:
            own = self._of.get(name, {})
            own.pop(connection, None)
            if not own:
                self._of.pop(name, None)

    def _make_room(self, among: dict[Connection, None]) -> bool:
        """Close one of some connections that waits for its client; False where none is found."""
        dawdler = None
        for _ in range(min(LOOKED_AT, len(among))):
            connection = next(iter(among))
            if connection.waits:
                return self._close(connection)
            if dawdler is None and (connection.dawdles or connection.half or connection.shut):
                dawdler = connection
            del among[connection]
            among[connection] = None  # the next time another is looked at first
        return dawdler is not None and self._close(dawdler)

    def _close(self, connection: Connection) -> bool:
        self.forget(connection)
        connection.abort()
        return True

    def _sweep_again(self) -> None:
        self._timer = self._loop.call_later(SWEEP_S, self._sweep_again)
        self.sweep(self._loop.time())

    def sweep(self, now_s: float) -> None:
        """Close the connections whose clients do not take what they asked for.

        Where all together leave too much, those go first that have taken nothing for longest.
        """
        slow, left = [], -self._caps.unsent
        for connection in cast(list[Connection], list(self._connections)):
            if connection.look(now_s, self._caps.stall_s):
                connection.abort()
            elif unsent := connection.unsent:
                slow.append(connection)
                left += unsent
        if left > 0:
            for connection in sorted(slow, key=lambda one: one.acked_at):
                left -= connection.unsent
                connection.abort()
                if left <= 0:
                    break

    def pre_shutdown(self) -> None:
        """Let nobody in any more, and end the connections that wait for a request."""
        self._ends = True
        super().pre_shutdown()

    async def shutdown(self, timeout: float | None = None) -> None:
        """End all connections: the loop would wait for ever for clients that take nothing."""
        self._timer.cancel()
        await asyncio.sleep(0)  # the last that were let in wait for a head now
        left = cast(list[Connection], list(self._connections))
        for connection in left:
            if connection.waits:  # aiohttp reads no more heads, and would wait for one
                connection.abort()
        await super().shutdown(timeout)
        for connection in left:
            connection.abort()


@contextlib.contextmanager
def holding(request: web.Request, count: int) -> Iterator[None]:
    """Count bytes that are in memory for an answer while it is sent: see `Caps.unsent`."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.held += count
    try:
        yield
    finally:
        connection.held -= count


def _bound_buffers(transport: asyncio.Transport) -> None:
    """Have the system keep little for one client, read or unsent, beside what is on its way."""
    sock = transport.get_extra_info("socket")
    with contextlib.suppress(OSError, AttributeError):  # no such settings here
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)


def _taken(transport: asyncio.Transport | None) -> tuple[int, int]:
    """Return how many bytes the client's system has taken, and how many it would take now: its
    window (RFC 9293, 3.8.6). What the kernel does not say never changes and is not 0."""
    sock = transport.get_extra_info("socket") if transport else None
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size) if sock else b""
    except OSError:
        info = b""
    acked, window = _TCP_INFO.unpack(info.ljust(_TCP_INFO.size, b"\xff"))
    return acked, window


class Runner(web.AppRunner):
    """Runs an application on a BoundedServer."""

    def __init__(
        self,
        app: web.Application,
        *,
        stop_s: float,
        caps: Caps,
        is_proxy: Callable[[Address | None], bool] = lambda _: False,
        connection: Callable[..., Connection] = Connection,
    ):
        super().__init__(app, access_log=None, shutdown_timeout=stop_s)
        self._caps, self._is_proxy, self._connection = caps, is_proxy, connection

    async def _make_server(self) -> Server:
        await super()._make_server()  # starts the application
        return BoundedServer(
            self.app._handle,
            request_factory=self.app._make_request,
            caps=self._caps,
            is_proxy=self._is_proxy,
            connection=self._connection,
            access_log=None,
            keepalive_timeout=self._caps.head_s,
            lingering_time=LINGER_S,
            max_line_size=MOST_LINE,
            auto_decompress=False,  # a body of 1 kB could become one of 1 GB
        )
