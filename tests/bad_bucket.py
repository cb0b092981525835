"""A proxy before a real S3 server that lies and fails as buckets do.

In a test: `async with bad_bucket(upstream) as bad: bad.fault = "half"`. As a process of its own
that spoils requests at random: `python -m tests.bad_bucket --port P --upstream P --rate 0.1`.
Requests are passed on as they came, with the Host that the client signed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web
from yarl import URL

from tests.s3 import free_port

FAULTS = {
    "wrong-bytes": "stores other bytes than were sent, and says 200",
    "half": "stores half of the bytes, and says 200",
    "not-stored": "stores nothing, and says 200",
    "old-version": "goes on giving out what it had before a put",
    "storm": "503 to everything",
    "skew": "says that the clocks differ",
    "lost-answer": "does what it is asked and closes the connection without an answer",
    "cut": "closes the connection in the middle of an upload",
    "wrong-read": "gives out other bytes than it has",
    "slow": "takes and gives 1 kB a second",
}
PUTS = {"wrong-bytes", "half", "not-stored", "cut"}
HOP = {"transfer-encoding", "connection", "expect", "keep-alive", "content-encoding"}
ERROR = "<?xml version='1.0'?><Error><Code>{}</Code><Message>no</Message></Error>"


class BadBucket:
    """The proxy; `fault` is None while all is well, `rate` spoils at random."""

    def __init__(self, upstream: int, seed: int = 1):
        self.fault: str | None = None
        self.rate = 0.0
        self.spoilt = 0  # requests
        self._upstream = upstream
        self._random = random.Random(seed)
        self._instead: dict[str, bytes] = {}  # what the bucket has in truth, by path
        self._session: aiohttp.ClientSession | None = None

    async def start(self, port: int) -> web.AppRunner:
        """Listen; the caller cleans the runner up."""
        self._session = aiohttp.ClientSession(auto_decompress=False)
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner

    async def close(self) -> None:
        """Close the connections to the server."""
        if self._session is not None:
            await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = self.fault
        if self.rate and self._random.random() < self.rate:
            fault = self._random.choice([f for f in FAULTS if f not in ("slow", "old-version")])
        ours = "_kuager" in request.path  # what it can do is answered truthfully
        if fault in PUTS and (request.method != "PUT" or ours):
            fault = None
        if fault == "wrong-read" and request.method != "GET":
            fault = None
        self.spoilt += fault is not None
        if fault == "storm":
            return web.Response(status=503, text=ERROR.format("SlowDown"))
        if fault == "skew":
            return web.Response(status=403, text=ERROR.format("RequestTimeTooSkewed"))
        if fault == "cut":
            await request.content.read(1000)
            return self._cut(request)
        body = await self._body(request, slow=fault == "slow")
        if fault == "not-stored":
            return web.Response(headers={"ETag": '"0"'})
        if request.method == "PUT" and fault != "old-version":
            self._instead.pop(request.path, None)
        status, headers, data = await self._forward(request, body)
        if request.method == "PUT" and status == 200 and fault in ("wrong-bytes", "half"):
            kept = body[: len(body) // 2] if fault == "half" else bytes([body[0] ^ 1]) + body[1:]
            self._instead[request.path] = kept
        if fault == "lost-answer":
            return self._cut(request)
        if request.method in ("GET", "HEAD") and request.path in self._instead:
            kept = self._instead[request.path]
            return web.Response(body=kept, headers={"ETag": '"1"'})
        if fault == "wrong-read" and data:
            data = bytes([data[0] ^ 1]) + data[1:]
        if fault != "slow":
            return web.Response(status=status, headers=headers, body=data)
        answer = web.StreamResponse(status=status, headers=headers)
        await answer.prepare(request)
        for n in range(0, len(data), 100):
            await answer.write(data[n : n + 100])
            await asyncio.sleep(0.1)
        return answer

    async def _body(self, request: web.Request, slow: bool) -> bytes:
        if not slow:
            return await request.read()
        parts = []
        while part := await request.content.read(100):
            parts.append(part)
            await asyncio.sleep(0.1)
        return b"".join(parts)

    async def _forward(
        self, request: web.Request, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        assert self._session is not None
        url = URL(f"http://127.0.0.1:{self._upstream}{request.raw_path}", encoded=True)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP}
        async with self._session.request(
            request.method, url, headers=headers, data=body or None, allow_redirects=False
        ) as answer:
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in HOP}
            return answer.status, kept, await answer.read()

    def _cut(self, request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


@contextlib.asynccontextmanager
async def bad_bucket(upstream: int) -> AsyncIterator[tuple[BadBucket, int]]:
    """Stand before the server on a port while the block runs; yields proxy and its port."""
    bad, port = BadBucket(upstream), free_port()
    runner = await bad.start(port)
    try:
        yield bad, port
    finally:
        await runner.cleanup()
        await bad.close()


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="of requests, spoilt at random")
    parser.add_argument("--fault", choices=FAULTS, help="for every request")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    bad = BadBucket(arguments.upstream, arguments.seed)
    bad.rate, bad.fault = arguments.rate, arguments.fault
    await bad.start(arguments.port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
