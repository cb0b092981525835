"""Which tracks are taken of what cameras write into their descriptions, and where these are."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.rtsp.address import Address, base_uri, control_uri
from recorder.rtsp.auth import Credentials
from recorder.rtsp.description import NoVideo, choose_tracks
from recorder.rtsp.messages import Response
from recorder.rtsp.picture_size import picture_size, sprop_sets
from recorder.rtsp.sdp import parse_sdp
from tests.support.packets import PPS, SPS
from tests.support.rtsp_camera import H264, PCMU, encode, film, h264, parameter_sets, sdp_of

AAC = "m=audio 0 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/48000\na=fmtp:97 mode=AAC-hbr;config=1188"
BACK = "m=audio 0 RTP/AVP 0\na=sendonly"


def choose(*media: str, track: int | None = None, session: str = "") -> tuple[object, ...]:
    found = choose_tracks(parse_sdp(sdp_of(*media, session=session)), track)
    return found.video, found.video_index, found.audio, found.audio_index


@pytest.mark.parametrize(
    ("media", "taken"),
    [
        ([H264, PCMU], ("h264", 0, "pcmu", 0)),
        (["m=video 0 RTP/AVP 26", AAC], ("mjpeg", 0, "aac", 0)),
        (["m=video 0 RTP/AVP 96\na=rtpmap:96 hevc/90000"], ("h265", 0, None, 0)),
        ([BACK, H264, AAC], ("h264", 0, "aac", 1)),
        ([H264, BACK], ("h264", 0, None, 0)),
        ([H264 + "\na=sendonly", BACK], ("h264", 0, "pcmu", 0)),  # from the camera's own side
        ([H264, PCMU + "\na=inactive"], ("h264", 0, None, 0)),
        ([H264, AAC.replace("1188", "")], ("h264", 0, None, 0)),
        ([H264, AAC.replace("config=1188", "")], ("h264", 0, None, 0)),
        (
            [H264, AAC.replace("MPEG4-GENERIC", "MP4A-LATM").split("\na=fmtp")[0]],
            ("h264", 0, None, 0),
        ),
        ([H264, "m=audio 0 RTP/AVP 98\na=rtpmap:98 X-SECRET/8000", PCMU], ("h264", 0, "pcmu", 1)),
        (["m=application 0 RTP/AVP 107", H264, "m=text"], ("h264", 0, None, 0)),
        (["m=video 0 RTP/AVP 99\na=rtpmap:99 H266/90000", H264], ("h264", 1, None, 0)),
        (["m=video 0 RTP/AVP\na=rtpmap:96 H264/90000"], ("h264", 0, None, 0)),
        (["m=video 0 RTP/AVP 96\na=rtpmap:98 H264/90000"], ("h264", 0, None, 0)),
        (["m=video 0 RTP/AVP 96\na=fmtp:96 packetization-mode=1"], ("h264", 0, None, 0)),
        (["m=video 0 RTP/AVP 96\na=fmtp:96 sprop-vps=;sprop-sps="], ("h265", 0, None, 0)),
        ([H264, AAC.replace("fmtp:97", "fmtp:62")], ("h264", 0, "aac", 0)),
        ([H264, AAC.replace("1188", '"1188"')], ("h264", 0, "aac", 0)),
        (
            [H264, AAC.replace("AVP 97", "AVP 97 98").replace("fmtp:97", "fmtp:98")],
            ("h264", 0, None, 0),
        ),
        (
            ["m=video 0 RTP/AVP 96 97\na=rtpmap:97 VP8/90000\na=rtpmap:96 H264/90000"],
            ("h264", 0, None, 0),
        ),
    ],
)
def test_tracks(media: list[str], taken: tuple[object, ...]) -> None:
    assert choose(*media) == taken


@pytest.mark.parametrize("end", ["", "\r", "\0", "\r\n\0", " \0 "])
def test_however_a_description_ends(end: str) -> None:
    (track,) = choose_tracks(parse_sdp(f"v=0\r\n{H264}\r\na=control:track=1{end}")).tracks
    assert track.control == "track=1"


def test_what_is_left_out_is_said() -> None:
    strange = "m=audio 0 RTP/AVP 98\na=rtpmap:98 X-SECRET/8000"
    for media, words in ((strange, "codec X-SECRET"), (AAC.replace("1188", "zz"), "configuration")):
        (remark,) = choose_tracks(parse_sdp(sdp_of(H264, media))).remarks
        assert "sound is left out" in remark and words in remark and "G.711" in remark
    assert choose_tracks(parse_sdp(sdp_of(H264, BACK))).remarks == ()


@pytest.mark.parametrize(
    ("media", "track", "words"),
    [
        ([PCMU], None, "no video"),
        (["m=video 0 RTP/AVP 99\na=rtpmap:99 H266/90000"], None, "codec H266"),
        (["m=video 0 RTP/AVP 99"], None, "codec without a name"),
        ([H264], 2, "no video track 2, but 1"),
        (["m=video 0 RTP/AVP 99\na=rtpmap:99 H266/90000", H264], 1, "codec H266"),
    ],
)
def test_what_cannot_be_recorded(media: list[str], track: int | None, words: str) -> None:
    with pytest.raises(NoVideo, match=words) as failed:
        choose(*media, track=track)
    assert failed.value.remedy


def test_the_largest_picture_or_the_one_that_was_chosen(ffmpeg: str) -> None:
    small, large = h264(film(ffmpeg, 320, 180)), h264(film(ffmpeg, 640, 360))
    found = choose_tracks(parse_sdp(sdp_of(small, large, small)))
    assert (found.video_index, found.size) == (1, (640, 360))
    assert [track.control for track in found.tracks] == ["track1"]
    assert "video track 2 of 3" in found.remarks[0] and "640x360" in found.remarks[0]
    assert choose_tracks(parse_sdp(sdp_of(small, large)), 1).size == (320, 180)
    assert choose_tracks(parse_sdp(sdp_of(H264, H264))).video_index == 0
    for line in ("a=framesize:96 1280-720", "a=x-dimensions: 1280, 720"):
        assert choose_tracks(parse_sdp(sdp_of(f"{H264}\n{line}"))).size == (1280, 720)
    said = choose_tracks(parse_sdp(sdp_of(H264, H264 + "\na=framesize:96 1280-720")))
    assert (said.video_index, said.size) == (1, (1280, 720))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "size", "options"),
    [
        ("h264", (1920, 1080), {"profile:v": "high"}),
        ("h264", (854, 480), {"profile:v": "baseline"}),
        (
            "h264",
            (720, 576),
            {"profile:v": "high422", "pix_fmt": "yuv422p", "flags": "+ildct+ilme"},
        ),
        ("h264", (322, 182), {"profile:v": "high444", "pix_fmt": "yuv444p"}),
        ("h265", (1920, 1080), {}),
        ("h265", (426, 240), {"pix_fmt": "yuv422p10le"}),
    ],
)
def test_sizes_of_real_encoders(
    ffmpeg: str, codec: str, size: tuple[int, int], options: dict[str, str]
) -> None:
    sps = parameter_sets(encode(ffmpeg, codec, size, options), codec)
    name = "sprop-parameter-sets" if codec == "h264" else "sprop-sps"
    text = ",".join(b64encode(nal).decode().rstrip("=") for nal in sps)
    assert picture_size(codec, {name: text}) == size


@pytest.mark.parametrize(
    "written",
    [
        "{sps},{pps}",
        '"{sps},{pps}"',
        "{sps}, {pps}",
        "{bare_sps} , {bare_pps}",
        "{sps},{pps},",
        "{coded_sps},{coded_pps}",
        "{both}",
    ],
)
def test_parameter_sets_as_cameras_write_them(written: str) -> None:
    start = b"\0\0\0\1"
    names = {"sps": SPS, "pps": PPS, "coded_sps": start + SPS, "coded_pps": start + PPS + b"\0"}
    names["both"] = start + SPS + start[1:] + PPS
    texts = {name: b64encode(nal).decode() for name, nal in names.items()}
    texts |= {f"bare_{name}": texts[name].rstrip("=") for name in ("sps", "pps")}
    parameters = {"sprop-parameter-sets": written.format(**texts)}
    assert sprop_sets("h264", parameters) == [SPS, PPS]
    assert picture_size("h264", parameters) == (640, 360)


@settings(deadline=None)
@given(codec=st.sampled_from(["h264", "h265", "vp8"]), sps=st.binary(max_size=60), junk=st.text())
def test_any_parameter_set_is_read_or_not(codec: str, sps: bytes, junk: str) -> None:
    for text in (b64encode(b"\x67" + sps).decode(), junk):
        found = picture_size(codec, {"sprop-parameter-sets": text, "sprop-sps": text})
        assert found is None or min(found) > 0


LINES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [*H264.split("\r\n"), *AAC.split("\n"), "a=control:*", "a=sendonly", "m=", "m=video"]
    ),
    st.from_regex(
        r"(?:a=(?:rtpmap|fmtp|framesize|x-dimensions):|m=video )[0-9 /A-Z;=,-]{0,30}",
        fullmatch=True,
    ),
)


@settings(deadline=None)
@given(lines=st.lists(LINES, max_size=30))
def test_any_description_gives_tracks_or_says_why_not(lines: list[str]) -> None:
    session = parse_sdp("\n".join(lines))
    try:
        found = choose_tracks(session)
    except NoVideo as error:
        assert str(error) and error.remedy
    else:
        assert session.media and found.video


@pytest.mark.parametrize(
    ("base", "control", "uri"),
    [
        ("rtsp://h/s/", "track1", "rtsp://h/s/track1"),
        ("rtsp://h/s", "/track1", "rtsp://h/s/track1"),
        ("rtsp://h/s?a=1", "trackID=1", "rtsp://h/s?a=1/trackID=1"),
        ("rtsp://h/s", "RTSP://10.0.0.1/s/2", "RTSP://10.0.0.1/s/2"),
        ("rtsp://h/s", "*", "rtsp://h/s"),
        ("rtsp://h/s", "", "rtsp://h/s"),
    ],
)
def test_where_tracks_are(base: str, control: str, uri: str) -> None:
    assert control_uri(base, control) == uri


@pytest.mark.parametrize(
    ("headers", "base"),
    [
        ({}, "rtsp://h/s"),
        ({"content-base": " rtsp://10.0.0.1/s/ "}, "rtsp://10.0.0.1/s/"),
        ({"content-base": "10.0.0.1/s/", "content-location": "/t/"}, "rtsp://h/t/"),
    ],
)
def test_what_tracks_are_relative_to(headers: dict[str, str], base: str) -> None:
    assert base_uri(Response(200, "OK", tuple(headers.items()), b""), "rtsp://h/s") == base


LOGIN = Credentials("user", "p@ss:w/rd")


@pytest.mark.parametrize(
    ("url", "location", "uri", "keeps"),
    [
        ("rtsp://h/a", "rtsp://h:8554/b", "rtsp://h:8554/b", True),
        ("rtsp://h/a", "/b", "rtsp://h/b", True),
        ("rtsp://h/a", "rtsps://h/b", "rtsps://h/b", True),
        ("rtsps://h/a", "rtsp://h/b", "rtsp://h/b", False),
        ("rtsp://h/a", "rtsp://other/b", "rtsp://other/b", False),
        ("rtsp://h/a", "rtsp://me:it@other/b", "rtsp://other/b", False),
    ],
)
def test_redirects(url: str, location: str, uri: str, keeps: bool) -> None:
    there = Address(url, LOGIN).redirected(location)
    assert there.uri == uri and there.credentials == (LOGIN if keeps else None)


@pytest.mark.parametrize("location", ["http://h/", "rtsp://h:99999/", "rtsp://[x/"])
def test_redirects_to_nowhere(location: str) -> None:
    with pytest.raises(ValueError):
        Address("rtsp://h/a").redirected(location)


def test_addresses_and_their_login() -> None:
    address = Address.parse("rtsp://us%40er:p%FF%27:@[::1]/x?y=1")
    assert (address.uri, address.where) == ("rtsp://[::1]/x?y=1", "[::1]:554")
    assert address.url == "rtsp://us%40er:p%FF%27%3A@[::1]/x?y=1"
    assert "p\\udcff" not in repr(address) and Address.parse("rtsps://h").port == 322
