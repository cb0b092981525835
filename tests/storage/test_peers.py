"""Other machines are asked once for all who want it, and none of them holds up another."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from base.clock import now_ms
from storage.cluster.machines import Machines
from storage.cluster.other_spools import OtherSpools
from storage.cluster.peer_auth import VALID_MS, is_signed, sign
from storage.cluster.peer_status import PeerStatus
from storage.cluster.peers import AT_ONCE, AT_ONE, Peers, Unreachable
from storage.spool.disk import claim_spool
from storage.spool.lease_file import SHARDS
from storage.spool.node_map import MachineEntry, NodeMap, ShardEntry, write_node_map
from tests.support.s3 import free_port
from tests.support.waiting import BOUND_S, until


@asynccontextmanager
async def answering(handler: Any) -> AsyncIterator[MachineEntry]:
    app = web.Application()
    app.router.add_get("/{path:.*}", handler)
    runner, port = web.AppRunner(app, shutdown_timeout=0.1), free_port()
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield MachineEntry("f" * 32, "far", f"127.0.0.1:{port}", True)
    finally:
        await runner.cleanup()


async def test_what_many_ask_for_is_fetched_once_and_passed_on_as_it_comes() -> None:
    asked, go_on = 0, asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        nonlocal asked
        asked += 1
        response = web.StreamResponse(headers={"Content-Length": "10", "ETag": '"x"'})
        await response.prepare(request)
        await response.write(b"01234")
        await go_on.wait()
        await response.write(b"56789")
        return response

    async with answering(handler) as far:
        peers, first = Peers(), list[bytes]()

        async def read(start: int, stop: int) -> bytes:
            async with peers.ask(far, "/x") as flight:
                pieces = []
                async for piece in flight.read(start, stop):
                    pieces.append(piece)
                    first.append(piece)
                return b"".join(pieces)

        readers = [asyncio.create_task(read(n, 10)) for n in range(5)]
        await until(lambda: len(first) == 5)  # each has the beginning
        go_on.set()
        assert await asyncio.gather(*readers) == [b"0123456789"[n:] for n in range(5)]
        assert asked == 1
        await read(0, 10)
        assert asked == 2  # it is not kept
        await peers.close()


async def test_a_machine_that_hangs_or_lies_costs_nobody_else_anything() -> None:
    asked = list[str]()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.append(request.path)
        if request.path == "/none":
            raise web.HTTPNotFound
        if request.path == "/half":
            response = web.StreamResponse(headers={"Content-Length": "10"})
            await response.prepare(request)
            await response.write(b"01234")
            assert request.transport is not None
            request.transport.abort()
            return response
        if request.path == "/text":
            return web.Response(text="no JSON")
        await asyncio.Event().wait()
        raise AssertionError

    now_s = 0.0
    async with answering(handler) as far:
        peers = Peers(read_s=BOUND_S, clock=lambda: now_s)
        for _ in range(2):
            with pytest.raises(Unreachable, match="does not have it"):
                await peers.body(far, "/none")
        assert asked == ["/none"]  # the second was not asked
        with pytest.raises(Unreachable, match="far"):
            await peers.body(far, "/half")
        with pytest.raises(Unreachable, match="JSON"):
            await peers.json(far, "/text")
        hasty = Peers(read_s=0.2, clock=lambda: now_s)
        with pytest.raises(Unreachable):
            await hasty.body(far, "/hangs")
        with pytest.raises(Unreachable, match="does not answer"):
            await hasty.body(far, "/text")  # it is left alone for a moment
        now_s += 2

        async def answers() -> bool:
            nonlocal now_s
            with contextlib.suppress(Unreachable):  # a busy machine may take longer, and again
                return await hasty.body(far, "/text") == b"no JSON"
            now_s += 2
            return False

        await until(answers)
        await hasty.close()
        gone = asyncio.create_task(peers.body(far, "/hangs"))
        await until(lambda: asked.count("/hangs") == 2)
        gone.cancel()  # nobody waits for it any more
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert not peers._flights
        nowhere = MachineEntry("e" * 32, "nowhere", f"127.0.0.1:{free_port()}", True)
        with pytest.raises(Unreachable):
            await peers.body(nowhere, "/x")
        await peers.close()


async def test_a_machine_that_hangs_holds_up_no_question_to_another() -> None:
    """As where its processes stand still: it takes connections, and answers nothing."""

    async def hangs(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def answers(request: web.Request) -> web.StreamResponse:
        return web.Response(text="here")

    now_s = 0.0
    async with answering(hangs) as far, answering(answers) as near:
        peers = Peers(read_s=BOUND_S, clock=lambda: now_s)
        waiting = [asyncio.create_task(peers.body(far, f"/{n}")) for n in range(AT_ONCE)]
        await until(lambda: len(peers._flights) == len(waiting))
        assert await asyncio.wait_for(peers.body(near, "/x"), BOUND_S) == b"here"
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await peers.close()


@pytest.mark.parametrize("address", ["n1..kuager.kz:8090", f"{'x' * 64}.kuager.kz:8090"])
async def test_a_machine_whose_address_is_none_is_waited_for_by_nobody(address: str) -> None:
    """Of one typing error on one machine all others knew no state of any camera elsewhere."""
    peers, wrong = Peers(), MachineEntry("f" * 32, "far", address, True)
    for _ in range(2):
        with pytest.raises(Unreachable, match="far"):
            await asyncio.wait_for(peers.body(wrong, "/status.json"), BOUND_S)
    await peers.close()


async def test_what_a_machine_says_falsely_ends_nothing(tmp_path: Path) -> None:
    """Of a number that no file takes no machine was asked any more."""
    said: dict[str, dict[str, object]] = {"s/c": {"state": "idle", "since_ms": "9" * 30}}

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"cameras": said})

    async with answering(handler) as far:
        claim_spool(tmp_path)
        (tmp_path / "_status").mkdir(exist_ok=True)
        write_node_map(tmp_path, NodeMap(1, 1, "e" * 32, "here", None, (far,)))
        peers = Peers()
        status = PeerStatus(tmp_path, Machines(tmp_path), peers)
        await status.ask_all()
        said["s/c"] = {"state": "recording"}
        await status.ask_all()
        (file,) = (tmp_path / "_status").glob("peer-*.json")
        assert json.loads(file.read_bytes())["cameras"] == said
        await peers.close()


async def test_a_machine_that_answers_slowly_has_nobody_elses_answers_grow_old(
    tmp_path: Path,
) -> None:
    """A piece now and then is an answer, for a minute: by then all that others said was old."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"cameras":')
        await asyncio.Event().wait()
        raise AssertionError

    async with answering(handler) as far:
        claim_spool(tmp_path)
        (tmp_path / "_status").mkdir(exist_ok=True)
        write_node_map(tmp_path, NodeMap(1, 1, "e" * 32, "here", None, (far,)))
        peers = Peers(read_s=10 * BOUND_S)
        status = PeerStatus(tmp_path, Machines(tmp_path), peers, answer_s=0.1)
        await asyncio.wait_for(status.ask_all(), BOUND_S)
        assert not list((tmp_path / "_status").glob("peer-*"))
        await peers.close()


async def test_what_a_machine_may_record_that_does_not_answer_is_not_settled(
    tmp_path: Path,
) -> None:
    """A copy told of it as of time that was not to be recorded."""
    name, at_ms = ("e", "s", "c"), now_ms()
    known = [(1, at_ms - 700_000), (2, at_ms - 90_000)]
    claim_spool(tmp_path)
    (tmp_path / "_status").mkdir(exist_ok=True)
    peers = Peers()
    for alive in (True, False):  # where it is dead, whoever takes over tells of that time
        far = MachineEntry("f" * 32, "far", f"127.0.0.1:{free_port()}", alive)
        shards = tuple(ShardEntry(1, far.spool, None) for _ in range(SHARDS))
        write_node_map(tmp_path, NodeMap(1, 1, "e" * 32, "here", None, (far,), shards))
        others = OtherSpools(Machines(tmp_path), peers)
        settled_ms = await others.settled_ms(name, known, at_ms - 800_000, at_ms)
        assert settled_ms == (at_ms - 90_000 if alive else None)
        assert await others.settled_ms(name, [], at_ms - 900_000, at_ms - 700_000) is None
    await peers.close()


async def test_what_waits_for_a_machine_fails_with_what_was_asked_before() -> None:
    """Not after a wait of its own: that would be many for one that hangs."""
    asked, go_on = set[str](), asyncio.Event()

    async def handler(request: web.Request) -> web.StreamResponse:
        asked.add(request.path)
        await go_on.wait()
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async with answering(handler) as far:
        peers = Peers(read_s=BOUND_S, clock=lambda: 0.0)
        waiting = [asyncio.create_task(peers.body(far, f"/{n}")) for n in range(3 * AT_ONE)]
        await until(lambda: len(asked) == AT_ONE)
        go_on.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(one) for one in found} == {Unreachable} and len(asked) == AT_ONE
        await peers.close()


# -- who may ask -----------------------------------------------------------------------------


@given(
    target=st.text(st.characters(codec="ascii"), max_size=20),
    at_ms=st.integers(0, 1 << 45),
    off_ms=st.integers(-2 * VALID_MS, 2 * VALID_MS),
)
def test_a_question_is_signed_by_who_has_the_password(target: str, at_ms: int, off_ms: int) -> None:
    said = sign("a secret word", target, at_ms)
    assert is_signed("a secret word", target, said, at_ms + off_ms) is (abs(off_ms) <= VALID_MS)
    assert not is_signed("another word", target, said, at_ms)
    assert not is_signed("a secret word", target + "x", said, at_ms)
    moment, _, mac = said.partition(":")
    assert not is_signed("a secret word", target, f"{int(moment) + 1}:{mac}", at_ms)
    assert "secret" not in said


@pytest.mark.parametrize(
    "said", ["", ":", "1", "-1:x", "\u0661:x", "9" * 30 + ":x", "1:\u00fc", "1:\udcff"]
)
def test_what_is_no_signature_is_none(said: str) -> None:
    assert not is_signed("a secret word", "/", said, 1)


async def test_a_machine_with_another_password_is_told_of(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        raise web.HTTPForbidden

    async with answering(handler) as far:
        peers = Peers(clock=lambda: 0.0, password=SecretStr("a secret word"))
        for _ in range(2):
            with pytest.raises(Unreachable):
                await peers.body(far, "/x")
        assert "another node.password" in capsys.readouterr().out
        await peers.close()
