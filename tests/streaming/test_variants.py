"""Second streams and keyframes over real HTTP: what players are offered, and what they get."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import m3u8
import pytest

from config.load import load
from config.model import Config
from storage.media.fmp4 import box_at, boxes, parse_moof
from storage.spool.disk import DiskSpace
from storage.spool.rates import Rates, measure
from streaming import context
from tests.support.archiving import configure, uploading
from tests.support.playable import FPS, LOW, PlayableCamera
from tests.support.waiting import until
from tests.support.web import ask, get, operating, say, serving, standing

NOW = standing()
BEGIN = NOW - 200_000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    path = tmp_path / "stations.yaml"
    path.write_text(
        path.read_text().replace(
            '"rtsp://127.0.0.1/c"', '"rtsp://127.0.0.1/c", low_url: "rtsp://127.0.0.1/2"'
        )
    )
    return load(made.path, {})


@pytest.fixture
def first(config: Config) -> Iterator[PlayableCamera]:
    camera = PlayableCamera(config.spool, "c", BEGIN)
    camera.append(80)
    yield camera
    camera.close()


@pytest.fixture
def second(config: Config, first: PlayableCamera) -> Iterator[PlayableCamera]:
    """A second stream that began 20 s after the first."""
    begin_ms = BEGIN + 20_000
    camera = PlayableCamera(config.spool, "c.low", begin_ms, LOW, first.line)
    camera.append(70)
    yield camera
    camera.close()


async def playlist(session: aiohttp.ClientSession, path: str) -> m3u8.M3U8:
    status, headers, body = await get(session, path)
    assert (status, headers["Content-Type"]) == (200, "application/vnd.apple.mpegurl"), body
    assert headers["Access-Control-Allow-Origin"] == "*"
    return m3u8.loads(body.decode())


async def test_players_are_offered_both_streams_with_what_they_take(
    config: Config, first: PlayableCamera, second: PlayableCamera
) -> None:
    async with serving(config, clock=standing) as session:
        offered = await playlist(session, "/live/s/c/all.m3u8")
        one, two = (variant.stream_info for variant in offered.playlists)
        assert [v.uri for v in offered.playlists] == ["index.m3u8", "../c.low/index.m3u8"]
        assert (one.resolution, two.resolution) == ((1280, 720), (320, 180))
        assert (one.codecs, two.codecs) == ("avc1.64001f,mp4a.40.2", "avc1.64001f")
        assert one.frame_rate == two.frame_rate == FPS
        for info, (key, other) in ((one, (20_000, 2_000)), (two, (2_000, 200))):
            bits = (key + 49 * other) * 8 / 2
            assert bits < info.average_bandwidth <= info.bandwidth < bits * 1.2
        pictures = [i.iframe_stream_info for i in offered.iframe_playlists]
        assert [i.uri for i in offered.iframe_playlists] == [
            "pictures.m3u8",
            "../c.low/pictures.m3u8",
        ]
        assert [p.bandwidth for p in pictures] == [20_000 * 4, 2_000 * 4]
        assert [p.codecs for p in pictures] == ["avc1.64001f"] * 2
        for variant in offered.playlists:
            assert (await playlist(session, f"/live/s/c/{variant.uri}")).segments
        _, headers, _ = await get(session, "/live/s/c/all.m3u8")
        known = {"If-None-Match": headers["ETag"]}
        assert (await get(session, "/live/s/c/all.m3u8", headers=known))[0] == 304


async def test_what_streams_take_is_measured_beside_live_video(
    config: Config,
    first: PlayableCamera,
    second: PlayableCamera,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of each recording some milliseconds, for who comes first after it: once, and in a thread."""
    threads = list[threading.Thread]()

    def noted(*asked: Any) -> Rates | None:
        threads.append(threading.current_thread())
        return measure(*asked)

    monkeypatch.setattr(context, "measure", noted)
    for path, told in (
        ("/api/v1/stations/s", rb'"low_minute":[1-9]'),
        ("/api/v1/stations/s/timeline", rb'"low_minute":[1-9]'),
        ("/stations/s", rb'"low_minute":[1-9]'),
        ("/embed/s/c", rb'"low_minute":[1-9]'),
        ("/live/s/c/all.m3u8", rb"[.][.]/c[.]low/"),
    ):
        threads.clear()
        async with serving(config, clock=standing) as session:
            for _ in range(2):
                status, _, body = await get(session, path)
                assert status == 200 and re.search(told, body), path
        assert len(threads) == 2 and threading.main_thread() not in threads, path


async def test_what_is_the_same_has_the_same_time_in_both(
    config: Config, first: PlayableCamera, second: PlayableCamera
) -> None:
    """RFC 8216, 6.2.4: timestamps, dates and discontinuity numbers."""
    first.spool.seal(None)
    first.begin(first.end_ms + 10_000)
    first.append(5)
    second.begin(first.end_ms - 6_000, line=first.line)
    second.append(2)
    second.begin(first.end_ms - 2_000, line=first.line)  # once more, within one run of the first
    second.append(1)
    async with serving(config, clock=standing) as session:
        known: dict[str, dict[int, tuple[int, int]]] = {}
        for name in ("c", "c.low"):
            found = known[name] = {}
            text = await playlist(session, f"/live/s/{name}/index.m3u8")
            number = text.discontinuity_sequence
            for segment in text.segments:
                number += segment.discontinuity
                _, _, data = await get(session, f"/live/s/{name}/{segment.uri}")
                at = box_at(data, 0, len(data))
                assert at is not None
                utc_ms = round(segment.current_program_date_time.timestamp() * 1000)
                found[utc_ms] = (parse_moof(data, at)[0].decode_time, number)
        both = known["c"].keys() & known["c.low"].keys()
        assert len(both) == 6 and {known["c"][at][1] for at in both} == {1, 2}
        assert all(known["c"][at] == known["c.low"][at] for at in both)


async def test_a_second_stream_that_is_not_recorded_is_not_offered(
    config: Config, first: PlayableCamera
) -> None:
    async with serving(config, clock=standing) as session:
        assert (await get(session, "/live/s/d/all.m3u8"))[0] == 404
        assert len((await playlist(session, "/live/s/c/all.m3u8")).playlists) == 1
        for name in ("d.low", "c.low.low", "x.low"):  # which nobody configured
            assert (await get(session, f"/live/s/{name}/index.m3u8"))[0] == 404
            assert (await get(session, f"/live/s/{name}/all.m3u8"))[0] == 404
        assert (await get(session, "/live/s/c.low/all.m3u8"))[0] == 404
        late = PlayableCamera(config.spool, "c.low", BEGIN, LOW, first.line)
        late.append(60)  # it ends 40 s before the first
        assert len((await playlist(session, "/live/s/c/all.m3u8")).playlists) == 1
        late.append(10)
        assert len((await playlist(session, "/live/s/c/all.m3u8")).playlists) == 2
        late.close()


async def test_a_second_stream_counts_as_no_camera(
    config: Config, first: PlayableCamera, second: PlayableCamera
) -> None:
    say(config, "s/c", clock=standing)
    async with serving(config, clock=standing) as session:
        election = await ask(session, "/api/v1/election")
        assert (election["cameras"], election["cameras_live"]) == (2, 1)
        (c, d) = (await ask(session, "/api/v1/stations/s"))["cameras"]
        assert (c["low"], d["low"]) == (True, False)
        assert d["takes"] == dict.fromkeys(("minute", "low_minute", "picture", "low_picture"))
        assert (c["takes"]["picture"], c["takes"]["low_picture"]) == (20_000, 2_000)
        assert c["takes"]["minute"] / c["takes"]["low_minute"] == pytest.approx(9.4, rel=0.1)
        told = await ask(session, "/api/v1/stations/s/timeline")
        assert [one["id"] for one in told["cameras"]] == ["c", "d"]
        assert told["cameras"][0]["takes"] == c["takes"]
        assert (await get(session, "/live/s/c.low/thumb.jpg"))[0] == 404
        assert (await get(session, "/embed/s/c.low"))[0] == 404
        page = (await get(session, "/stations/s"))[2].decode()
        assert '"low":true,"takes":{"minute":' in page and "c.low" not in page
    async with operating(config) as session:
        metrics = (await get(session, "/metrics"))[2].decode()
        series = [line for line in metrics.splitlines() if "_low_" in line and line[0] != "#"]
        name = "kuager_camera_low_recorded_timestamp_seconds"
        assert series == [f'{name}{{station="s",camera="c"}} 0.000']


async def test_keyframes_alone(config: Config, first: PlayableCamera) -> None:
    """An I-frame playlist has the numbers of the others; each picture is whole by itself."""
    first.append(1, key=False)
    first.append(2)
    async with serving(config, clock=standing) as session:
        whole = await playlist(session, "/live/s/c/index.m3u8")
        text = (await get(session, "/live/s/c/pictures.m3u8"))[2].decode()
        listed = m3u8.loads(text)
        assert listed.is_i_frames_only and listed.version == 8
        assert listed.media_sequence == whole.media_sequence
        assert [s.uri for s in listed.segments] == [
            s.uri.replace(".m4s", "-key.m4s") for s in whole.segments
        ]
        assert [s.gap_tag is not None for s in listed.segments] == [False] * 5 + [True] + [
            False
        ] * 2
        for segment, picture in zip(whole.segments, listed.segments, strict=True):
            status, headers, data = await get(session, f"/live/s/c/{picture.uri}")
            if picture.gap_tag is not None:
                assert status == 404
                continue
            assert status == 200 and "immutable" in headers["Cache-Control"]
            moof, mdat = boxes(data, 0, len(data))
            (fragment,) = parse_moof(data, moof)
            (sample,) = fragment.samples
            assert data[mdat.body : mdat.end] == b"\1" * 20_000 and sample.sync
            assert sample.duration == 180_000 == segment.duration * 90_000
            _, _, original = await get(session, f"/live/s/c/{segment.uri}")
            at = box_at(original, 0, len(original))
            assert at and parse_moof(original, at)[0].decode_time == fragment.decode_time
        query = f"?from={BEGIN + 10_000}&to={BEGIN + 30_000}"
        back = m3u8.loads((await get(session, f"/live/s/c/pictures.m3u8{query}"))[2].decode())
        assert back.is_endlist and len(back.segments) == 10 and back.version == 6
        assert (await get(session, "/live/s/c/index.m3u8"))[2].decode().count("-key") == 0


async def test_a_keyframe_that_has_left_the_spool(config: Config, first: PlayableCamera) -> None:
    first.spool.seal(None)
    path = "/live/s/c/1-key.m4s"
    async with serving(config, clock=standing) as session:
        _, headers, here = await get(session, path)
    oldest = min((config.spool / "s/c").glob("*/*.mp4"))
    full = DiskSpace(free_bytes=150_000_000, total_bytes=10**10, files=True)
    async with uploading(config, disk_space=lambda _: full) as (_, catalogue, archive):
        await until(lambda: not oldest.exists())
        async with serving(config, catalogue, archive, clock=standing) as session:
            status, again, there = await get(session, path)
    assert (status, there, again["ETag"]) == (200, here, headers["ETag"])
