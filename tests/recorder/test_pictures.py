"""The picture process: real video in, JPEGs and slates out; nothing it meets harms another."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import ffmpeg
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from base.clock import now_ms
from config.limits import Reserve, SpoolLimits
from config.load import load
from config.model import Config, Station
from recorder.pictures.decode import decode
from recorder.pictures.keyframe import newest_keyframe, still
from recorder.pictures.process import CrashJournal, Pictures, _Camera
from storage.media.fmp4 import Sample, TrackRun, boxes, parse_moof, write_segment
from storage.media.jpeg import time_of
from storage.records import ClockState, GapCause, Track
from storage.spool.numbers import Numbers
from storage.spool.writer import CameraSpool, Run, SegmentInfo
from streaming.media import pictures
from tests.support.archiving import look, uploading
from tests.support.live_fixture import encoded, fragments
from tests.support.spools import fill
from tests.support.waiting import BOUND_S, until
from tests.support.web import ask, get, operating, say, serving

CAMERAS = ("wide", "h265", "cif", "kills")
SIZES = {
    "wide": ("1600x900", (1280, 720), (320, 180)),
    "h265": ("640x360", (640, 360), (320, 180)),
    "cif": ("704x576", (768, 576), (320, 240)),  # pixels of 12:11, as of many old cameras
    "kills": ("320x180", (320, 180), (320, 180)),
}
# a picture process whose decoder dies of one camera's pictures, or hangs in them
DEADLY = """
import os, signal, sys
import recorder.pictures.process as pictures
real, how = pictures.decode, sys.argv.pop(1)
def decode(still):
    if len(still) > 1_000_000:
        pictures.log.info("Decoding what kills")
        while how == "hangs":
            pass
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(still)
pictures.decode, pictures.DECODE_S = decode, 1
from kuager.cli import main
main()
"""


@cache
def film(name: str) -> tuple[bytes, tuple[bytes, ...]]:
    """Return an init and two segments of a second, each with a keyframe, B-frames between."""
    encoder: dict[str, object] = {"c:v": "libx264", "bf": 2}
    if name == "h265":
        encoder = {"c:v": "libx265", "tag:v": "hvc1", "x265-params": "log-level=none"}
    picture = (
        ffmpeg.input(f"color=c=0x2060a0:size={SIZES[name][0]}:rate=10:duration=2", f="lavfi")
        .filter("setsar", "12/11" if name == "cif" else "1")
        .filter("drawbox", w="iw/2", h="ih/2", color="white", t="fill")
        .filter("format", "yuv420p")
    )
    return fragments(encoded(picture, encoder | {"g": 10, "keyint_min": 10}))


class Recorded:
    """A camera whose segments a test writes."""

    def __init__(self, spool: Path, name: str):
        init, self._segments = film(name)
        track = Track(1, "video", "h265" if name == "h265" else "h264", 90_000)
        self._run = Run(int(time.time() * 1000) - 60_000, init, (track,), 1)
        self._spool, self._count = CameraSpool(spool, "e", "s", name, Numbers()), 0

    def append(self, data: bytes | None = None, key: bool = True) -> None:
        n, self._count = self._count, self._count + 1
        self._spool.append(
            self._run,
            data or self._segments[n % 2],
            SegmentInfo(
                tfdt_90k=n * 90_000,
                duration_90k=90_000,
                starts_with_key=key,
                arrival_ms=self._run.run_start_ms + n * 1000,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )

    def close(self) -> None:
        self._spool.seal(GapCause.RECORDER_STOPPED)
        self._spool.close()


@pytest.fixture
def config(tmp_path: Path) -> Config:
    names = [{"id": n, "title": f"<{n}> & co", "url": f"rtsp://h/{n}"} for n in CAMERAS]
    stations = [{"id": "s", "number": "7", "cameras": names}]
    (tmp_path / "stations.yaml").write_text(yaml.safe_dump({"stations": stations}))
    (tmp_path / "kuager.yaml").write_text(
        "election: {id: e, name: E, date: 2026-11-29, time_zone: UTC,"
        " windows: [{from: 2020-01-01T00:00, to: 2090-01-01T00:00}]}\n"
        "stations: stations.yaml\nspool: spool\narchives: [archive]\nrewind: 60s\npictures: 2s\n"
    )
    return load(tmp_path / "kuager.yaml", {})


@pytest.fixture
def recorded(config: Config) -> Iterator[dict[str, Recorded]]:
    fill(config.spool, "s", "other").close()  # which marks the spool
    cameras = {name: Recorded(config.spool, name) for name in CAMERAS}
    for camera in cameras.values():
        camera.append()
    yield cameras
    for camera in cameras.values():
        camera.close()


def test_what_fails_at_one_camera_leaves_the_others_their_pictures(tmp_path: Path) -> None:
    class Falls(Pictures):
        def _decode(self, still: bytes) -> tuple[bytes, bytes]:
            if b"falls" in still:
                raise RuntimeError("out of memory")
            return b"\xff\xd8" + still[-5:], b"\xff\xd8"

    for name in ("falls", "works"):
        sample = Sample(90_000, 5, True, 0)
        data = write_segment(1, [TrackRun(1, 0, [sample], [name.encode()])])
        run = Run(1_000, b"init", (Track(1, "video", "h264", 90_000),), 1)
        spool = CameraSpool(tmp_path, "e", "s", name, Numbers())
        spool.append(
            run,
            data,
            SegmentInfo(
                tfdt_90k=0,
                duration_90k=90_000,
                starts_with_key=True,
                arrival_ms=1_000,
                camera_ms=None,
            ),
            ClockState(True, 1),
        )
        spool.seal(GapCause.NO_DATA)
        spool.close()
    made = Falls(["s/falls", "s/works"], tmp_path, 2)
    journal = CrashJournal(tmp_path / "journal")
    made._cameras = {name: _Camera() for name in ("s/falls", "s/works")}
    with capture_logs() as said:
        for name in made._cameras:
            made._make(journal, name)
    journal.close()
    thumb = (tmp_path / "s/works/thumb.jpg").read_bytes()
    assert thumb.endswith(b"works") and time_of(thumb) == 1_000
    assert not (tmp_path / "s/falls/thumb.jpg").exists()
    assert [line["why"] for line in said if line["event"].startswith("No picture")] == [
        "a fault of the picture process: RuntimeError('out of memory')"
    ]


@contextlib.asynccontextmanager
async def making(config: Config, how: str = "") -> AsyncIterator[Any]:
    """Run the picture process as operators would; yields a function that reads its log."""
    program = ["-c", DEADLY, how] if how else ["-m", "kuager"]
    log = config.path.parent / "pictures.log"
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, "run", "--role", "pictures", "--config", str(config.path)),
            stderr=out,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        process.code = await asyncio.wait_for(process.wait(), BOUND_S)  # type: ignore[attr-defined]


def lines(config: Config) -> list[dict[str, Any]]:
    text = (config.path.parent / "pictures.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def names_of(config: Config, *names: str) -> list[str]:
    return [f"s/{n}" for n in names]


def size_of(data: bytes) -> tuple[int, int]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    height, width = image.shape[:2]
    corner, middle = image[height // 4, width // 4], image[height * 3 // 4, width * 3 // 4]
    assert min(corner) > 230, "the white box"
    assert np.abs(middle.astype(int) - (0xA0, 0x60, 0x20)).max() < 30, "its ground"
    return width, height


@pytest.mark.slow
async def test_pictures_of_what_is_recorded_and_slates_of_what_is_not(
    config: Config, recorded: dict[str, Recorded]
) -> None:
    said = names_of(config, "wide", "h265", "cif")
    files = [config.spool / name / "thumb.jpg" for name in said]
    async with making(config) as process:
        with _keep_saying(config, *said):
            await until(lambda: all(f.exists() for f in files))
            before = [f.stat().st_mtime_ns for f in files]
            recorded["wide"].append()
            await until(lambda: files[0].stat().st_mtime_ns != before[0])
            # the others had no new segment: nothing was done
            assert [f.stat().st_mtime_ns for f in files[1:]] == before[1:]
            assert not (config.spool / "s/kills/thumb.jpg").exists()
            async with serving(config) as session:
                for name in CAMERAS[:3]:
                    await _served(session, f"/live/s/{name}/picture.jpg", SIZES[name][1])
                    await _served(session, f"/live/s/{name}/thumb.jpg", SIZES[name][2])
                wall = (await ask(session, "/api/v1/wall"))["wall"]
                assert len(wall) == 1 and wall[0]["picture"].startswith("/live/s/")
            async with operating(config) as session:
                text = (await get(session, "/metrics"))[2].decode()
                assert '\nkuager_process_up{process="pictures-0"} 1.0\n' in text
                assert "\nkuager_pictures_left_out 0.0\n" in text
                assert float(text.split("\nkuager_pictures_made_total ")[1].split()[0]) >= 3
        assert process.returncode is None
    assert process.code == 0
    async with serving(config) as session:
        for lang, words in (
            ("kk", "Камера бейне бермей тұр"),
            ("ru", "Камера не даёт изображения"),
            ("en", "The camera gives no picture"),
        ):
            status, headers, body = await get(session, f"/live/s/kills/thumb.jpg?lang={lang}")
            assert status == 404 and headers["Content-Type"].startswith("image/svg+xml")
            assert headers["Cache-Control"] == "no-store"
            root = ET.fromstring(body)
            told = " ".join(t.text or "" for t in root.iter("{http://www.w3.org/2000/svg}text"))
            assert words in told and "7 · <kills> & co" in told
        assert (await get(session, "/live/s/nobody/thumb.jpg"))[0] == 404
        old = time.time() - 100
        os.utime(files[0], (old, old))

        async def is_told() -> bool:
            say(config, *said, clock=now_ms)  # again: what was said is old after some seconds
            status, _, body = await get(session, "/live/s/wide/thumb.jpg")
            assert status == 404
            return b"no still picture yet" in body

        await until(is_told)  # when the status files are looked at again


@pytest.mark.slow
async def test_the_first_picture_of_a_camera_does_not_wait_for_its_turn(
    config: Config, recorded: dict[str, Recorded]
) -> None:
    config.path.write_text(config.path.read_text().replace("pictures: 2s", "pictures: 10m"))
    said = ["s/wide", "s/cif"]

    def have(*names: str) -> bool:
        say(config, *said, clock=now_ms)
        return all((config.spool / name / "thumb.jpg").exists() for name in names)

    async with making(config):
        await until(lambda: have("s/wide", "s/cif"), why="the second of two waits for 5 minutes")
        said.append("s/h265")  # its recording begins
        await until(lambda: have("s/h265"), why="it waits for the next round")


async def _served(session: aiohttp.ClientSession, url: str, size: tuple[int, int]) -> None:
    status, headers, body = await get(session, url)
    assert status == 200 and headers["Content-Type"] == "image/jpeg"
    assert size_of(body) == size and headers["Cache-Control"] == "public, max-age=5"
    assert headers["Access-Control-Allow-Origin"] == "*" and "Vary" not in headers
    have = {"If-None-Match": headers["ETag"]}
    assert (await get(session, url, headers=have))[0] == 304
    since = {"If-Modified-Since": headers["Last-Modified"]}
    assert (await get(session, url, headers=since))[0] == 304


@contextlib.contextmanager
def _keep_saying(config: Config, *live: str) -> Iterator[None]:
    """Say again and again that cameras are recorded, as a recorder does."""

    async def speak() -> None:
        while True:
            say(config, *live, clock=now_ms)
            await asyncio.sleep(1)

    say(config, *live, clock=now_ms)
    task = asyncio.get_running_loop().create_task(speak())
    try:
        yield
    finally:
        task.cancel()


@pytest.mark.parametrize(("how", "code"), [("dies", -signal.SIGSEGV), ("hangs", -signal.SIGPROF)])
@pytest.mark.slow
async def test_a_picture_that_kills_costs_only_its_camera(
    config: Config, recorded: dict[str, Recorded], how: str, code: int
) -> None:
    _, segments = film("kills")
    recorded["kills"].append(_grown(segments[0]))
    others = [config.spool / "s" / n / "thumb.jpg" for n in CAMERAS[:3]]
    notes = config.spool / "_status/pictures.notes"
    for _ in range(6):  # it is left out for longer than the second process takes, however busy
        before = CrashJournal(notes)
        before.decoding("s/kills")
        before.close()
        after = CrashJournal(notes)
        after.quarantine(0.0)
        after.close()
    with _keep_saying(config, *names_of(config, *CAMERAS)):
        async with making(config, how) as process:
            await asyncio.wait_for(process.wait(), BOUND_S)
        assert process.code == code
        assert json.loads(notes.read_bytes())["decoding"] == "s/kills"
        async with making(config, how):
            await until(lambda: all(f.exists() for f in others))
            first = others[0].stat().st_mtime_ns
            recorded["wide"].append()
            recorded["kills"].append(_grown(segments[1]))
            await until(lambda: others[0].stat().st_mtime_ns != first)
            status = json.loads((config.spool / "_status/pictures.json").read_bytes())
            assert status["left_out"] == ["s/kills"]
        assert json.loads(notes.read_bytes())["decoding"] is None
    assert not (config.spool / "s/kills/thumb.jpg").exists()
    told = [line for line in lines(config) if line["event"].startswith("A picture ended the")]
    assert len(told) == 1 and told[0]["camera"] == "s/kills"


def test_deaths_in_a_row_are_paused_for_longer_each_time(tmp_path: Path) -> None:
    def die(camera: str, now_s: float = 1_000.0) -> tuple[str, float] | None:
        """Begin to decode, and be killed; what does the next process say?"""
        CrashJournal(tmp_path / "notes").decoding(camera)
        return CrashJournal(tmp_path / "notes").quarantine(now_s)

    assert CrashJournal(tmp_path / "notes").quarantine(0) is None
    paused = [die("s/c") for _ in range(8)]
    assert paused == [("s/c", s) for s in (10, 20, 40, 80, 160, 320, 600, 600)]
    assert die("s/d") == ("s/d", 10)
    notes = CrashJournal(tmp_path / "notes")
    assert notes.quarantined == {"s/c": 1_600.0, "s/d": 1_010.0} and notes.quarantine(0) is None
    notes.decoding("s/c")
    notes.decoded("s/c")
    notes.decoding(None)
    assert CrashJournal(tmp_path / "notes").quarantine(0) is None
    assert [die("s/c"), die("s/d")] == [("s/c", 10), ("s/d", 20)]


@pytest.mark.parametrize(
    "said", ["[]", '{"deaths":[],"left_out":1}', '{"deaths":{"s/c":"x"}}', "{"]
)
def test_notes_that_are_none(tmp_path: Path, said: str) -> None:
    (tmp_path / "notes").write_text(said)
    notes = CrashJournal(tmp_path / "notes")
    assert notes.quarantined == {} and notes.quarantine(0) is None


def _grown(segment: bytes) -> bytes:
    """Return a segment whose keyframe is a megabyte longer, to be known by."""
    moof = next(boxes(segment, 0, len(segment)))
    track = parse_moof(segment, moof)[0]
    key = track.samples[0]
    at = track.data_offset
    data = segment[at : at + key.size] + bytes(1_000_000)
    return write_segment(1, [TrackRun(1, 0, [key._replace(size=len(data))], [data])])


@pytest.mark.slow
async def test_a_full_or_refusing_disk_takes_no_pictures(
    config: Config, recorded: dict[str, Recorded]
) -> None:
    name = "s/wide"
    thumb = config.spool / name / "thumb.jpg"
    (config.spool / "s/h265/picture.jpg.new").mkdir()  # writing there fails
    spool = {"bytes_per_s": 1, "waiting_bytes": 0, "slow_s": 3.5, "cause": None}
    path = config.spool / "_status/recorder-0.json"

    def tell(**disk: Any) -> None:
        states = {n: {"state": "recording"} for n in (name, "s/h265")}
        record = {"written_ms": int(time.time() * 1000), "cameras": states, "spool": spool | disk}
        path.with_suffix(".new").write_text(json.dumps(record))
        path.with_suffix(".new").rename(path)

    def told(event: str, **disk: Any) -> bool:
        tell(**disk)
        return any(line["event"] == event for line in lines(config))

    async with making(config):
        await until(lambda: told("No pictures are written to the spool"))
        assert not thumb.exists()
        again = "Pictures are written to the spool again"
        await until(lambda: told(again, slow_s=0) and thumb.exists())
        failed = "No picture can be made of a camera"
        await until(lambda: told(failed, slow_s=0))
    assert not list((config.spool / "s/h265").glob("*.jpg"))


async def test_what_is_free_of_a_disk_is_for_recordings(config: Config) -> None:
    fill(config.spool).close()
    for reserve, well in ((Reserve(1, None), True), (Reserve(None, 50), False)):
        made = Pictures(["s/c"], config.spool, 2, SpoolLimits(reserve=reserve))
        with capture_logs() as said:
            assert made._disk_is_ok() is made._disk_is_ok() is well
        assert [line["why"] for line in said] == ([] if well else ["its disk is nearly full"])
    (config.spool / "spool.json").unlink()
    assert not Pictures(["s/c"], config.spool, 2)._disk_is_ok()


async def test_fsck_and_uploader_do_not_mind_pictures(config: Config) -> None:
    now = int(time.time() * 1000)
    fill(config.spool, "s", "wide", start_ms=now - 7_200_000).close()
    for name in ("thumb.jpg", "picture.jpg", "thumb.jpg.new"):
        (config.spool / "s/wide" / name).write_bytes(b"jpeg")
    count = len(list(config.spool.glob("s/wide/*/*.mp4")))  # three or four, by the time of day
    async with uploading(config) as (uploader, catalogue, archive):
        await until(lambda: uploader.status.removed_total == count - 1)
        assert await look(config, catalogue, [archive]) == []
    assert {p.name for p in (config.path.parent / "archive").rglob("*.jpg*")} == set()
    assert (config.spool / "s/wide/thumb.jpg").exists()


@pytest.mark.slow
def test_only_a_segment_that_starts_with_a_keyframe_counts(
    config: Config, recorded: dict[str, Recorded]
) -> None:
    directory = config.spool / "s/wide"
    first = newest_keyframe(directory)
    assert first is not None
    recorded["wide"].append(key=False)
    assert newest_keyframe(directory) == first
    recorded["wide"].append()
    found = newest_keyframe(directory)
    assert found and found.segment.segment_no == first.segment.segment_no + 2
    assert len(still(found)) < found.header.init_length + found.segment.length
    assert newest_keyframe(config.spool / "s/nobody") is None


@pytest.mark.slow
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_spoilt_recording_is_an_error_and_no_more(data: st.DataObject) -> None:
    """Whatever the bytes are, the picture is a picture or there is a word why not."""
    with tempfile.TemporaryDirectory() as folder:
        camera = Recorded(Path(folder), "kills")
        camera.append()
        found = newest_keyframe(Path(folder) / "s/kills")
        assert found is not None
        media = bytearray(found.media.read_bytes())
        for _ in range(data.draw(st.integers(1, 8))):
            at = data.draw(st.integers(0, len(media) - 1))
            media[at] = data.draw(st.integers(0, 255))
        found.media.write_bytes(media[: data.draw(st.integers(0, len(media)))])
        with contextlib.suppress(ValueError):
            thumb, _ = decode(still(found))
            assert thumb.startswith(b"\xff\xd8")
        camera.close()


def test_a_slate_has_room_for_long_words() -> None:
    long = "word " * 100
    camera = {"id": "c", "title": long, "url": "rtsp://h/c"}
    station = Station.model_validate({"id": "s", "time_zone": "UTC", "cameras": [camera]})
    body = pictures._slate("en", station, station.cameras[0], long).body
    assert isinstance(body, bytes)
    root = ET.fromstring(body)
    rows = [int(t.get("y") or 0) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert len(rows) <= 7 and min(rows) > 0 and max(rows) < 360
