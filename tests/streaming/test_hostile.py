"""Requests that are made to harm: each is answered, with little work, and without an error."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import m3u8
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import SecretStr
from structlog.testing import capture_logs

from config.copies import Stripe as Keys
from config.model import Config
from copies.payments.invoice import Invoice
from copies.payments.port import InvalidSignature, Online
from copies.payments.stripe import Stripe
from storage.archive.port import ArchiveError, ObjectNotFound
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.orders import Order
from storage.records import Header, Segment
from streaming.app import create_app, make_runner
from streaming.context import CONTEXT
from streaming.http.clients import CLIENTS, Clients, client
from streaming.http.rate_limit import ConcurrencyLimit, RateLimit
from streaming.http.scheduler import SCHEDULER, STEP_S, TOKEN_S, FairQueue, Scheduler
from streaming.media.playlist import Entries
from tests.support.archiving import configure, uploading
from tests.support.live_fixture import LiveCamera
from tests.support.s3 import free_port
from tests.support.selling import COPIES, record, selling, wanted
from tests.support.spools import fill
from tests.support.waiting import until
from tests.support.web import get, serving

NOW = int(time.time() * 1000)
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n" + COPIES, "2h")


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        (FORM | {"Content-Type": FORM["Content-Type"] + "; charset=none-such"}, b"a=b", 400),
        (FORM | {"Content-Type": FORM["Content-Type"] + "; charset=rot13"}, b"a=b", 400),
        (FORM | {"Content-Type": FORM["Content-Type"] + "; charset=ascii"}, b"\xff=\xfe", 400),
        # which Python takes a second to read, and what none can write again
        (FORM | {"Content-Type": FORM["Content-Type"] + "; charset=punycode"}, b"station=s-", 400),
        (FORM | {"Content-Type": FORM["Content-Type"] + "; charset=idna"}, b"station=s", 400),
        (
            FORM | {"Content-Type": FORM["Content-Type"] + '; charset="unicode_escape"'},
            b"station=s&camera=c&from=\\ud800&to=\\udfff",
            400,
        ),
        (FORM | {"Content-Type": FORM["Content-Type"] + "; charset=utf-16"}, b"a=b=c=", 400),
        (FORM, b"a=" + b"%41" * 30_000, 413),
        (FORM, b"\xff\xfe", 400),
        (FORM, b"&".join(b"a%d=1" % n for n in range(5000)), 413),
        ({"Content-Type": "multipart/form-data"}, b"--x", 400),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\nrubbish", 400),
        (FORM | {"Content-Encoding": "gzip"}, b"not gzip", 400),
        (FORM | {"Content-Encoding": "gzip"}, gzip.compress(bytes(50 << 20)), 400),
        (FORM | {"Content-Encoding": "br"}, b"a=b", 400),
        (FORM, bytes(300 << 10), 413),
        (FORM | {"Origin": "http://["}, b"a=b", 400),
        (FORM | {"Origin": "http://[::1"}, b"a=b", 400),
        (FORM | {"Host": "[:::::]"}, b"a=b", 404),
    ],
)
async def test_what_cannot_be_read_is_refused(
    config: Config, headers: dict[str, str], body: bytes, status: int
) -> None:
    with capture_logs() as lines:
        async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
            for path in ("/copies/quotes", "/api/v1/copies/quotes"):
                async with http.post(path, data=body, headers=headers) as answer:
                    assert answer.status in (status, 400), await answer.text()
                    if not path.startswith("/api/"):
                        assert answer.status == status
                    assert 400 <= answer.status < 500
    assert not [line for line in lines if line["log_level"] == "error"]


async def test_a_body_of_many_kinds_of_json(config: Config) -> None:
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        for body in (b"[" * 100_000, b"\xff", b'{"a":"\\ud800"}', b"1e999", b"", b"{", b"null"):
            async with http.post("/api/v1/copies/quotes", data=body, headers=JSON) as answer:
                assert answer.status == 400
                assert answer.content_type == "application/problem+json"


def test_a_signature_outside_ascii_is_forged() -> None:
    keys = Keys(secret_key=SecretStr("sk_test_x"), webhook_secret=SecretStr("whsec_x"))
    provider = Stripe(keys)
    assert isinstance(provider, Online)
    now = int(time.time())
    for signature in (f"t={now},v1=ä", f"t={now},v1=\udcff", "ä", "", f"t={now}", "t=x,v1=y"):
        for body in (b"{}", b"\xff", b"[]"):
            with pytest.raises(InvalidSignature):
                provider.parse_webhook(body, {"Stripe-Signature": signature})


async def test_a_client_that_leaves_is_no_error(config: Config) -> None:
    one = LiveCamera(config.spool, "c")
    one.begin(NOW - 60_000)
    one.append()
    one.close()
    with capture_logs() as lines:
        async with selling(config) as (base, _):
            port = int(base.rpartition(":")[2])
            for said in (
                b"POST /copies/quotes HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\na=",
                b"POST /copies/quotes HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
                b"GET /live/s/c/1.m4s HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
                b"GET /api/v1/stations HTTP/1.1\r\nHost: x\r\n\r\n" * 20,
            ):
                for wait_s in (0.0, 0.02):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(said)
                    await asyncio.sleep(wait_s)
                    writer.transport.abort()
    assert not [line for line in lines if line["log_level"] == "error"]


async def test_what_is_not_http_is_one_line_without_an_address(config: Config) -> None:
    with capture_logs() as lines:
        async with selling(config) as (base, _):
            port = int(base.rpartition(":")[2])
            for said in (b"\0\1\2\r\n\r\n", b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET\r\n\r\n"):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                assert b" 400 " in await reader.read()
                writer.close()
    assert len(lines) <= 3 and all("127.0.0.1" not in str(line) for line in lines)


async def test_a_path_of_two_slashes_leads_to_nobody(config: Config) -> None:
    async with serving(config) as session:
        base = str(session._base_url).rstrip("/")
        for path in ("//evil.example/x", "/%2Fevil.example/x", "/\\evil.example", "//evil.example"):
            async with session.get(base + path) as answer:
                text = await answer.text()
                assert answer.status == 404 and "evil.example" not in text


async def test_a_language_is_encoded_or_left_out(config: Config) -> None:
    record(config)
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            secret = answer.headers["Location"].rpartition("/")[2]
        for lang in ("x%26a=b", "%0d%0aX:1", "ru%23"):
            async with http.post(f"/copies/{secret}/cancel?lang={lang}") as answer:
                pass
            url = f"/copies/{secret}/cancel?lang={lang}"
            async with http.post(url, allow_redirects=False) as answer:
                assert answer.headers.get("Location", f"/copies/{secret}") == f"/copies/{secret}"
        async with http.get("/copies/", headers={"Accept-Encoding": "gzip"}) as answer:
            assert answer.headers["Vary"] == "Accept-Encoding, Accept-Language"


async def test_a_suffix_of_nothing_is_no_range(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=3).close()
    async with serving(config) as session:
        for asked, status in (
            ("bytes=-0", 416),
            ("bytes=-00", 416),
            ("bytes=-", 200),
            ("bytes=--1", 200),
            ("bytes=" + "9" * 5000 + "-", 200),
            ("bytes=999999999999999999-", 416),
            ("BYTES=0-0", 206),
        ):
            answer = await get(session, "/live/s/c/2.m4s", headers={"Range": asked})
            assert answer[0] == status, asked


async def test_segments_of_before_the_window_are_not_given_to_who_counts(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=40).close()
    later = [NOW]
    async with serving(config, clock=lambda: later[0]) as session:
        assert (await get(session, "/live/s/c/1.m4s"))[0] == 200
        later[0] = NOW + 2 * 3_600_000 - 60_000  # a little over: who watches there may pause
        assert (await get(session, "/live/s/c/1.m4s"))[0] == 200
        later[0] = NOW + 3 * 3_600_000
        status, headers, body = await get(session, "/live/s/c/1.m4s")
        assert status == 403 and b"order a copy" in body
        assert headers["Cache-Control"] == "no-store"
    bare = config.model_copy(update={"copies": None})
    async with serving(bare, clock=lambda: later[0]) as session:
        status, _, body = await get(session, "/live/s/c/1.m4s")
        assert status == 403 and b"can be watched here." in body  # nobody sells copies


async def test_no_playlist_lists_what_is_refused(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=40).close()
    later = [NOW]
    async with serving(config, clock=lambda: later[0]) as session:
        begun, listed = NOW - 100_000, set[bytes]()
        for over_ms in range(0, 90_000, 500):  # until after its last segment went out of reach
            later[0] = begun + 2 * 3_600_000 + 1_200_000 + over_ms
            status, headers, body = await get(session, "/live/s/c/index.m3u8")
            listed.add(body)
            for name in re.findall(rb"^[0-9]+\.m4s$", body, re.MULTILINE):
                assert (await get(session, f"/live/s/c/{name.decode()}"))[0] == 200, (over_ms, name)
        assert status == 404 and b"Nothing of this camera was recorded in the last 2 h" in body
        assert headers["Retry-After"] and len(listed) > 4


async def test_playlists_of_one_segment_are_made_once(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 600_000, runs=1, segments=200).close()
    async with serving(config) as session:
        seen = set()
        for ms in range(0, 2000, 100):
            url = f"/live/s/c/index.m3u8?from={NOW - 400_000 + ms}&to={NOW - 300_000}"
            status, headers, _ = await get(session, url)
            assert status == 200
            seen.add(headers["ETag"])
        assert len(seen) <= 2


async def test_what_a_playlist_says_of_whole_recordings_is_made_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(config.spool, start_ms=NOW - 620_000, runs=2, segments=150).close()
    made, of = list[int](), Entries.of

    def counted(header: Header, segments: Sequence[Segment]) -> Entries:
        made.append(len(segments))
        return of(header, segments)

    monkeypatch.setattr(Entries, "of", counted)
    async with serving(config) as session:
        for ms in range(0, 60_000, 1000):
            url = f"/live/s/c/index.m3u8?from={NOW - 619_999 + ms}"
            status, headers, body = await get(session, url)
            assert status == 200 and int(headers["Content-Length"]) == len(body)
            parsed = m3u8.loads(body.decode())
            numbers = [int(s.uri.removesuffix(".m4s")) for s in parsed.segments]
            assert numbers == list(range(numbers[0], 301))
            head = await get(session, url, method="HEAD")
            assert head[1]["ETag"] == headers["ETag"] and head[2] == b""
            again = await get(session, url, headers={"If-None-Match": headers["ETag"]})
            assert again[0] == 304
    assert sum(made) < 300 + 2 * 3 * 60 * 30  # all of them once, and of each stretch what is cut


async def test_the_catalogue_is_asked_for_a_long_timeline_in_pieces(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(config)
    asked, timelines = list[tuple[int, int]](), Catalogue.timelines

    async def counted(catalogue: Catalogue, names: Any, from_ms: int, to_ms: int) -> Any:
        asked.append((from_ms, to_ms))
        return await timelines(catalogue, names, from_ms, to_ms)

    monkeypatch.setattr(Catalogue, "timelines", counted)
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        begin, end = NOW - 7 * 86_400_000, NOW
        async with http.get(f"/api/v1/stations/s/timeline?from={begin}&to={end}") as answer:
            told = await answer.json()
    assert [a for a, _ in asked] == [begin, *(b for _, b in asked[:-1])] and asked[-1][1] == end
    assert max(b - a for a, b in asked) <= 6 * 3_600_000
    for camera in told["cameras"]:
        keys = [(r["record_seq"], r["start_ms"]) for r in camera["recordings"]]
        assert keys == sorted(set(keys)) and (keys or camera["id"] not in ("c", "d"))


async def test_an_archive_is_not_asked_for_what_is_refused(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 8_000_000, runs=1, segments=70).close()
    asked, now = list[str](), [NOW]
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: uploader.status.removed_total >= 2)

        class Counted:
            name = archive.name

            async def get(self, key: str, *what: Any, **more: Any) -> bytes:
                asked.append(key)
                return await archive.get(key, *what, **more)

        counted: Any = Counted()
        async with serving(config, catalogue, counted, clock=lambda: now[0]) as session:
            now[0] = NOW - 3_600_000
            assert (await get(session, "/live/s/c/1.m4s"))[0] == 200 and asked
            asked.clear()
            now[0] = NOW + 3_600_000
            for number in (1, 2, 70):
                assert (await get(session, f"/live/s/c/{number}.m4s"))[0] == 403
            assert not asked


async def test_what_an_archive_does_not_give_is_said(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 8_000_000, runs=1, segments=70).close()
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: uploader.status.removed_total >= 2)

        class Away:
            name = archive.name
            error: ArchiveError = ArchiveError("its disk is not mounted")

            async def get(self, *_: Any, **__: Any) -> bytes:
                raise self.error

        away: Any = Away()
        async with serving(config, catalogue, away, clock=lambda: NOW - 3_600_000) as session:
            for error, status, said in (
                (away.error, 503, "What left the spool cannot be shown now"),
                (ObjectNotFound("x"), 404, "What left the spool is in no archive that should have"),
            ):
                away.error = error
                with capture_logs() as lines:
                    assert (await get(session, "/live/s/c/1.m4s"))[0] == status
                assert [line for line in lines if said in line["event"] and line["why"]], lines


async def test_who_is_told_to_come_again_is_seen_in_the_log(config: Config) -> None:
    one = ConcurrencyLimit(5, 1)
    with capture_logs() as lines, one.turn("a"), pytest.raises(web.HTTPServiceUnavailable):
        one.turn("b").__enter__()
    assert len(lines) == 1 and "More is asked for" in lines[0]["event"]


async def test_nonsense_is_limited_and_video_is_not(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=9).close()
    async with serving(config) as session:
        for n in range(60):
            status = (await get(session, f"/api/v1/stations?q=nonsense{n}"))[0]
            assert status in (200, 429)
        assert (await get(session, "/stations/nobody"))[0] == 404
        assert (await get(session, "/live/s/c/index.m3u8"))[0] == 200


async def test_what_a_search_takes_is_taken_in_a_thread_and_counted(config: Config) -> None:
    """Not of live video; who has had his share waits, and what is known costs nothing."""
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=9).close()
    app, port = create_app(config, None, []), free_port()
    app[SCHEDULER].tokens = RateLimit(4, 10**6)
    index, threads = app[CONTEXT].directory.search, set[int]()

    def dear(query: str) -> list[int]:
        threads.add(threading.get_ident())
        end = time.thread_time() + 1.5 * TOKEN_S
        while time.thread_time() < end:
            pass
        return []

    index.find = index.suggest = dear  # type: ignore[method-assign]
    runner = make_runner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        found = [(await get(session, f"/api/v1/stations?q=nonsense{n}"))[0] for n in range(9)]
        assert found[0] == 200 and found[-5:] == [429] * 5
        assert (await get(session, "/api/v1/stations?q=nonsense0"))[0] == 200
        for path in ("/?q=nonsense", "/stations/nobody", "/copies/new?q=nonsense"):
            assert (await get(session, path))[0] in (404, 429), path
        assert threads and threading.get_ident() not in threads
        assert (await get(session, "/live/s/c/index.m3u8"))[0] == 200
    await runner.cleanup()


async def test_an_invoice_is_made_once(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    record(config)
    made, document = [], Invoice.document

    def counted(self: Invoice, order: Order, title: str) -> bytes:
        made.append(order.number)
        return document(self, order, title)

    monkeypatch.setattr(Invoice, "document", counted)
    async with selling(config) as (base, _), aiohttp.ClientSession(base) as http:
        async with http.post("/api/v1/copies/quotes", json=wanted()) as answer:
            place = answer.headers["Location"]
        async with http.post(f"{place}/order") as answer:
            url = (await answer.json())["invoice"]

        async def fetch() -> bytes:
            async with http.get(url) as answer:
                assert answer.status == 200
                return await answer.read()

        bodies = await asyncio.gather(*(fetch() for _ in range(5)))
        bodies.append(await fetch())
        assert len(set(bodies)) == 1 and made == [1]


@pytest.mark.slow
async def test_a_process_with_few_files_serves_the_next_visitor(config: Config) -> None:
    """More connections than it may open files, as a real process with its own limit."""
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=9).close()
    port = free_port()
    text = config.path.read_text().replace("web: {", f'web: {{listen: "127.0.0.1:{port}", ')
    config.path.write_text(text)
    run = f"ulimit -n 320; exec {sys.executable} -m kuager run --role web --config {config.path}"
    child = await asyncio.create_subprocess_exec("sh", "-c", run, stderr=asyncio.subprocess.PIPE)
    assert child.stderr is not None
    writers = []
    try:
        url = f"http://127.0.0.1:{port}"

        async def visit() -> bool:
            connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
            async with aiohttp.ClientSession(url, connector=connector) as http:
                try:
                    async with http.get("/live/s/c/2.m4s") as answer:
                        return answer.status == 200
                except aiohttp.ClientError:
                    return False

        await until(visit)
        for n in range(400):
            source = (f"127.0.1.{1 + n // 40}", 0)
            with contextlib.suppress(OSError):
                opened = await asyncio.open_connection("127.0.0.1", port, local_addr=source)
                writers.append(opened[1])
        assert await visit()
        files = os.listdir(f"/proc/{child.pid}/fd")  # noqa: PTH208
        assert len(files) < 320 and child.returncode is None
    finally:
        for writer in writers:
            writer.transport.abort()
        child.terminate()
        said = (await child.communicate())[1]
    assert b"Too many open files" not in said


async def test_who_causes_much_waits_and_others_do_not() -> None:
    work = Scheduler()
    for _ in range(60):
        work.tokens.take("one", 10)  # 6 s of work
    with pytest.raises(web.HTTPTooManyRequests):
        work.tokens.check("one")
    work.tokens.check("another")


async def test_turns_are_counted_and_given_back() -> None:
    turns = ConcurrencyLimit(2, 3)
    with turns.turn("a"), turns.turn("a"):
        with pytest.raises(web.HTTPTooManyRequests), turns.turn("a"):
            pass
        with turns.turn("b"), pytest.raises(web.HTTPServiceUnavailable), turns.turn("c"):
            pass
    with turns.turn("c"), turns.turn("c"):
        assert turns._taken.total() == 2
    assert not turns._taken


async def test_long_work_lets_others_go_on_and_is_counted() -> None:
    work, others = Scheduler(tokens=RateLimit(400, 10**6)), [0]
    request = make_mocked_request("GET", "/", app=web.Application())
    request.app[CLIENTS] = Clients([])

    async def other() -> None:
        while True:
            others[0] += 1
            await asyncio.sleep(0)

    def steps() -> Iterator[int]:
        for n in range(20):
            end = time.thread_time() + 1.5 * STEP_S
            while time.thread_time() < end:
                pass
            yield n

    task = asyncio.create_task(other())
    assert [n async for n in work.in_steps(request, steps())] == list(range(20))
    assert others[0] >= 18
    taken = 400 - work.tokens._left(client(request))
    assert taken >= 20 * 1.5 * STEP_S / TOKEN_S
    task.cancel()
    await until(task.done)


async def test_nobody_waits_for_ever_for_his_turn() -> None:
    work = Scheduler(patience_s=0.05)
    request = make_mocked_request("GET", "/", app=web.Application())
    request.app[CLIENTS] = Clients([])
    async with work.turn(request):
        with pytest.raises(web.HTTPServiceUnavailable):
            async with work.turn(request):
                pass
    async with work.turn(request):
        assert work.waiting._taken.total() == 1 and work.at_once.locked()
    assert not work.waiting._taken and not work.at_once.locked()


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=40))
@example([("a", False)] * 3 + [("b", True)] + [("b", False)] * 2)  # who leaves loses no turn
def test_clients_come_in_turn(asked: list[tuple[str, bool]]) -> None:
    """Whoever asks more often than others waits for himself; one goes on in a round."""

    async def all_of_them() -> list[tuple[int, str]]:
        queue, came, rounds = FairQueue(), list[tuple[int, str]](), [0]

        async def count() -> None:
            while True:
                rounds[0] += 1
                await asyncio.sleep(0)

        async def one(who: str) -> None:
            await queue.turn(who)
            came.append((rounds[0], who))

        counting = asyncio.create_task(count())
        await asyncio.sleep(0)
        tasks = [(asyncio.create_task(one(who)), leaves) for who, leaves in asked]
        await asyncio.sleep(0)
        for task, leaves in tasks:
            if leaves:
                task.cancel()
        await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)
        assert not queue._taken and not queue._waiting
        counting.cancel()
        return came

    came = asyncio.run(all_of_them())
    stay = [who for n, (who, leaves) in enumerate(asked) if n == 0 or not leaves]
    assert sorted(who for _, who in came) == sorted(stay)
    assert len({turn for turn, _ in came}) == len(came)
    for place, (_, who) in enumerate(came):
        before = [w for _, w in came[:place]].count(who)
        for other in set(stay) - {who}:  # nobody is kept waiting by who had more already
            had = [w for _, w in came[:place]].count(other)
            assert had >= min(before, stay.count(other)) - 1
