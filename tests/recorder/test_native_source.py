"""The native source over loopback: dialogues as cameras hold them, and how sessions end."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recorder.native import NativeSource, why_not
from recorder.rtsp.aac import AacFrames
from recorder.rtsp.address import Address
from recorder.rtsp.client import RtspSession, _channels
from recorder.rtsp.connection import Resolver
from recorder.rtsp.describe import Offer, connect
from recorder.rtsp.description import choose_tracks
from recorder.rtsp.g711 import can_encode
from recorder.rtsp.nal_units import H264Pictures
from recorder.rtsp.packets import is_plausible_rtcp
from recorder.rtsp.rtp import OTHERS, RtpReceiver
from recorder.rtsp.sdp import parse_sdp
from recorder.rtsp.stream import Channel, MessageStream
from recorder.source import Frame
from tests.support.packets import EPOCH_MS, SPS, rtp, sample
from tests.support.playing import (
    AAC,
    KEY,
    OTHER,
    PICTURES,
    SDP,
    SOUND,
    answers,
    film,
    plays,
    wrapped,
)
from tests.support.programs import self_signed
from tests.support.rtsp_camera import (
    G722,
    H264,
    PCMU,
    Camera,
    Dialogue,
    Request,
    Script,
    challenge,
    proves,
    sdp_of,
    serving,
    usual,
)
from tests.support.sources import Nobody, Taken, all_came, taken_from
from tests.support.waiting import until


@pytest.mark.parametrize(("law", "heard"), [("PCMA", 30), ("PCMU", 0)])
async def test_sound_under_the_payload_type_of_its_codec(law: str, heard: int) -> None:
    """Whatever number a description gives it; under that of another codec it is another."""
    if not can_encode():
        pytest.skip("kuager[g711] is not installed")
    media = f"m=audio 0 RTP/AVP 97\r\na=rtpmap:97 {law}/8000"
    sent = [wrapped(2, rtp(n, b"", kind=8)) for n in range(OTHERS + 30)]
    camera = Camera(script=plays(b"".join(sent)), sdp=sdp_of(H264, media))
    async with serving(camera):
        connection, offer = await connect(camera.url(), Resolver())
        source = NativeSource(connection, offer)
        running = asyncio.ensure_future(source.run(Taken()))
        await until(lambda: [c.came for c in source.packets[1:]] == [len(sent)], every=0.005)
        running.cancel()
        await asyncio.wait({running})
    assert source.packets[1].received == heard


async def test_pictures_and_sound_over_the_connection_of_the_description() -> None:
    camera = Camera(script=plays(film()))
    taken, _, source = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert [t.kind for t in taken.tracks[0]] == ["video"] and taken.tracks[0][0].width > 0
    assert [f.pts for f in taken.frames if f.track_id == 1] == [0, 3600, 7200, 10800]
    assert [f.camera_ms for f in taken.frames if f.track_id == 1][1:] == [
        pytest.approx(EPOCH_MS + n * 40, abs=1) for n in (1, 2, 3)
    ]
    assert camera.methods() == ["DESCRIBE", "SETUP", "SETUP", "PLAY", "TEARDOWN"]
    assert len(camera.connections) == 1 and source.packets[0].lost == 0
    assert camera.requests[-1].headers["session"] == "12345678"


async def test_sound_is_announced_with_a_keyframe_once_it_came() -> None:
    again = b"".join(film()[at:] for at in (0,))
    later = wrapped(0, rtp(500, SPS, stamp=20_000)) + wrapped(
        0, rtp(501, KEY, stamp=20_000, kind=224)
    )
    camera = Camera(script=plays(again + later))
    taken, _, _ = await taken_from(camera, lambda taken: len(taken.tracks) == 2)
    assert [t.kind for t in taken.tracks[1]] == ["video", "audio"]
    assert taken.tracks[1][1].timescale == 48_000


@pytest.mark.parametrize(
    ("script", "data"),
    [
        (answers("SETUP", "Session: 1"), film()),  # the channels are those asked for
        (answers("SETUP", "Session:  1 ; timeout = 5 ", "Transport: RTP/AVP/TCP;ssrc= 1F"), film()),
        (answers("SETUP", "Session: 1", "Transport: a;interleaved=N7-N8"), film(channels=(7, 17))),
        (answers("SETUP", "Session: 1", 'Transport: interleaved="N0"'), film(channels=(0, 10))),
        (answers("SETUP", "Session: 1", "Transport: a;interleaved=N7-N8"), film()),
        (usual, film(channels=(1, 3))),  # RTP where RTCP belongs
        (usual, film(between=b"\r\n")),
        (usual, film(between=b"$\0\xff")),
        (usual, film(between=b"RTSP/1.0 200 OK\r\nCSeq: 77\r\n\r\n")),
        (usual, film(between=b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")),
        (usual, film(between=wrapped(9, bytes(40)) + wrapped(1, b"abc"))),
    ],
)
async def test_habits(script: Script, data: bytes) -> None:
    taken, _, source = await taken_from(Camera(script=plays(data, script)), all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert [c.lost for c in source.packets] == [0, 0]


async def test_packets_before_the_answer_to_play() -> None:
    taken, _, _ = await taken_from(Camera(script=plays(film(), early=True)), all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND


async def test_a_challenge_for_every_request() -> None:
    """Each nonce is good once, and nobody says that the one before is stale."""
    count = [0]

    async def script(dialogue: Dialogue, request: Request) -> bool:
        if proves(request, "viewer", "s3cret", "md5", nonce=str(count[0])):
            count[0] += 1
            return False
        dialogue.answer(request, "401 Unauthorized", challenge(nonce=str(count[0])))
        return True

    camera = Camera(script=plays(film(), script))
    taken, _, _ = await taken_from(camera, all_came, login="viewer:s3cret")
    assert taken.of(1) == PICTURES and len(camera.connections) == 1


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1 is deprecated")
async def test_an_encrypted_camera_that_knows_old_versions_only(tmp_path: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = tls.maximum_version = ssl.TLSVersion.TLSv1
    tls.set_ciphers("DEFAULT:@SECLEVEL=0")
    tls.load_cert_chain(*await asyncio.to_thread(self_signed, tmp_path))
    camera = Camera(script=plays(film()), sdp=SDP, tls=tls)
    taken, _, _ = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND


async def test_sound_that_is_refused_is_left_out_and_said() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.method == "SETUP" and request.uri.endswith("track1"):
            dialogue.answer(request, "461 Unsupported Transport")
            return True
        return False

    camera, remarks = Camera(script=plays(film(), script)), list[str]()
    taken, _, _ = await taken_from(camera, lambda t: len(t.of(1)) == 4, remarks=remarks)
    assert taken.of(1) == PICTURES and taken.of(2) == [] and "461" in remarks[0]
    assert "PLAY" in camera.methods()


async def test_sound_that_is_not_wanted_is_not_asked_for() -> None:
    camera = Camera(script=plays(film()), sdp=sdp_of(H264, PCMU))
    taken, _, _ = await taken_from(camera, lambda t: len(t.of(1)) == 4, keep_audio=False)
    assert taken.of(1) == PICTURES
    assert camera.methods().count("SETUP") == 1


@pytest.mark.parametrize("status", ["456 Header Field Not Valid", "457 Invalid Range"])
async def test_a_camera_that_takes_no_range(status: str) -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if refuses := "range" in request.headers:
            dialogue.answer(request, status)
        return refuses

    taken, _, _ = await taken_from(Camera(script=plays(film(), script)), all_came)
    assert taken.of(1) == PICTURES


async def test_a_camera_that_plays_and_never_answers() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        if request.uri.endswith("track1"):
            dialogue.send(wrapped(0, rtp(1, b"x")))
        return request.method == "PLAY"

    async with serving(camera := Camera(script=script, sdp=SDP)):
        connection, offer = await connect(camera.url(), Resolver())
        session = RtspSession(connection, offer)
        await session.set_up(0, RtpReceiver(96, 90_000, Nobody()))
        with pytest.raises(TimeoutError):
            await session.play(answer_s=0.01)
        await session.set_up(1, RtpReceiver(97, 48_000, Nobody()))
        await session.play(answer_s=0.01)
        await session.tear_down()


async def test_a_camera_whose_tracks_play_one_by_one() -> None:
    async def script(dialogue: Dialogue, request: Request) -> bool:
        together = request.method == "PLAY" and "track" not in request.uri
        if together:
            dialogue.answer(request, "459 Aggregate Operation Not Allowed")
        elif request.method == "PLAY" and request.uri.endswith("track0"):
            dialogue.answer(request, "200 OK")
            return True
        return together

    camera = Camera(script=plays(film(), script))
    taken, _, _ = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    played = [r.uri.rpartition("/")[2] for r in camera.requests if r.method == "PLAY"]
    assert played[1:] == ["track0", "track1"]


async def test_lost_packets_are_told_with_the_frame() -> None:
    packets = film().split(b"$\0")
    camera = Camera(script=plays(b"$\0".join([*packets[:4], *packets[5:]])))
    taken, _, source = await taken_from(camera, all_came)
    assert (taken.frames[0].lost, taken.frames[0].damaged) == (1, True)
    assert source.packets[0].lost == 1


async def test_pictures_before_any_parameter_sets_are_not_taken() -> None:
    early = b"".join(wrapped(0, rtp(900 + n, OTHER, stamp=n, kind=224)) for n in range(3))
    camera = Camera(script=plays(early + film()))
    taken, _, source = await taken_from(camera, lambda taken: len(taken.of(1)) >= 4)
    assert taken.of(1) == PICTURES
    assert source.packets[0].restarts == 1


async def test_a_camera_that_names_one_channel_for_both_tracks() -> None:
    script = answers("SETUP", "Session: 1", "Transport: RTP/AVP/TCP;interleaved=0-1")
    camera = Camera(script=plays(film(channels=(0, 0)), script))
    taken, _, source = await taken_from(camera, all_came)
    assert taken.of(1) == PICTURES and taken.of(2) == SOUND
    assert [f.camera_ms for f in taken.pictures()][1:] == [
        pytest.approx(EPOCH_MS + n * 40, abs=1) for n in (1, 2, 3)
    ]
    assert [(c.lost, c.strays) for c in source.packets] == [(0, 0), (0, 0)]
    assert not any(f.camera_ms for f in taken.frames if f.track_id == 2)


# -- any bytes at all ----------------------------------------------------------------------

CHANGES = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 400), st.binary(max_size=30)),
    max_size=6,
)


@pytest.mark.slow
@given(CHANGES, st.integers(1, 3_000))
def test_a_stream_with_bytes_changed_removed_and_put_in(
    changes: list[tuple[float, int, bytes]], read: int
) -> None:
    """Whatever is broken, packets after it are taken again, and samples can be read."""
    broken = bytearray(film(8))
    for place, removed, put_in in changes:
        at = int(place * len(broken))
        broken[at : at + removed] = put_in
    frames: list[Frame] = []
    pictures, sound = H264Pictures(frames.append), AacFrames(frames.append, {"config": "1188"})
    stream = MessageStream(lambda response: None)
    receivers = RtpReceiver(96, 90_000, pictures), RtpReceiver(97, 48_000, sound)
    for n, receiver in enumerate(receivers):
        stream.expect(2 * n, Channel(receiver.push, receiver.is_plausible))
        stream.expect(2 * n + 1, Channel(receiver.push_rtcp, is_plausible_rtcp))
    whole = film(40)[len(film(8)) :]
    data = bytes(broken) + bytes(70_000) + whole  # what a broken length may swallow, then more
    for at in range(0, len(data), read):
        piece = data[at : at + read]
        room = stream.buffer()
        room[: len(piece)] = piece
        stream.advance(len(piece), 0.0)
    for frame in frames:
        data, at = bytes(frame.data), 0
        while frame.track_id == 1 and at < len(data):
            at += 4 + int.from_bytes(data[at : at + 4], "big")
        assert at in (0, len(data))
    assert [bytes(f.data) for f in frames if f.track_id == 1][-20:] == [sample(OTHER)] * 20
    assert [bytes(f.data) for f in frames if f.track_id == 2][-1] == b"sound 39"


@given(st.text(max_size=60) | st.from_regex(r"1?[ ;]*(timeout|interleaved)[ =]*[0-9-]{0,12}"))
def test_any_header(text: str) -> None:
    assert all(0 <= number < 256 for number in _channels(text, 2))
    assert len(set(_channels(text, 2))) == 2


# -- what is left to ffmpeg ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "words"),
    [
        (["m=video 0 RTP/AVP 26"], "mjpeg"),
        ([H264.replace("packetization-mode=1", "packetization-mode=2")], "interleaved"),
        ([H264.replace("90000", "48000")], "48000"),
        ([H264.replace("RTP/AVP", "RTP/SAVP")], "encrypted video"),
        ([H264, AAC.replace("RTP/AVP", "RTP/SAVPF")], "encrypted sound"),
        (["m=video 0 RTP/AVP 96\na=rtpmap:96 H265/90000\na=fmtp:96 sprop-max-don-diff=1"], "order"),
        ([H264, PCMU], "PCMU"),
        ([H264, PCMU + "\na=rtpmap:0 PCMU/16000"], "16000"),
        ([H264, PCMU + "\na=rtpmap:0 PCMU/8000/2"], "2 channels"),
        ([H264, G722], "G722"),
        ([H264, AAC.replace("MPEG4-GENERIC", "MP4A-LATM")], "LATM"),
        ([H264, AAC.replace("1188", "1180")], "AAC"),
    ],
)
def test_what_is_not_understood_here(media: list[str], words: str) -> None:
    description = choose_tracks(parse_sdp(sdp_of(*media)))
    offer = Offer(Address("rtsp://x/"), description)
    encodes = "PCMU" not in words
    assert words in (why_not(offer, encodes=lambda: encodes) or "")
    if description.audio is not None:
        assert why_not(offer, keep_audio=False) is None


def test_g711_is_understood_where_it_can_be_encoded() -> None:
    offer = Offer(Address("rtsp://x/"), choose_tracks(parse_sdp(sdp_of(H264, PCMU))))
    assert why_not(offer, encodes=lambda: True) is None
