"""The simulated cameras as real clients see them: ffmpeg over TCP and UDP, and the bare wire."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import cv2
import ffmpeg as ffmpeg_python
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuager.simulator.camera import SimCamera
from kuager.simulator.encoder import Encoder, Encoding, _Packets
from kuager.simulator.picture import Room
from kuager.simulator.rtsp import Connection
from kuager.simulator.scene import ANGLES
from kuager.simulator.server import Simulator
from tests.support.strip import _pgms, av_offsets, pictures, read_strip
from tests.support.waiting import BOUND_S, until
from tests.support.wire import Wire, play

SMALL: dict[str, Any] = {"width": 320, "height": 180, "bitrate": 300_000}
TIMES = st.integers(1_600_000_000_000, 2_000_000_000_000)
ROOMS = {
    (angle, size): Room(angle, "117 Ballot box", *size)
    for angle in ANGLES
    for size in ((854, 480), (320, 180), (1920, 1080))
}


def grey(room: Room, utc_ms: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    planes = room.draw(utc_ms)
    return planes[: planes.shape[0] * 2 // 3]


@given(TIMES, st.sampled_from(sorted(ROOMS)))
def test_strip_says_the_time(utc_ms: int, which: tuple[str, tuple[int, int]]) -> None:
    assert read_strip(grey(ROOMS[which], utc_ms)) == utc_ms


@given(TIMES, st.sampled_from([(640, 360), (427, 240), (1280, 720), (300, 170)]))
def test_strip_is_read_on_a_scaled_screen(utc_ms: int, size: tuple[int, int]) -> None:
    image = cv2.resize(grey(ROOMS["entrance", (854, 480)], utc_ms), size)
    noise = np.random.default_rng(utc_ms).normal(0, 12, image.shape)
    assert read_strip(np.clip(image + noise, 0, 255).astype(np.uint8)) == utc_ms


@given(TIMES, st.integers(2, 57))
def test_a_damaged_strip_is_not_read(utc_ms: int, block: int) -> None:
    image = grey(ROOMS["entrance", (854, 480)], utc_ms).copy()
    edges = np.linspace(0, 854, 61).round().astype(int)
    image[:16, edges[block] : edges[block + 1]] ^= 0xFF
    assert read_strip(image) is None


def test_people_move_and_the_time_is_legible_in_every_angle() -> None:
    for angle in ANGLES:
        before, after = (
            grey(ROOMS[angle, (854, 480)], t).astype(int) for t in (10**12, 10**12 + 900)
        )
        moved = np.abs(before - after) > 20
        assert moved[40:440].sum() > 1000, angle
        assert moved[450:].sum() > 20, angle  # milliseconds of the text
        assert (before[450:] > 200).sum() > 500 and np.median(before[450:]) < 60  # white on dark


def test_media_time_of_an_encoder_runs_on_when_32_bits_begin_anew() -> None:
    seen: list[int] = []
    packets = _Packets(lambda data, media: seen.append(media))
    for n in range(30):
        stamp = (2**32 - 45_000 + n * 6000) % 2**32
        packets.datagram_received(bytes(4) + stamp.to_bytes(4, "big"), ("", 0))
    assert seen == [n * 6000 for n in range(30)]


CAMERAS = {
    "h264-tcp": SimCamera("h264-tcp"),
    "h264-udp": SimCamera("h264-udp", **SMALL, fps=25, angle="entrance"),
    "h265-tcp": SimCamera("h265-tcp", codec="h265", **SMALL),
    "b-udp": SimCamera("b-udp", bframes=2, audio="pcmu", **SMALL),
    "aac-tcp": SimCamera("aac-tcp", audio="aac", angle="counting-table", **SMALL),
    "pcma-tcp": SimCamera("pcma-tcp", audio="pcma", user="a b", password="p@:/?'ü", **SMALL),
}


@pytest.mark.slow
async def test_streams(tmp_path: Path, each_ffmpeg: str, ffmpeg: str) -> None:
    """Each codec, over TCP and UDP: decodes, and each picture is where its time says."""
    async with Simulator(list(CAMERAS.values()), ffmpeg=each_ffmpeg) as simulator:
        begun_ms = time.time() * 1000
        copies = []
        for name in CAMERAS:
            pictures_3_s = int(3 * CAMERAS[name].fps)  # on a busy machine that takes longer
            options = {"frames:v": pictures_3_s, "c:v": "copy", "c:a": "aac", "ar": 48_000}
            options |= {"movflags": "empty_moov+default_base_moof+frag_keyframe"}
            command = (
                ffmpeg_python.input(simulator.url(name), rtsp_transport=name.split("-")[1])
                .output(str(tmp_path / f"{name}.mp4"), **options)
                .compile(cmd=[each_ffmpeg, "-v", "fatal", "-y"])
            )
            copies.append(await asyncio.create_subprocess_exec(*command, stdin=subprocess.DEVNULL))
        assert [await c.wait() for c in copies] == [0] * len(copies)
        ended_ms = time.time() * 1000
    for name, what in CAMERAS.items():
        found = pictures(tmp_path / f"{name}.mp4", ffmpeg, expect_errors=True)
        assert len(found) == int(3 * what.fps), name
        assert all(p.burned_ms is not None for p in found), name
        burned = [p.burned_ms or 0 for p in found]
        assert begun_ms - 3000 * what.gop_s < burned[0] and burned[-1] < ended_ms
        offsets = [p.media_s * 1000 - b for p, b in zip(found, burned, strict=True)]
        offsets = offsets[1:]  # the time of a session's first picture is ffmpeg's guess
        assert max(offsets) - min(offsets) < 5, (name, offsets)
        if what.audio:
            in_step = av_offsets(tmp_path / f"{name}.mp4", ffmpeg).values()
            # with B-frames ffmpeg may write an edit list of two frames, which is not read here
            most = 0.15 if what.bframes else 0.08
            assert in_step and all(abs(o) < most for o in in_step), (name, in_step)


@pytest.mark.slow
async def test_an_encoder_whose_start_is_cancelled_leaves_nothing_open(ffmpeg: str) -> None:
    """As where a camera ends while a fault changes its encoder; what is left open fails a test."""
    encoding = Encoding((320, 180), 15, 30, "h264", 100_000, 0, None)
    for turns in range(60):  # of the loop, until it is cancelled
        room = ROOMS["entrance", (320, 180)]
        encoder = Encoder(ffmpeg, room, encoding, lambda *_: None, lambda *_: None)
        starting = asyncio.create_task(encoder.start())
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait({starting})
        await encoder.stop()


def elementary(wire: Wire) -> tuple[bytes, list[int]]:
    """Return the H.264 of a session from its first keyframe on, and the stamp of each picture."""
    out, stamps, begun = b"", [], False
    for stamp, packets in wire.pictures():
        nals = [n for p in packets for n in p.nals()]
        begun = begun or any(kind == 7 for kind, _, _ in nals)
        if begun:
            out += b"".join((b"\0\0\0\1" if first else b"") + data for _, data, first in nals)
            stamps.append(stamp)
    return out, stamps


@pytest.mark.slow
async def test_sender_reports_tell_when_a_picture_was_taken(ffmpeg: str) -> None:
    def newest_s(channel: int, clock: int) -> float:
        report, newest = wire.reports(channel + 1)[-1], wire.media(channel)[-1]
        ticks = (newest.stamp - report.stamp + 2**31) % 2**32 - 2**31
        return report.camera_s + ticks / clock

    def in_step() -> bool:
        return abs(newest_s(0, 90_000) - newest_s(2, 48_000)) < 0.3

    async with Simulator([SimCamera("a", audio="aac", gop_s=0.5, **SMALL)]) as simulator:
        wire = await play(simulator.url("a"))
        # the sound's clock is the same: its newest packet is from when the newest picture is, but
        # where a busy machine holds up the encoder of one of them
        await until(lambda: len(wire.pictures()) > 45 and in_step())
        await wire.close()
    report = wire.reports(1)[-1]
    data, stamps = elementary(wire)
    grey = {"f": "image2pipe", "c:v": "pgm", "pix_fmt": "gray", "fps_mode": "passthrough"}
    shown = ffmpeg_python.input("pipe:0", f="h264").output("pipe:1", **grey)
    command = shown.compile(cmd=[ffmpeg, "-v", "error"])
    child = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    burned = [read_strip(g) for g in _pgms((await child.communicate(data))[0])]
    assert len(burned) > 30 and len(stamps) - len(burned) in (0, 1)
    for stamp, shown in zip(stamps, burned, strict=False):
        ticks = (stamp - report.stamp + 2**31) % 2**32 - 2**31
        assert shown is not None
        assert abs(report.camera_s * 1000 + ticks / 90 - shown) < 2


@pytest.mark.slow
async def test_password(ffmpeg: str) -> None:
    async with Simulator([SimCamera("a", user="u", password="right", **SMALL)]) as simulator:
        for password, well in (("right", True), ("wrong", False)):
            url = simulator.url("a").replace("right", password)
            one = ffmpeg_python.input(url).output("-", frames=1, f="null")
            command = one.compile(cmd=[ffmpeg, "-v", "error"])
            child = await asyncio.create_subprocess_exec(
                *command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            _, said = await child.communicate()
            assert (child.returncode == 0) is well
            assert (b"401" in said) is not well


@pytest.mark.slow
async def test_lazy_camera_sleeps_until_somebody_watches() -> None:
    async with Simulator([SimCamera("a", lazy=True, **SMALL)]) as simulator:
        camera = simulator.cameras["a"]
        assert camera._encoder is None
        for _ in range(2):
            wire = await play(simulator.url("a"))
            await until(lambda wire=wire: len(wire.media()) > 3)  # type: ignore[misc]
            await wire.close()
            await until(lambda: camera._encoder is None)


@pytest.mark.slow
async def test_film_feeds_many_and_runs_on_at_its_seam() -> None:
    film = SimCamera("a", film_s=1, gop_s=0.5, **SMALL)
    async with Simulator(
        [SimCamera("b", shared="a"), film, SimCamera("c", shared="a")]
    ) as simulator:
        wires = [await play(simulator.url(name)) for name in "abca"]
        for fault in ("jump", "resize", "ppm"):
            with pytest.raises(ValueError, match="another camera"):
                simulator.fault("b", fault)
        with pytest.raises(ValueError, match="film"):
            simulator.fault("a", "no-keyframe")
        simulator.fault("b", "silent")
        next_number = simulator.cameras["a"].tracks[0]._sequence
        heard = [wires[n] for n in (0, 2, 3)]
        await until(lambda: all(len(wire.pictures()) > 45 for wire in heard))
        for wire in wires:
            await wire.close()
    # of what it was sent before, whenever it was read
    assert all((p.sequence - next_number) % 2**16 >= 2**15 for p in wires[1].media())
    for wire in heard:
        numbers = [p.sequence for p in wire.media()]
        assert numbers == [(numbers[0] + n) % 2**16 for n in range(len(numbers))]
        stamps = [stamp for stamp, _ in wire.pictures()]
        assert len(stamps) > 35
        steps = [(b - a) % 2**32 for a, b in itertools.pairwise(stamps)]
        assert all(abs(step - 6000) <= 1 for step in steps)


def test_cameras_that_cannot_be() -> None:
    wrongs: tuple[dict[str, Any], ...] = (
        {"angle": "booth"},
        {"codec": "vp8"},
        {"audio": "mp3"},
        {"width": 321},
        {"film_s": 2, "audio": "aac"},
    )
    for wrong in wrongs:
        with pytest.raises(ValueError, match="a: "):
            SimCamera("a", **wrong)
    for cameras in ([SimCamera("a"), SimCamera("a")], [SimCamera("a", shared="b")]):
        with pytest.raises(ValueError):
            Simulator(cameras)


async def test_control_port() -> None:
    async with (
        Simulator([SimCamera("a", **SMALL)], control_port=0) as simulator,
        aiohttp.ClientSession(f"http://127.0.0.1:{simulator.control_port}") as session,
    ):

        async def tell(camera: str, body: object) -> tuple[int, str]:
            async with session.post(f"/cameras/{camera}/fault", json=body) as answer:
                return answer.status, await answer.text()

        assert await tell("a", {"fault": "lose", "value": 7}) == (200, "a: faults now: lose 7")
        assert await tell("a", {"fault": "silent"}) == (200, "a: faults now: lose 7, silent 0")
        assert simulator.cameras["a"].faults == {"lose": 7.0, "silent": 0.0}
        assert await tell("a", {"fault": "clear"}) == (200, "a: faults now: none")
        assert simulator.cameras["a"].faults == {}
        assert (await tell("b", {"fault": "lose"}))[0] == 404
        wrongs: tuple[object, ...] = (
            {"fault": "x"},
            {"fault": "lose", "value": "x"},
            {},
            [],
            {"fault": "lose", "value": -1},
        )
        for wrong in wrongs:
            status, text = await tell("a", wrong)
            assert status == 400 and text
        assert simulator.cameras["a"].faults == {}


@pytest.mark.slow
async def test_nonsense_on_the_port_harms_nobody() -> None:
    async with Simulator([SimCamera("a", **SMALL)]) as simulator:
        for nonsense in (
            b"\r\n\r\n",
            b"GET / HTTP/1.0\r\nContent-Length: x\r\n\r\n",
            b"PLAY\r\n\r\n",
            b"$",
            b"x" * 200_000,
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
            writer.write(nonsense)
            writer.write_eof()
            with contextlib.suppress(ConnectionResetError):
                async with asyncio.timeout(BOUND_S):
                    assert not (await reader.read()).startswith(b"RTSP/1.0 2")
            writer.close()
        wire = await play(simulator.url("a"))
        await until(wire.media)
        await wire.close()


@pytest.mark.parametrize("how", ["its standard input ends", "SIGTERM"])
@pytest.mark.slow
async def test_as_a_process(tmp_path: Path, how: str) -> None:
    config = tmp_path / "cameras.json"
    config.write_text(json.dumps({"cameras": [{"name": "a", **SMALL}]}))
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuager.simulator", "--config", str(config)),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None and child.stdin is not None
    async with asyncio.timeout(BOUND_S):
        assert (await child.stdout.readline()).startswith(b"ready")
        if how == "SIGTERM":
            child.send_signal(signal.SIGTERM)
        else:
            child.stdin.close()
        assert await child.wait() == 0


@pytest.mark.slow
async def test_a_wrong_list_of_cameras_is_told(tmp_path: Path) -> None:
    config = tmp_path / "cameras.json"
    for text in ('{"cameras": [{"name": "a", "codec": "vp8"}]}', "[", '{"cameras": [{"nam": 1}]}'):
        config.write_text(text)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "kuager.simulator", "--config", str(config)),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, said = await child.communicate()
        assert child.returncode == 2
        assert b"Traceback" not in said and b"cameras.json" in said


async def test_a_pair_of_ports_of_which_one_is_taken_leaves_nothing_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What stays open is said when it is collected, and fails the test."""
    tries = iter([5424, *range(3000, 3100)])
    monkeypatch.setattr(secrets, "randbelow", lambda most: next(tries))
    async with Simulator([SimCamera("a", **SMALL)]) as simulator:
        reader, writer = await asyncio.open_connection("127.0.0.1", simulator.port)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            with contextlib.suppress(OSError):  # somebody else has it, then
                taken.bind(("127.0.0.1", 49152 + 2 * 5424))
            session = Connection(simulator.cameras, reader, writer)
            assert await session._pair(50_000) >= 49152 + 2 * 3000
            session.close()
    gc.collect()
