"""Playlists and segments over real HTTP, against a real spool and archive."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.model import Config
from storage.records import GapCause, Header, Segment, Track
from streaming.http import assets
from streaming.http.ports import PortInUse, check_port
from streaming.media.playlist import RUNS_COUNTED, Listed, consecutive_tail, entries, playlist
from tests.support.archiving import configure, uploading
from tests.support.spools import fill
from tests.support.waiting import until
from tests.support.web import get, opened, operating, serving, standing

NOW = int(time.time() * 1000)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")


async def test_live_playlist(config: Config) -> None:
    spool = fill(config.spool, start_ms=NOW - 200_000, segments=40, sealed=False)
    async with serving(config) as session:
        status, headers, body = await get(session, "/live/s/c/index.m3u8")
        assert status == 200 and headers["Access-Control-Allow-Origin"] == "*"
        assert headers["Content-Type"] == "application/vnd.apple.mpegurl"
        parsed = m3u8.loads(body.decode())
        assert parsed.target_duration == 2 and not parsed.is_endlist
        numbers = [int(s.uri.removesuffix(".m4s")) for s in parsed.segments]
        assert numbers == list(range(73, 81)) and parsed.media_sequence == 73
        assert parsed.discontinuity_sequence == 2
        again = await get(
            session, "/live/s/c/index.m3u8", headers={"If-None-Match": headers["ETag"]}
        )
        assert again[0] == 304 and again[2] == b""
        head = await get(session, "/live/s/c/index.m3u8", method="HEAD")
        assert head[0] == 200 and head[2] == b"" and head[1]["ETag"] == headers["ETag"]
        options = await get(session, "/live/s/c/index.m3u8", method="OPTIONS")
        assert options[0] == 204 and "GET" in options[1]["Access-Control-Allow-Methods"]
        for name in ("/live/s/nobody/index.m3u8", "/live/x/c/index.m3u8"):
            assert (await get(session, name))[0] == 404
        status, headers, body = await get(session, "/live/s/d/index.m3u8")
        assert (
            status == 404
            and b"recorded in the last 2 h; ask again" in body
            and headers["Retry-After"]
        )
    spool.seal(None)
    spool.close()


async def test_segments_are_immutable_from_spool_and_archive(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 8_000_000, segments=70).close()
    seen: dict[str, tuple[str, bytes]] = {}
    paths = [f"/live/s/c/{n}.m4s" for n in (1, 35, 70, 71, 140)] + [
        "/live/s/c/init-1.mp4",
        "/live/s/c/init-2.mp4",
    ]
    async with serving(config, clock=lambda: NOW) as session:
        for path in paths:
            status, headers, body = await get(session, path)
            assert status == 200 and "immutable" in headers["Cache-Control"]
            assert headers["ETag"].strip('"') == hashlib.sha256(body).hexdigest()
            seen[path] = headers["ETag"], body
            conditional = {"If-None-Match": headers["ETag"]}
            assert (await get(session, path, headers=conditional))[0] == 304
            part = await get(session, path, headers={"Range": "bytes=5-9"})
            assert part[0] == 206 and part[2] == body[5:10]
            assert part[1]["Content-Range"] == f"bytes 5-9/{len(body)}"
            assert (await get(session, path, headers={"Range": "bytes=-4"}))[2] == body[-4:]
            assert (await get(session, path, headers={"Range": "bytes=99999-"}))[0] == 416
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: uploader.status.removed_total >= 3)
        async with serving(config, catalogue, archive, clock=lambda: NOW) as session:
            for path, (etag, body) in seen.items():
                status, headers, again = await get(session, path)
                assert (status, headers["ETag"]) == (200, etag) and again == body
            for missing in ("/live/s/c/141.m4s", "/live/s/c/0.m4s", "/live/s/c/init-3.mp4"):
                assert (await get(session, missing))[0] == 404


async def test_rewind(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 600_000, segments=60).close()
    begin = NOW - 600_000
    async with serving(config) as session:
        status, _, body = await get(
            session, f"/live/s/c/index.m3u8?from={begin + 100_000}&to={begin + 150_000}"
        )
        parsed = m3u8.loads(body.decode())
        assert status == 200 and parsed.is_endlist and parsed.playlist_type == "vod"
        assert [s.discontinuity for s in parsed.segments].count(True) == 1
        assert parsed.segments[0].current_program_date_time.timestamp() * 1000 == pytest.approx(
            begin + 100_000, abs=2_000
        )
        status, _, body = await get(session, f"/live/s/c/index.m3u8?from={begin}")
        assert m3u8.loads(body.decode()).playlist_type == "event"
        text = "2020-01-01T00:00:00Z"
        for query, code, words in (
            (f"from={text}", 404, b"rewind window, which is the last 2 h"),
            (f"from={NOW + 10**7}", 404, b"in the future"),
            (f"from={begin}&to={begin - 1}", 400, b"not after"),
            ("from=yesterday", 400, b"not a time"),
            ("from=2026-01-01T00:00:00", 400, b"not a time"),
            ("to=5", 400, b"'from' is missing"),
            ("from=" + "9" * 5000, 400, b"not a time"),
            (f"from={begin - 5_000}&to={begin - 1_000}", 404, b"Nothing was recorded"),
        ):
            status, _, body = await get(session, f"/live/s/c/index.m3u8?{query}")
            assert (status, words in body) == (code, True), (query, status, body)


async def test_what_was_recorded_is_in_no_gap(config: Config) -> None:
    """A spool that knows nothing of before says that no recorder ran; another one may have."""
    spool = fill(config.spool, start_ms=NOW - 100_000, runs=1, segments=10)
    spool.begin_gap(NOW - 200_000, GapCause.RECORDER_STOPPED)
    spool.end_gap(NOW - 60_000)
    spool.close()
    async with serving(config) as session:
        _, _, body = await get(session, f"/api/v1/stations/s/timeline?from={NOW - 300_000}")
    (camera, *_) = json.loads(body)["cameras"]
    told = [(gap["start_ms"] - NOW, gap["end_ms"] - NOW) for gap in camera["gaps"]]
    assert told == [(-200_000, -100_000), (-80_000, -60_000)]


@pytest.mark.slow
async def test_operators_are_told_more(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 300_000).close()
    (config.spool / "_status").mkdir(exist_ok=True)
    said = {"s/c": {"state": "backoff", "cause": "no_data"}}
    (config.spool / "_status/recorder-0.json").write_text(
        json.dumps({"written_ms": standing(), "cameras": said})
    )
    async with operating(config, standing) as session:
        metrics = (await get(session, "/metrics"))[2]
        assert b'kuager_camera_state{station="s",camera="c",state="backoff"} 1' in metrics
        assert b'kuager_camera_cause{station="s",camera="c",cause="no_data"} 1' in metrics
        assert (await get(session, "/healthz"))[2] == b"ok\n"
        assert (await get(session, "/readyz"))[2] == b"ready\n"
        assert (await get(session, "/"))[0] == 404
        with contextlib.closing(sqlite3.connect(config.database_url.partition("///")[2])) as db:
            tables = "SELECT name FROM sqlite_master WHERE type = 'table'"
            names = db.execute(f"{tables} AND name NOT LIKE 'sqlite%'").fetchall()
            for (name,) in names:
                db.execute(f'DROP TABLE "{name}"')

        async def is_told() -> bool:
            status, _, body = await get(session, "/readyz")
            return status == 503 and body.startswith(b"the catalogue does not answer")

        await until(is_told)
    config.spool.rename(config.spool.with_name("moved"))
    async with operating(config) as session:
        status, _, body = await get(session, "/readyz")
        assert status == 503 and body.startswith(b"the spool cannot be read")
    async with serving(config) as session:
        assert (await get(session, "/readyz"))[::2] == (503, b"not ready\n")
        assert (await get(session, "/metrics"))[0] == 404  # nor what it tells of disk and backlog


async def test_pages_api_and_status(config: Config) -> None:
    fill(config.spool, start_ms=NOW - 300_000).close()
    (config.spool / "_status").mkdir(exist_ok=True)
    said = {"s/c": {"state": "backoff", "cause": "no_data"}}
    (config.spool / "_status/recorder-0.json").write_text(
        json.dumps({"written_ms": int(time.time() * 1000), "cameras": said})
    )
    async with opened(config) as catalogue, serving(config, catalogue) as session:
        status, headers, body = await get(session, "/")
        assert status == 200 and b"/stations/s" in body
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        status, _, body = await get(session, "/stations/s")
        assert status == 200 and b'data-camera="c"' in body and b"<script>" not in body
        assert (await get(session, "/stations/nobody"))[0] == 404
        async with session.get("/api/v1/stations?q=1&limit=1") as answer:
            found = await answer.json()
            assert [s["id"] for s in found["stations"]] == ["s"]
        async with session.get("/api/v1/stations/s/timeline") as answer:
            found = await answer.json()
            (camera, _) = found["cameras"]
            assert camera["recordings"] and camera["gaps"][0]["cause"] == "no_data"
        for bad in ("/api/v1/stations?limit=x", "/api/v1/stations/s/timeline?from=z"):
            async with session.get(bad) as answer:
                assert answer.status == 400
                assert answer.content_type == "application/problem+json"
        assert (await get(session, "/healthz"))[0] == 200
        assert (await get(session, "/readyz"))[0] == 200
        assert (await get(session, "/metrics"))[0] == 404  # it tells too much
        assert (await get(session, assets.address("station.mjs")))[0] == 200
        assert (await get(session, "/static/x/../../app.py"))[0] == 404


def test_a_port_in_use_is_said() -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match=r"web\.listen"):
            check_port("127.0.0.1", taken.getsockname()[1])


def written(listed: Sequence[Listed]) -> str:
    return b"".join(playlist(entries(listed))).decode()


TRACK = (Track(1, "video", "h264", 90_000),)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=8), st.data())
def test_playlists_of_any_runs(runs: list[tuple[int, bool]], data: st.DataObject) -> None:
    """A parser accepts them; a segment keeps its numbers from one refresh to the next."""
    listed = []
    number = data.draw(st.integers(1, 10**9))
    for run_no, (count, key) in enumerate(runs, data.draw(st.integers(1, 10**6))):
        header = Header("e", "s", "c", 1, run_no, 1, 0, 1, "", 4, TRACK)
        for _ in range(count):
            at = 1_764_392_400_000 + number * 2000
            listed.append((header, Segment(number, at, 0, 180_000, 0, 1, "", key, at)))
            number += 1
    before: dict[str, tuple[int, int]] = {}
    for n in range(len(listed)):
        tail = consecutive_tail(listed[n:])
        assert len(tail) == len(listed) - n
        parsed = m3u8.loads(written(tail))
        breaks = parsed.discontinuity_sequence
        for place, segment in enumerate(parsed.segments):
            breaks += segment.discontinuity
            numbers = (parsed.media_sequence + place, breaks % RUNS_COUNTED)
            assert before.setdefault(segment.uri, numbers) == numbers
            run_no = int(segment.init_section.uri.removeprefix("init-").removesuffix(".mp4"))
            assert run_no % RUNS_COUNTED == numbers[1]


def test_players_get_no_discontinuity_number_that_they_would_count_up_to() -> None:
    header = Header("e", "s", "c", 2, 217_608_454, 1, 0, 1, "", 4, TRACK)
    text = written([(header, Segment(217_608_454, 0, 0, 1, 0, 1, "", True, 1))])
    assert m3u8.loads(text).discontinuity_sequence == 8_454


def test_a_hole_in_the_numbers_starts_the_playlist_anew() -> None:
    header = Header("e", "s", "c", 2, 9, 1, 0, 1, "", 4, TRACK)
    listed = [(header, Segment(n, n, 0, 1, 0, 1, "", True, 1)) for n in (1, 2, 3, 100_003, 100_004)]
    assert [s.segment_no for _, s in consecutive_tail(listed)] == [100_003, 100_004]


@pytest.mark.parametrize(("epoch", "run_start_ms"), [(3, 0), (2, 700)])
def test_two_runs_with_one_number_are_two(epoch: int, run_start_ms: int) -> None:
    """Of two recorders of a camera, whose spools somebody put together."""
    one = Header("e", "s", "c", 2, 9, 1, 0, 1, "", 4, TRACK)
    other = replace(one, epoch=epoch, run_start_ms=run_start_ms)
    listed = [
        (header, Segment(n, n, 0, 1, 0, 1, "", True, 1))
        for n, header in enumerate((one, one, other, other))
    ]
    assert [s.segment_no for _, s in consecutive_tail(listed)] == [2, 3]
    lines = written(listed).splitlines()
    assert lines.count("#EXT-X-DISCONTINUITY") == 1
    assert lines.count('#EXT-X-MAP:URI="init-9.mp4"') == 2
