"""The web process at its edges: ranges, errors, an archive that lies, a catalogue that is away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiohttp
import m3u8
import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from config.load import load
from config.model import Config
from storage.archive.factory import open_archive
from storage.catalogue.catalogue import Catalogue
from storage.records import (
    ClockState,
    GapCause,
    Header,
    Segment,
    Track,
)
from storage.spool.disk import claim_spool
from storage.spool.numbers import Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from streaming import app
from streaming.http import assets
from streaming.http.ports import PortInUse, check_port
from streaming.http.responses import LONG, json_response
from streaming.media import live
from streaming.media.playlist import (
    LIVE_MOST,
    LIVE_SEGMENTS,
    Listed,
    live_window,
    target_duration_s,
)
from tests.support.archiving import configure, uploading
from tests.support.archiving import kept as kept_by
from tests.support.s3 import free_port
from tests.support.spools import TRACKS, fill
from tests.support.waiting import BOUND_S, until
from tests.support.web import get, serving

NOW = int(time.time() * 1000)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")


async def test_ranges(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=3).close()
    async with serving(config) as session:
        url = "/live/s/c/2.m4s"
        _, headers, body = await get(session, url)
        size = len(body)
        for asked, status, found in (
            ("bytes=0-0", 206, body[:1]),
            ("bytes=0-", 206, body),
            (f"bytes={size - 1}-{size + 50}", 206, body[-1:]),
            (f"bytes=-{size + 5}", 206, body),
            (f"bytes={size}-", 416, None),
            ("bytes=5-2", 200, body),  # what is not a range is not there: RFC 9110, 14.2
            ("bytes=0-1,4-5", 200, body),
            ("pages=1-2", 200, body),
        ):
            answer = await get(session, url, headers={"Range": asked})
            assert answer[0] == status, asked
            assert found is None or answer[2] == found, asked
            if status == 206:
                first, last = answer[1]["Content-Range"].split()[1].split("/")[0].split("-")
                assert body[int(first) : int(last) + 1] == found
            assert ("immutable" in answer[1]["Cache-Control"]) == (status != 416)
        other = {"Range": "bytes=0-4", "If-Range": '"another"'}
        assert (await get(session, url, headers=other))[::2] == (200, body)
        same = {"Range": "bytes=0-4", "If-Range": headers["ETag"]}
        assert (await get(session, url, headers=same))[::2] == (206, body[:5])
        head = await get(session, url, method="HEAD", headers={"Range": "bytes=0-4"})
        # ranges are of GET alone (RFC 9110, 14.2)
        assert head[0] == 200 and head[1]["Content-Length"] == str(size) and head[2] == b""
        none = await get(session, url, method="HEAD", headers={"Range": f"bytes={size}-"})
        assert none[0] == 200 and "Content-Range" not in none[1]


async def test_what_has_changed_is_not_gone_on_with(config: Config) -> None:
    """Who has the beginning of a file asks for the rest of that state of it (RFC 9110, 13.1)."""
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=3).close()
    async with serving(config) as session:
        url = "/live/s/c/2.m4s"
        for _ in range(2):  # the second time a prepared answer is there
            _, headers, body = await get(session, url)
            tag = headers["ETag"]
            for asked, status in (
                ({"If-Match": tag}, 200),
                ({"If-Match": "*"}, 200),
                ({"If-Match": f'"other", {tag}', "Range": "bytes=1-"}, 206),
                ({"If-Match": '"other"'}, 412),
                ({"If-Match": '"other"', "Range": "bytes=1-"}, 412),
                ({"If-Match": '"other"', "If-None-Match": tag}, 412),
                ({"If-Match": f"W/{tag}"}, 412),  # compared strongly
                ({"If-Match": "other"}, 412),
                ({"If-Unmodified-Since": "Sun, 29 Nov 2020 09:00:00 GMT"}, 200),  # never changes
            ):
                answer = await get(session, url, headers=asked)
                assert answer[0] == status, asked
                if status == 412:
                    assert answer[2] != body and answer[1]["Cache-Control"] == "no-store"


async def test_a_part_is_never_sent_for_the_whole(config: Config) -> None:
    """A media file that is shorter than its index says, then an archive that lies."""
    fill(config.spool, start_ms=NOW - 8_000_000, segments=40).close()
    # the first but one: the first may have one segment alone, by the time of day
    media = sorted((config.spool / "s/c").glob("*/*.mp4"))[1]
    os.truncate(media, media.stat().st_size - 1)
    lines = [json.loads(line) for line in media.with_suffix(".jsonl").read_bytes().splitlines()]
    first, *_, lost = [line["segment_no"] for line in lines if "segment_no" in line]
    async with serving(config, clock=lambda: NOW) as session:
        assert (await get(session, f"/live/s/c/{first}.m4s"))[0] == 200
        status, headers, _ = await get(session, f"/live/s/c/{lost}.m4s")
        # without a catalogue nobody knows whether an archive has it
        assert status == 503 and headers["Cache-Control"] == "no-store"
    media.unlink()
    media.with_suffix(".jsonl").unlink()
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: len(list(config.spool.glob("s/c/*/*.mp4"))) == 1)
        assert kept_by(uploader).failures_total == 0
        kept = sorted(
            config.path.parent.glob("archive/e/s/c/*/*.mp4"),
            key=lambda p: int(p.stem.rpartition("-")[2]),
        )[-2]  # the newest stays in the spool
        number = json.loads(kept.with_suffix(".json").read_bytes())["segments"][-1]["segment_no"]
        async with serving(config, catalogue, archive, clock=lambda: NOW) as session:
            url = f"/live/s/c/{number}.m4s"
            assert (await get(session, url))[0] == 200
            data = bytearray(kept.read_bytes())
            data[-1] ^= 1
            kept.write_bytes(data)
            status, headers, body = await get(session, url)
            assert (status, headers["Cache-Control"]) == (503, "no-store") and len(body) < 200


async def test_a_stretch_grows_ends_and_never_changes(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = NOW
    spool = fill(config.spool, start_ms=now - 120_000, runs=1, segments=59, sealed=False)
    async with serving(config, clock=lambda: now) as session:

        async def kind(from_ms: int, to_ms: int | None) -> tuple[str | None, bool]:
            to = "" if to_ms is None else f"&to={to_ms}"
            status, _, body = await get(session, f"/live/s/c/index.m3u8?from={from_ms}{to}")
            assert status == 200, body
            parsed = m3u8.loads(body.decode())
            return parsed.playlist_type, parsed.is_endlist

        begin = now - 120_000
        assert await kind(begin, now - 90_000) == ("vod", True)
        assert await kind(begin, now - 10_000) == ("event", True)  # who watches sees it end
        assert await kind(begin, now - 1_000) == ("event", False)  # its last segment is not there
        assert await kind(begin, now + 900_000) == ("event", False)
        assert await kind(begin, None) == ("event", False)
        monkeypatch.setattr(live, "MAX_REWIND_SEGMENTS", 20)
        status, _, body = await get(session, f"/live/s/c/index.m3u8?from={begin}")
        assert status == 400 and b"more segments" in body
    spool.seal(None)
    spool.close()


async def test_playlists_are_kept_until_there_is_something_new(config: Config) -> None:
    spool = fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=9, sealed=False)
    async with serving(config) as session:
        one = await get(session, "/live/s/c/index.m3u8")
        assert (await get(session, "/live/s/c/index.m3u8"))[2] == one[2]
        run = spool._run
        assert run is not None
        spool.append(
            run,
            b"x" * 50,
            SegmentInfo(
                tfdt_90k=9 * 180_000,
                duration_90k=180_000,
                starts_with_key=False,
                arrival_ms=NOW,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )
        two = one

        async def is_new() -> bool:
            nonlocal two
            two = await get(session, "/live/s/c/index.m3u8")
            return bool(two[1]["ETag"] != one[1]["ETag"])

        await until(is_new)
        assert two[2].endswith(b"\n10.m4s\n")
        assert b"INDEPENDENT" in one[2] and b"INDEPENDENT" not in two[2]
    spool.seal(None)
    spool.close()


async def test_errors_are_problems_and_name_no_version(config: Config) -> None:
    async with serving(config) as session:
        for method, path, status in (
            ("GET", "/api/v1/nothing", 404),
            ("GET", "/api/v1/stations/nobody", 404),
            ("GET", "/api/v1/stations/nobody/timeline", 404),
            ("POST", "/api/v1/stations", 405),
            ("GET", "/api/v1/stations?after=nobody", 400),
            ("GET", "/api/v1/stations/s/timeline?from=2026-01-01T00:00", 400),
            ("GET", "/api/v1/stations/s/timeline?from=5&to=4", 400),
            ("GET", "/api/v1/stations/s/timeline?from=0", 400),
            ("GET", "/api/v1/stations/s/timeline?to=" + "9" * 15, 200),
            ("GET", "/api/v1/stations/s/timeline?from=2026-01-01T00:00Z&to=2026-01-02", 400),
        ):
            async with session.request(method, path) as answer:
                assert answer.status == status, path
                kind = "application/problem+json" if status >= 400 else "application/json"
                assert answer.content_type == kind
                said = await answer.json()
                assert status < 400 or (said["status"] == status and said["detail"])
                assert status < 400 or answer.headers["Cache-Control"] == "no-store"
                assert answer.headers["Access-Control-Allow-Origin"] == "*"
        for path in ("/", "/nothing", "/live/s/c/1.m4s", "/api/v1/stations", "/static/kuager.css"):
            _, headers, _ = await get(session, path)
            assert headers["Server"] == "Kuager"
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["Referrer-Policy"] == "same-origin"
            assert "frame-ancestors" in headers["Content-Security-Policy"]
        port = session._base_url.port  # type: ignore[union-attr]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"\0\1 this is not HTTP\r\n\r\n")
        raw = await reader.read(1000)
        writer.close()
        assert b" 400 " in raw and b"aiohttp" not in raw and b"Python" not in raw


async def test_paging_visits_every_station_once(tmp_path: Path) -> None:
    rows = "".join(f'  - {{id: s{n}, number: "{n}", address: "Abai St {n}"}}\n' for n in range(230))
    configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    (tmp_path / "stations.yaml").write_text("stations:\n" + rows)
    async with serving(load(tmp_path / "kuager.yaml", {})) as session:
        seen: list[str] = []
        query = "?limit=50"
        while query:
            async with session.get("/api/v1/stations" + query) as answer:
                page: dict[str, Any] = await answer.json()
            seen += [s["id"] for s in page["stations"]]
            query = f"?limit=50&after={page['next_after']}" if page["next_after"] else ""
        assert seen == [f"s{n}" for n in range(230)]
        async with session.get("/api/v1/stations?q=ABAI%20st%20117") as answer:
            page = await answer.json()
            assert [s["id"] for s in page["stations"]] == ["s117"] and not page["next_after"]
        _, _, home = await get(session, "/?region=-&lang=en")
        assert home.count(b"<li data-station=") == 100 and b"after=s99" in home
        _, _, home = await get(session, "/?q=%3Cscript%3E")
        assert b"<script>" not in home and b"No station" in home


async def test_a_catalogue_that_is_away_is_no_error_and_no_missing(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=5).close()
    catalogue, archive = await Catalogue.open(config.database_url), open_archive(config.archives[0])
    database = sqlite3.connect(config.path.parent / "k.db", isolation_level=None)
    async with serving(config, catalogue, archive) as session:
        assert (await get(session, "/live/s/c/999.m4s"))[0] == 404
        assert (await get(session, "/readyz"))[::2] == (200, b"ready\n")
        database.execute("ALTER TABLE recordings RENAME TO away")
        status, headers, _ = await get(session, "/live/s/c/999.m4s")
        assert status == 503 and headers["Retry-After"]
        async with session.get("/api/v1/stations/s/timeline") as answer:
            said = await answer.json()
            assert said["complete"] is False and said["cameras"][0]["recordings"]
        database.execute("ALTER TABLE away RENAME TO recordings")
        assert (await get(session, "/live/s/c/999.m4s"))[0] == 404
        async with session.get("/api/v1/stations/s/timeline") as answer:
            assert (await answer.json())["complete"] is True
    database.close()
    await catalogue.close()
    await archive.close()


@pytest.mark.parametrize("catalogued", [False, True])
async def test_a_timeline_tells_what_is_missing(config: Config, catalogued: bool) -> None:
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=5, lost=2).close()
    catalogue, archive = await Catalogue.open(config.database_url), open_archive(config.archives[0])
    if catalogued:
        reader = SpoolReader(config.spool, "s", "c")
        reader.refresh()
        await catalogue.writer.put_recordings([index for _, index in reader.recordings()])
        shutil.rmtree(config.spool / "s")
    async with serving(config, catalogue, archive) as session:
        _, _, body = await get(session, "/api/v1/stations/s/timeline")
    found = json.loads(body)["cameras"][0]["recordings"]
    assert sum(recording["lost"] for recording in found) == 10
    assert not any("damaged" in recording or "restarted" in recording for recording in found)
    await catalogue.close()
    await archive.close()


@pytest.mark.slow
async def test_the_process_serves_without_a_catalogue_and_opens_it_later(tmp_path: Path) -> None:
    port, other = free_port(), tmp_path / "not-yet"
    config = configure(tmp_path, f"sqlite:///{other}/k.db", "archives: [archive]\n", "2h")
    config = config.model_copy(update={"web": config.web.model_copy(update={"port": port})})
    fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=5).close()
    tasks = [asyncio.create_task(serve(config)) for _ in range(2)]  # two share the port
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            await _answers(session)
            assert (await get(session, "/live/s/c/index.m3u8"))[0] == 200
            assert (await get(session, "/readyz"))[0] == 503
            assert (await get(session, "/live/s/c/999.m4s"))[0] == 503
            with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use by another"):
                check_port("127.0.0.1", port)
            other.mkdir()

            async def is_ready() -> bool:
                return bool((await get(session, "/readyz"))[0] == 200)

            await until(is_ready)
            assert (await get(session, "/live/s/c/999.m4s"))[0] == 404
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(e, asyncio.CancelledError) for e in ended)


async def test_operators_are_served_by_a_new_configuration_before_the_old_one_ends(
    config: Config,
) -> None:
    port = free_port()
    web = {"port": port, "operators_port": port + 1}
    config = config.model_copy(update={"web": config.web.model_copy(update=web)})
    claim_spool(config.spool)
    with capture_logs() as log:
        async with contextlib.AsyncExitStack() as old:
            await old.enter_async_context(app.serving(config))
            async with app.serving(config):
                await old.aclose()
                async with aiohttp.ClientSession(f"http://127.0.0.1:{port + 1}") as session:
                    assert (await get(session, "/metrics"))[0] == 200
    assert not [entry for entry in log if entry["log_level"] == "error"]


async def test_two_kuagers_never_share_a_port(config: Config, tmp_path: Path) -> None:
    port, apart = free_port(), free_port()

    def listening(spool: str, **web: int) -> Config:
        path = tmp_path / spool
        fill(path, start_ms=NOW - 100_000, runs=1, segments=5).close()
        web = {"port": port, "operators_port": apart} | web
        return config.model_copy(update={"spool": path, "web": config.web.model_copy(update=web)})

    with capture_logs() as log:
        async with app.serving(listening("one")), app.serving(listening("one")):
            assert not [entry for entry in log if entry["log_level"] == "error"]
            with pytest.raises(PortInUse, match=r"web\.listen"):
                async with app.serving(listening("two")):
                    pass
            async with app.serving(listening("two", port=free_port())):
                pass
    (error,) = [entry for entry in log if entry["log_level"] == "error"]
    assert error["event"] == "Metrics are not served" and "web.operators" in error["why"]
    async with app.serving(listening("two")):
        pass


async def serve(config: Config, stop_s: float = app.STOP_S) -> None:
    async with app.serving(config, stop_s):
        await asyncio.Event().wait()


async def _answers(session: aiohttp.ClientSession) -> None:
    async def is_there() -> bool:
        try:
            return bool(await get(session, "/healthz"))
        except aiohttp.ClientError:
            return False

    await until(is_there)


async def test_a_request_in_flight_is_finished(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    port = free_port()
    config = config.model_copy(update={"web": config.web.model_copy(update={"port": port})})
    spool = CameraSpool(config.spool, "e", "s", "c", Numbers())
    data = os.urandom(16 << 20)  # more than sockets hold
    spool.append(
        Run(NOW - 60_000, b"init", TRACKS, 2),
        data,
        SegmentInfo(
            tfdt_90k=0, duration_90k=180_000, starts_with_key=True, arrival_ms=NOW, camera_ms=None
        ),
        ClockState(True, 1),
    )
    task = asyncio.create_task(serve(config, stop_s=BOUND_S))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        await _answers(session)
        async with session.get("/live/s/c/1.m4s") as answer:
            body = await answer.content.readexactly(1 << 20)
            task.cancel()

            async def is_closed() -> bool:
                try:
                    async with aiohttp.ClientSession() as late:
                        await late.get(f"http://127.0.0.1:{port}/healthz")
                except aiohttp.ClientError:
                    return True
                return False

            await until(is_closed)  # to others
            assert not task.done()
            body += await answer.content.read()
    assert body == data
    with pytest.raises(asyncio.CancelledError):
        await task
    spool.seal(GapCause.RECORDER_STOPPED)
    spool.close()


@given(st.lists(st.integers(1, 2_000_000), min_size=1, max_size=100), st.integers(1, 4))
@example([180_000] * 20 + [1_000_000] + [180_000] * 20, 1)
def test_live_windows_of_any_lengths(lengths_90k: list[int], runs: int) -> None:
    """At least 8 segments and 3 target durations where there are; the first number only rises, also
    where a picture stood still for several target durations."""
    track = (Track(1, "video", "h264", 90_000),)
    listed = []
    runs = min(runs, len(lengths_90k))
    for n, length_90k in enumerate(lengths_90k):
        header = Header("e", "s", "c", 1, 1 + n * runs // len(lengths_90k), 1, 0, 1, "", 4, track)
        listed.append((header, Segment(n, n, 0, length_90k, 0, 1, "", True, n)))
    first = 0
    for n in range(1, len(listed) + 1):
        seen = listed[max(0, n - LIVE_MOST) : n]
        window = live_window(seen)
        assert window[-1] is seen[-1]
        before, first = first, window[0][1].segment_no
        assert first >= before
        if window[0] is not seen[0] and first > before:  # what was removed left enough
            assert is_enough(window)
        assert not is_enough(window[1:])


def is_enough(window: Sequence[Listed]) -> bool:
    length_90k = sum(segment.duration_90k for _, segment in window)
    return len(window) >= LIVE_SEGMENTS and length_90k >= 3 * 90_000 * target_duration_s(window)


def test_only_long_json_is_sent_with_gzip() -> None:
    request = make_mocked_request("GET", "/", headers={"Accept-Encoding": "gzip"})
    long, short = (json_response(request, {"a": "x" * size}) for size in (LONG, 10))
    assert long.compression and long.headers["Vary"] == "Accept-Encoding"
    assert not short.compression and "Vary" not in short.headers
    plain = json_response(make_mocked_request("GET", "/"), {"a": "x" * LONG})
    assert not plain.compression and plain.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip, deflate, br", True),
        ("br, GZIP;q=0.1", True),
        ("*", True),
        ("gzip;q=0", False),
        ("gzip; q=0.0, deflate", False),
        ("*, gzip;q=0", False),
        ("identity", False),
        ("notgzip", False),
        ("gzip;q=much", False),
        ("", False),
    ],
)
async def test_gzip_is_sent_to_who_takes_it(accepted: str, packed: bool) -> None:
    """Also what is cached for ever, and what names gzip to refuse it."""
    headers = {"Accept-Encoding": accepted}
    info = {"version": assets.version(), "name": "page.mjs"}
    request = make_mocked_request("GET", "/", headers=headers, match_info=info)
    sent = await assets.static(request)
    assert (sent.headers.get("Content-Encoding") == "gzip") is packed
    assert sent.headers["Vary"] == "Accept-Encoding"
    assert json_response(request, {"a": "x" * LONG}).compression is packed
