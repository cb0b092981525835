"""Cameras with odd dialogues, recorded through ffmpeg and as `auto` chooses: one of each kind,
sending real H.264."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import uvloop

from config.schedule import Window
from recorder.camera import CameraRecorder
from recorder.camera_spec import CameraSpec
from recorder.states import State
from recorder.worker import Worker
from storage.records import GapCause
from tests.support.programs import self_signed
from tests.support.rtsp_camera import (
    PCMU,
    Camera,
    Dialogue,
    Request,
    Script,
    challenge,
    film,
    h264,
    proves,
    sdp_of,
    serving,
    usual,
)
from tests.support.stack import gaps, recordings
from tests.support.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture"),
]


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    """As the recorder runs."""
    policy: asyncio.AbstractEventLoopPolicy = uvloop.EventLoopPolicy()
    return policy


AGENT = "VMS/3.1"
LOGIN = "viewer:s3cret"
BACK_CHANNEL = "m=audio 0 RTP/AVP 0\r\na=sendonly"
STRANGE = "m=audio 0 RTP/AVP 98\r\na=rtpmap:98 X-SECRET/8000"
LATM = "m=audio 0 RTP/AVP 98\r\na=rtpmap:98 MP4A-LATM/48000"
AAC = "m=audio 0 RTP/AVP 98\r\na=rtpmap:98 MPEG4-GENERIC/48000\r\na=fmtp:98 mode=AAC-hbr"


def wants(*lines: str, known: tuple[str, ...] = ("md5",), close: bool = False) -> Script:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "OPTIONS" or any(
            proves(request, "viewer", "s3cret", name) for name in known
        ):
            return False
        dialogue.answer(request, "401 Unauthorized", *lines)
        if close:
            await dialogue.writer.drain()
            dialogue.close()
        return True

    return script


def before(junk: bytes) -> Script:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        dialogue.send(junk)
        return False

    return script


async def bare_line_feeds(dialogue: Dialogue, request: Request) -> bool:
    dialogue.end = "\n"
    return False


async def moved(dialogue: Dialogue, request: Request) -> bool:
    if request.method == "DESCRIBE" and request.uri.endswith("/stream"):
        dialogue.answer(request, "302 Moved", f"Location: {dialogue.camera.url('moved')}")
        return True
    return False


async def knows_agents(dialogue: Dialogue, request: Request) -> bool:
    known = request.headers.get("user-agent") == AGENT
    if not known:
        dialogue.answer(request, "401 Unauthorized", challenge())
    return not known


async def refuses_sound(dialogue: Dialogue, request: Request) -> bool:
    refused = request.method == "SETUP" and request.uri.endswith("track1")
    if refused:
        dialogue.answer(request, "461 Unsupported Transport")
    return refused


async def sleeps(dialogue: Dialogue, request: Request) -> bool:
    if request.method == "DESCRIBE":
        await asyncio.sleep(11)
    return False


def one_at_a_time(lingers_s: float) -> Callable[[Camera], bool]:
    """Take a connection only `lingers_s` after the last one has gone."""

    def takes(camera: Camera) -> bool:
        now = asyncio.get_running_loop().time()
        return not camera.open and now - camera.left_at >= lingers_s

    return takes


def one_every(seconds: float) -> Callable[[Camera], bool]:
    def takes(camera: Camera) -> bool:
        now = asyncio.get_running_loop().time()
        return not camera.connections or now - camera.connections[-1] >= seconds

    return takes


@dataclass
class Kind:
    """A camera and what becomes of it; `sound` is whether there is sound in its recordings."""

    script: Script = usual
    login: str = ""
    media: tuple[str, ...] = ()  # besides the film
    sends_sound: bool = False
    takes: Callable[[Camera], bool] = lambda camera: True
    sound: bool = False
    track: int | None = None
    size: tuple[int, int] = (640, 360)
    first: tuple[str, ...] = field(default=())  # media before the film
    begins_s: float = 0.0  # after PLAY


KINDS = {
    "sha-256 and md5": Kind(
        wants(challenge("SHA-256"), challenge("MD5"), known=("md5", "sha256")), LOGIN
    ),
    "stale at first": Kind(wants(challenge(more=", stale=true")), LOGIN),
    "no commas": Kind(wants(challenge().replace(",", "")), LOGIN),
    "line feeds": Kind(bare_line_feeds),
    "moved": Kind(moved),
    "user agent": Kind(knows_agents),
    "back channel refused": Kind(refuses_sound, media=(BACK_CHANNEL,)),
    "back channel silent": Kind(media=(BACK_CHANNEL,)),
    "back channel and sound": Kind(media=(BACK_CHANNEL, PCMU), sends_sound=True, sound=True),
    "sound refused": Kind(refuses_sound, media=(PCMU,)),
    "unknown sound": Kind(media=(STRANGE,)),
    "LATM without config": Kind(media=(LATM,)),
    "AAC without config": Kind(media=(AAC,)),
    "small stream first": Kind(first=("small",)),
    "small stream chosen": Kind(first=("small",), track=1, size=(320, 180)),
    "wakes up": Kind(sleeps),
    "one at a time": Kind(takes=one_at_a_time(0)),
    "lingers 3 s": Kind(takes=one_at_a_time(3)),
    "one every 10 s": Kind(takes=one_every(10)),
    "picture 8 s after PLAY": Kind(begins_s=8),
}


# What only our own dialogue understands, which goes on over one connection: ffmpeg has one of its
# own. Where it alone may read such a camera, Kuager says so, and the cause does not come and go
# while it tries again.
BEYOND_FFMPEG = {
    "sha-256 alone": (
        Kind(wants(challenge("SHA-256"), known=("sha256",)), LOGIN),
        "Digest SHA-256",
    ),
    "md5, then sha-256": (
        Kind(wants(challenge("MD5"), challenge("SHA-256"), known=("md5", "sha256")), LOGIN),
        "Digest SHA-256",
    ),
    "closes after 401": (Kind(wants(challenge(), close=True), LOGIN), "was described, but ffmpeg"),
    "blank line before": (Kind(before(b"\r\n")), "was described, but ffmpeg"),
    "bytes before": (Kind(before(b"\0\0")), "was described, but ffmpeg"),
}
RECORDED = [
    *(("ffmpeg", name) for name in KINDS),
    *(("auto", name) for name in (*KINDS, *BEYOND_FFMPEG)),
]


@contextlib.asynccontextmanager
async def recorder(
    spool: Path, ffmpeg: str, camera: Camera, kind: Kind, source: str = "auto"
) -> AsyncIterator[CameraRecorder]:
    begin = int(time.time() * 1000)
    spec = CameraSpec(
        "e",
        "s",
        "c",
        camera.url(login=kind.login),
        source=source,
        windows=(Window(begin, begin + 86_400_000),),
        video_track=kind.track,
        user_agent=AGENT,
    )
    worker = Worker([spec], spool, ffmpeg)
    task = asyncio.create_task(worker.run())
    try:
        yield worker.cameras[0]
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def recorded(one: CameraRecorder) -> None:
    """Wait for a written segment; say what the recorder said where none comes."""
    try:
        await until(lambda: one.status.runs)
    except AssertionError:
        pytest.fail(f"never recorded: {one.status}")


def has_sound(spool: Path) -> bool:
    """Say whether the newest recording has sound."""
    header = recordings(spool, "c", "s")[-1].index.header
    return any(track.kind == "audio" for track in header.tracks)


@pytest.mark.parametrize(("source", "name"), RECORDED)
async def test_recorded(tmp_path: Path, ffmpeg: str, source: str, name: str) -> None:
    kind = KINDS[name] if name in KINDS else BEYOND_FFMPEG[name][0]
    films = {"": film(ffmpeg), "small": film(ffmpeg, 320, 180)}
    names = [*kind.first, ""]
    media = [h264(films[n]) for n in names] + list(kind.media)
    camera = Camera(
        sdp_of(*media),
        kind.script,
        [films[n] for n in names],
        kind.sends_sound,
        kind.takes,
        kind.begins_s,
    )
    async with serving(camera), recorder(tmp_path, ffmpeg, camera, kind, source) as one:
        await recorded(one)
        if kind.sound:  # it is part of a run from the first keyframe after it came
            await until(lambda: has_sound(tmp_path))
    header = recordings(tmp_path, "c", "s")[-1].index.header
    (video,) = [t for t in header.tracks if t.kind == "video"]
    assert (video.width, video.height) == kind.size
    assert has_sound(tmp_path) == kind.sound


REFUSED = {
    "wrong password": (
        Kind(wants(challenge()), "viewer:wrong"),
        GapCause.REFUSED_PASSWORD,
        "refuses user name or password",
    ),
    "unknown picture": (
        Kind(media=("m=video 0 RTP/AVP 99\r\na=rtpmap:99 H266/90000",), first=("none",)),
        GapCause.NO_SUCH_STREAM,
        "codec H266",
    ),
}
NOT_RECORDED = [(source, name) for source in ("ffmpeg", "auto") for name in REFUSED]
NOT_RECORDED += [("ffmpeg", name) for name in BEYOND_FFMPEG]
REFUSED |= {
    name: (kind, GapCause.STREAM_BROKEN, words) for name, (kind, words) in BEYOND_FFMPEG.items()
}


@pytest.mark.parametrize(("source", "name"), NOT_RECORDED)
async def test_not_recorded_is_one_state_with_one_true_cause(
    tmp_path: Path, ffmpeg: str, source: str, name: str
) -> None:
    kind, cause, words = REFUSED[name]
    films = [] if kind.first else [film(ffmpeg)]
    camera = Camera(sdp_of(*map(h264, films), *kind.media), kind.script, films)
    seen: set[tuple[State, GapCause | None]] = set()
    async with serving(camera), recorder(tmp_path, ffmpeg, camera, kind, source) as one:
        await until(lambda: one.status.retries)

        def tried() -> bool:
            seen.add((one.status.state, one.status.cause))
            return one.status.retries >= 3

        await until(tried, every=0.01)
    assert seen == {(State.BACKOFF, cause)}
    untried = (GapCause.RECORDER_STOPPED, GapCause.CONNECTING)
    found = [g for g in gaps(tmp_path, "c") if g.cause not in untried]
    assert {g.cause for g in found} == {cause} and words in found[0].detail
    assert not any(word in g.detail for g in found for word in ("s3cret", ":wrong"))


async def test_a_camera_is_told_when_it_is_back(tmp_path: Path, ffmpeg: str) -> None:
    right = asyncio.Event()
    asked = wants(challenge())

    async def script(dialogue: Dialogue, request: Request) -> bool:
        return not right.is_set() and await asked(dialogue, request)

    films = [film(ffmpeg)]
    camera, kind = Camera(sdp_of(h264(films[0])), script, films), Kind(login="viewer:wrong")
    async with serving(camera), recorder(tmp_path, ffmpeg, camera, kind) as one:
        await until(lambda: one.status.cause is GapCause.REFUSED_PASSWORD)
        since_ms = one.status.since_ms
        right.set()
        await recorded(one)
        assert one.status.cause is None and one.status.since_ms > since_ms
        assert one.status.state is State.RECORDING


@pytest.mark.parametrize("source", ["ffmpeg", "auto"])
async def test_a_certificate_of_the_camera_itself(
    tmp_path: Path, each_ffmpeg: str, source: str
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*await asyncio.to_thread(self_signed, tmp_path))
    films = [film(each_ffmpeg)]
    camera, kind = Camera(sdp_of(h264(films[0])), films=films, tls=context), Kind()
    spool = tmp_path / "spool"
    async with serving(camera), recorder(spool, each_ffmpeg, camera, kind, source) as one:
        await recorded(one)
