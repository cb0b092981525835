"""A bucket that lies: a proxy before a real S3 server, with faults on command or at random.

What a reader gets later is what the bucket has: bytes that a fault alters are written to the real
server in the place of those that were sent, signed with the proxy's own key. Uploads must be
whole (no aws-chunked encoding, no multipart), as Kuager's are; each is held in memory once.

python -m tests.support.bad_bucket --port 9001 --upstream http://127.0.0.1:9000 --seed 1 --rate 0.05
runs it on its own; POST /_fault {"name": "half", "count": 2} orders a fault of it, GET /_fault
tells how often each was done.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import logging
import random
import re
import signal
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from multidict import CIMultiDict
from yarl import URL

PUT = {
    "wrong-bytes": "stores other bytes than were sent and answers 200",
    "half": "stores the first half and answers 200",
    "not-stored": "answers 200 and stores nothing",
    "old-version": "stores, and the next reader gets what was there before, or 404",
    "lost-answer": "stores, and cuts the connection instead of answering",
    "cut": "cuts the connection in the middle of an upload and stores nothing",
}
GET = {
    "wrong-read": "answers a read with an altered byte",
    "half-read": "cuts the connection in the middle of a read",
}
ANY = {
    "storm": "answers 503 SlowDown",
    "skew": "answers 403 RequestTimeTooSkewed",
    "away": "resets every connection",
    "slow": "passes `bytes_per_s` in each direction, all connections together",
}
FAULTS = PUT | GET | ANY
LASTING = {"storm": (0.5, 5.0), "away": (0.5, 5.0), "skew": (0.5, 2.0), "slow": (1.0, 5.0)}
MAX_OBJECT = 64 << 20
PIECE = 1 << 16
_HOP = ("connection", "keep-alive", "transfer-encoding", "content-length", "expect", "date")
_NO_RETRY = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=120)


@dataclass
class Fault:
    """One order: for `left` requests, or until a moment of time.monotonic."""

    name: str
    left: float = float("inf")
    until: float = float("inf")
    key: str = ""  # a regular expression; found in the path
    bytes_per_s: float = 1000.0

    def fits(self, request: web.Request) -> bool:
        """Say whether a request is one for this fault."""
        method = {"PUT": PUT, "GET": GET}.get(request.method, {})
        return (self.name in method or self.name in ANY) and bool(re.search(self.key, request.path))


class BadBucket:
    """The proxy; `url` is where it listens. Faults by `fault`, at random where `rate` > 0.

    `rate` is the share of requests with a fault. The probes that Kuager sends to find out what
    the server can do are left alone unless a fault's `key` names them.
    """

    def __init__(
        self, upstream: str, key: str, secret: str, *, port: int = 0, seed: int = 0, rate: float = 0
    ):
        self._upstream, self._credentials = upstream.rstrip("/"), Credentials(key, secret)
        self._port, self._rate, self._random = port, rate, random.Random(seed)
        self.done: Counter[str] = Counter()  # faults done, by name
        self._faults: list[Fault] = []
        self._before: dict[str, bytes | None] = {}  # what a path had, for one more reader
        self._free = [0.0, 0.0]  # when the slow link is free again: in, out

    async def start(self) -> None:
        """Listen on loopback."""
        self._client = aiohttp.ClientSession(timeout=_NO_RETRY, auto_decompress=False)
        app = web.Application(client_max_size=MAX_OBJECT)
        app.router.add_get("/_fault", self._tell)
        app.router.add_post("/_fault", self._order)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handle_signals=False)
        await self._runner.setup()
        await self.come_back()

    async def close(self) -> None:
        """Stop listening and cut what is open."""
        await self._runner.cleanup()
        await self._client.close()

    async def leave(self) -> None:
        """Refuse connections from now on; those that are open are reset at their next request."""
        self.fault("away")
        await self._site.stop()

    async def come_back(self) -> None:
        """Listen, on the same port as before."""
        self.heal()
        listening = socket.create_server(("127.0.0.1", self._port))
        # As on a real network: small packets and buffers, else the kernel swallows megabytes
        # before a slow link can be felt. Connections inherit both.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PIECE)
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
        self._port = int(listening.getsockname()[1])
        self._site = web.SockSite(self._runner, listening)
        await self._site.start()

    @property
    def port(self) -> int:
        """Where it listens, known once it was started."""
        return self._port

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    def fault(
        self,
        name: str,
        count: float | None = None,
        *,
        seconds: float | None = None,
        key: str = "^(?!.*/_kuager/)",
        bytes_per_s: float = 1000.0,
    ) -> None:
        """Do a fault `count` times, or for a time, or until `heal`, on paths that fit `key`."""
        if name not in FAULTS:
            raise ValueError(f"no fault {name!r}: {', '.join(FAULTS)}")
        until = float("inf") if seconds is None else time.monotonic() + seconds
        left = float("inf") if count is None else count
        self._faults.append(Fault(name, left, until, key, bytes_per_s))

    def heal(self) -> None:
        """End every fault that was ordered."""
        self._faults.clear()
        self._before.clear()

    def _fault_of(self, request: web.Request) -> Fault | None:
        now = time.monotonic()
        self._faults = [f for f in self._faults if f.left > 0 and f.until > now]
        for fault in self._faults:
            if fault.fits(request):
                break
        else:
            if self._random.random() >= self._rate or "/_kuager/" in request.path:
                return None
            fault = self._at_random(request)
        fault.left -= 1
        self.done[fault.name] += 1
        return fault

    def _at_random(self, request: web.Request) -> Fault:
        own: dict[str, str] = {"PUT": PUT, "GET": GET}.get(request.method, {})
        name = self._random.choice([*own, *ANY])
        fault = Fault(name, bytes_per_s=self._random.uniform(20_000, 500_000))
        if name in LASTING:
            fault.until = time.monotonic() + self._random.uniform(*LASTING[name])
            fault.key = "^(?!.*/_kuager/)"
            self._faults.append(fault)
        return fault

    # -- the control routes --------------------------------------------------------------

    async def _order(self, request: web.Request) -> web.Response:
        order = await request.json()
        if order["name"] == "heal":
            self.heal()
        elif order["name"] == "leave-alone":
            self._rate = 0
            self.heal()
        else:
            self.fault(order.pop("name"), order.pop("count", None), **order)
        return await self._tell(request)

    async def _tell(self, request: web.Request) -> web.Response:
        return web.json_response({"done": self.done, "faults": FAULTS})

    # -- one request ---------------------------------------------------------------------

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._answer(request, self._fault_of(request))
        except (ConnectionError, asyncio.IncompleteReadError):  # one side has gone
            return self._reset(request)

    async def _answer(self, request: web.Request, fault: Fault | None) -> web.StreamResponse:
        name = fault.name if fault else ""
        pace = fault.bytes_per_s if fault and name == "slow" else 0.0
        if name == "away":
            return self._reset(request)
        if name == "cut":
            await request.content.readexactly(min((request.content_length or 0) // 2, 1 << 22))
            return self._reset(request)
        data = await self._receive(request, pace)
        if name == "storm":
            return _refusal(503, "SlowDown", "Please reduce your request rate.")
        if name == "skew":
            return _refusal(403, "RequestTimeTooSkewed", "The difference is too large.")
        if request.method == "PUT":
            return await self._put(request, data, name)
        return await self._pass(request, data, name, pace)

    async def _receive(self, request: web.Request, pace: float) -> bytes:
        parts = bytearray()
        while piece := await request.content.read(_piece(pace)):
            parts += piece
            await self._wait(0, len(piece), pace)
        return bytes(parts)

    async def _put(self, request: web.Request, data: bytes, name: str) -> web.StreamResponse:
        etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if name == "not-stored":
            return web.Response(headers={"ETag": f'"{etag}"'})
        if name in ("wrong-bytes", "half"):
            stored = data[: len(data) // 2] if name == "half" else _altered(data, len(data) // 2)
            headers = CIMultiDict(request.headers)
            for old in [h for h in headers if h.lower().startswith("x-amz-checksum")]:
                del headers[old]
            async with self._own("PUT", request.raw_path, stored, headers) as answer:
                body = await answer.read()
            if answer.status >= 300:
                return web.Response(status=answer.status, body=body, headers=_kept(answer.headers))
            answered = _kept(answer.headers)
            answered["ETag"] = f'"{etag}"'
            return web.Response(headers=answered)
        if name == "old-version":
            async with self._own("GET", request.raw_path) as answer:
                before = await answer.read() if answer.status == 200 else None
            self._before[request.path] = before
        if name == "lost-answer":
            async with self._ask(request, data) as answer:
                await answer.read()
            return self._reset(request)
        return await self._pass(request, data, name, 0)

    async def _pass(
        self, request: web.Request, data: bytes, name: str, pace: float
    ) -> web.StreamResponse:
        """Hand a request on as it was signed, and its answer back."""
        if request.method == "GET" and request.path in self._before:
            before = self._before.pop(request.path)
            if before is None:
                return _refusal(404, "NoSuchKey", "The specified key does not exist.")
            return web.Response(body=before)
        async with self._ask(request, data) as answer:
            response = web.StreamResponse(status=answer.status, headers=_kept(answer.headers))
            length = answer.headers.get("Content-Length")
            if length is not None:
                response.content_length = int(length)
            await response.prepare(request)
            sent = 0
            async for piece in answer.content.iter_chunked(_piece(pace)):
                if name == "half-read" and 2 * (sent + len(piece)) > int(length or 0):
                    await response.write(piece[: max(int(length or 0) // 2 - sent, 0)])
                    return self._reset(request, response)
                out = _altered(piece, 0) if name == "wrong-read" and not sent else piece
                await response.write(out)
                await self._wait(1, len(piece), pace)
                sent += len(piece)
            await response.write_eof()
            return response

    async def _wait(self, way: int, length: int, pace: float) -> None:
        """Take the time that bytes take on a link that all connections share."""
        if pace:
            now = time.monotonic()
            self._free[way] = max(self._free[way], now) + length / pace
            await asyncio.sleep(self._free[way] - now)

    def _ask(self, request: web.Request, data: bytes) -> aiohttp.client._RequestContextManager:
        headers = CIMultiDict(request.headers)  # with the Host that was signed
        for name in ("Expect", "Connection"):
            headers.popall(name, None)
        url = URL(self._upstream + request.raw_path, encoded=True)
        return self._client.request(
            request.method,
            url,
            headers=headers,
            data=io.BytesIO(data) if data else None,
            allow_redirects=False,
        )

    @contextlib.asynccontextmanager
    async def _own(
        self, method: str, path: str, data: bytes = b"", old: CIMultiDict[str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Ask the server in the proxy's own name; of `old` headers what they mean is kept."""
        own = ("x-amz-date", "x-amz-content-sha256", "x-amz-sdk-checksum-algorithm")
        headers = {
            name: value
            for name, value in (old or {}).items()
            if name.lower() not in own and name.lower().startswith(("x-amz-", "if-none-match"))
        }
        signed = AWSRequest(method, self._upstream + path, headers=headers, data=data)
        S3SigV4Auth(self._credentials, "s3", "us-east-1").add_auth(signed)
        url = URL(self._upstream + path, encoded=True)
        async with self._client.request(
            method,
            url,
            headers=dict(signed.headers.items()),
            data=io.BytesIO(data) if data else None,
        ) as answer:
            yield answer

    def _reset(
        self, request: web.Request, begun: web.StreamResponse | None = None
    ) -> web.StreamResponse:
        """Cut the connection with a reset."""
        if request.transport is not None:
            raw = request.transport.get_extra_info("socket")
            if raw is not None and begun is None:  # a reset would take back what was sent
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                request.transport.abort()
            else:
                request.transport.close()
        return begun or web.Response()


def _piece(pace: float) -> int:
    return max(min(int(pace), PIECE), 1) if pace else PIECE


def _altered(data: bytes, at: int) -> bytes:
    """Return bytes with one of them changed, as a flipped bit on a disk."""
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :] if data else b"?"


def _kept(headers: CIMultiDict[str] | aiohttp.typedefs.LooseHeaders) -> CIMultiDict[str]:
    return CIMultiDict((k, v) for k, v in CIMultiDict(headers).items() if k.lower() not in _HOP)


def _refusal(status: int, code: str, message: str) -> web.Response:
    xml = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
    return web.Response(status=status, text=xml, content_type="application/xml")


@contextlib.asynccontextmanager
async def bad_bucket(upstream: str, key: str, secret: str) -> AsyncIterator[BadBucket]:
    """Have a proxy while the block runs."""
    proxy = BadBucket(upstream, key, secret)
    await proxy.start()
    try:
        yield proxy
    finally:
        await proxy.close()


async def _main(arguments: argparse.Namespace, secret: str) -> None:
    proxy = BadBucket(
        arguments.upstream,
        arguments.key,
        secret,
        port=arguments.port,
        seed=arguments.seed,
        rate=arguments.rate,
    )
    await proxy.start()
    if arguments.fault:
        proxy.fault(arguments.fault, bytes_per_s=arguments.bytes_per_s)
    print(proxy.url, flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await proxy.close()
    print(json.dumps(proxy.done), flush=True)


if __name__ == "__main__":
    from tests.support.s3 import KEY, SECRET

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=0.0, help="share of requests with a fault")
    parser.add_argument("--fault", choices=[*PUT, *GET, *ANY], help="for every request")
    parser.add_argument("--bytes-per-s", type=float, default=1000.0, help="of the fault slow")
    parser.add_argument(
        "--key", default=KEY, help="with tests/support/s3.py's secret, on stdin if other"
    )
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    known = given.key == KEY
    asyncio.run(_main(given, SECRET if known else sys.stdin.readline().strip()))
