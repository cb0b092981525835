"""A link to a moment shows that moment, or says why not and what to do: page, player, oEmbed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast
from urllib.parse import quote

import aiohttp
import pytest

from config.copies import Copies
from config.model import Camera as CameraOf
from config.model import Config, Station
from copies.mp4 import timescales
from storage.media.fmp4 import Box, boxes, parse_moof
from storage.media.jpeg import time_of, with_time
from storage.records import GapCause
from storage.spool.reader import SpoolReader
from streaming.context import AppContext
from streaming.media.clip import BEFORE_MS, LENGTH_MS, one_run
from streaming.pages.moment import clip_at
from tests.support.archiving import configure
from tests.support.footage import UTC0, Camera
from tests.support.playable import PlayableCamera
from tests.support.web import ask, get, say, serving, standing

NOW = standing()
BEGIN = NOW - 600_000
MOMENT = BEGIN + 33_333
GAP = BEGIN + 200_000
DAY = 86_400_000


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Have a camera with a gap of 30 s in its recordings, and a rewind window of 2 h."""
    made = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")
    return made.model_copy(update={"copies": Copies(free=True)})


@pytest.fixture(autouse=True)
def camera(config: Config) -> Iterator[PlayableCamera]:
    made = PlayableCamera(config.spool, "c", BEGIN)
    made.append(100)
    made.spool.seal(GapCause.UNREACHABLE)
    made.spool.begin_gap(GAP, GapCause.UNREACHABLE)
    made.begin(GAP + 30_000)
    made.append(100)
    yield made
    made.close()


CASES = [
    ("", "live", 200, None),
    (str(MOMENT), "shown", 200, None),
    (str(NOW - 3 * 3_600_000), "too_old", 404, "further back than the 2 h"),
    ("1999-01-01T00:00:00Z", "too_old", 404, "Nothing was recorded then"),
    (str(NOW + 60_000), "future", 404, "has not come yet"),
    ("9" * 15, "future", 404, "has not come yet"),
    ("2999-01-01T00:00:00Z", "future", 404, "has not come yet"),
    ("tomorrow", "malformed", 400, "cannot be read"),
    ("9" * 16, "malformed", 400, "cannot be read"),
    ("2026-11-29T10:00", "malformed", 400, "cannot be read"),
]


@pytest.mark.parametrize(("t", "state", "status", "words"), CASES, ids=range(len(CASES)))
@pytest.mark.parametrize("path", ["/stations/s", "/embed/s/c"])
async def test_a_page_shows_the_moment_or_says_why_not(
    config: Config, path: str, t: str, state: str, status: int, words: str | None
) -> None:
    async with serving(config, clock=standing) as session:
        asked = f"{path}?lang=en{f'&t={t}' if t else ''}"
        found, _, body = await get(session, asked)
        page = body.decode()
        root = page[: page.index("<head>")]
        assert found == status and f'data-moment-state="{state}"' in root
        told = re.search(r'data-moment-ms="(\d+)"', root)
        assert (told is not None) == (state not in ("live", "malformed"))
        assert told is None or not t.isdigit() or told[1] == t
        assert ('http-equiv="refresh"' in page) == (state == "live" and "embed" not in path)
        assert (f"/live/s/c/moment.mp4?t={t}" in page) == (state == "shown")
        if words is None:
            assert 'id="notice"' not in page
            return
        notice = page[page.index('id="notice"') :].split("</p>")[0]
        assert words in notice and f'href="{path}?lang=en">Watch live' in notice
        ordered = f"/copies/new?station=s&amp;cameras=c{'' if 'embed' in path else '%2Cd'}"
        assert (ordered in notice) == ("further back" in words)
        assert ordered not in notice or f"from={t}" in notice


async def test_angles_that_have_nothing_at_the_moment_say_so(config: Config) -> None:
    async with serving(config, clock=standing) as session:
        page = (await get(session, f"/stations/s?lang=en&t={GAP + 1_000}"))[2].decode()
        slates = re.findall(r'<noscript><p class="slate">(.*?)</p></noscript>', page)
        assert slates == [
            "No picture at this moment: the camera does not answer.",
            "There is no recording of this moment here.",
        ]
        page = (await get(session, f"/embed/s/c?lang=ru&t={GAP + 1_000}"))[2].decode()
        assert "В этот момент изображения нет: камера не отвечает." in page
        assert "moment.mp4" not in page


async def test_a_minute_from_a_moment_on_as_a_file(config: Config, camera: PlayableCamera) -> None:
    async with serving(config, clock=standing) as session:
        path = f"/live/s/c/moment.mp4?t={MOMENT}"
        status, headers, data = await get(session, path)
        assert (status, headers["Content-Type"]) == (200, "video/mp4")
        assert headers["Cache-Control"] == "public, max-age=60"
        found = list(boxes(data, 0, len(data)))
        assert [b.type for b in found[:3]] == [b"ftyp", b"moov", b"sidx"]
        moofs = [b for b in found if b.type == b"moof"]
        assert len(moofs) == 31  # the moment is within the first
        for n, moof in enumerate(moofs):
            times = {f.track_id: f.decode_time for f in parse_moof(data, moof)}
            assert times == {1: n * 180_000, 2: n * 96_000}
        assert timescales(data[: found[1].end]) == {1: 90_000, 2: 48_000}
        number = await number_of(session, MOMENT)
        original = (await get(session, f"/live/s/c/{number}.m4s"))[2]
        assert mdat_of(data, found[4]) == mdat_of(
            original, list(boxes(original, 0, len(original)))[1]
        )
        for begin, end in ((0, 3), (700, 900), (60_000, 300_000), (len(data) - 5, len(data))):
            span = {"Range": f"bytes={begin}-{end - 1}"}
            status, _, part = await get(session, path, headers=span)
            assert status == 206 and part == data[begin:end]
        short = (await get(session, f"/live/s/c/moment.mp4?t={GAP - 10_500}"))[2]
        assert short.count(b"moof") == 6, "one run alone"
        for wrong, code in (
            (f"?t={GAP + 1_000}", 404),
            (f"?t={NOW + 1_000}", 404),
            (f"?t={NOW - 3 * 3_600_000}", 404),
            ("?t=x", 400),
            ("", 400),
        ):
            assert (await get(session, f"/live/s/c/moment.mp4{wrong}"))[0] == code


def test_a_moment_is_shown_from_the_keyframe_that_it_needs(tmp_path: Path) -> None:
    """A camera of few keyframes: most of its segments show nothing without those before them."""
    recorded = Camera(tmp_path / "few")
    recorded.record(8, keys=4, end=GapCause.CLOSED_BY_CAMERA)
    recorded.gap(10_000)
    recorded.record(12, keys=4)
    reader = SpoolReader(recorded.root, "s", "c")
    reader.refresh()
    begun = UTC0 + 26_000

    def shown(at_ms: int) -> list[int]:
        stretch = reader.stretch(at_ms - BEFORE_MS, at_ms + 3_000)
        return [segment.segment_no for _, _, segment in one_run(stretch, at_ms)]

    assert shown(begun + 500) == [9, 10]
    assert shown(begun + 6_500) == [9, 10, 11, 12, 13]
    assert shown(begun + 8_000) == [13, 14]
    assert shown(begun + 23_000) == [17, 18, 19, 20]
    assert shown(UTC0 + 15_000) == [5, 6, 7, 8]
    assert shown(UTC0 + 20_000) == shown(UTC0 - 1) == shown(begun + 24_000) == []
    context = cast(
        AppContext,
        SimpleNamespace(
            clock=lambda: begun + 60_000,
            config=SimpleNamespace(rewind_s=7200),
            reader=lambda *_: reader,
        ),
    )
    of = cast(Station, SimpleNamespace(id="s")), cast(CameraOf, SimpleNamespace(id="c"))
    at_ms = begun + 6_500
    assert clip_at(context, *of, at_ms) == f"/live/s/c/moment.mp4?t={at_ms}#t=6.500"
    assert clip_at(context, *of, UTC0 + 20_000) == ""


def test_a_moment_of_which_the_spool_lost_the_recording_is_not_shown_by_another(
    tmp_path: Path,
) -> None:
    """A bad block took the middle of a run: it goes on before it and after it."""
    recorded = Camera(tmp_path / "hole")
    recorded.record(60)
    whole = SpoolReader(recorded.root, "s", "c")
    whole.refresh()
    _, lost, last = whole.stored()
    lost.lines.unlink()
    reader = SpoolReader(recorded.root, "s", "c")
    reader.refresh()

    def shown(at_ms: int) -> list[int]:
        stretch = reader.stretch(at_ms - BEFORE_MS, at_ms + LENGTH_MS)
        return [segment.segment_no for _, _, segment in one_run(stretch, at_ms)]

    before, after = ((one.start_ms - UTC0) // 2000 for one in (lost, last))  # segments
    assert shown(lost.start_ms + 10_000) == []
    assert shown(lost.start_ms - 3_500) == [before - 1, before]
    assert shown(last.start_ms + 500)[:2] == [after + 1, after + 2]


async def number_of(session: aiohttp.ClientSession, at_ms: int) -> int:
    """Return the number of the segment that holds a moment."""
    query = f"?from={at_ms}&to={at_ms + 1}"
    text = (await get(session, f"/live/s/c/index.m3u8{query}"))[2].decode()
    found = re.search(r"(?m)^(\d+)\.m4s", text)
    assert found
    return int(found[1])


def mdat_of(data: bytes, box: Box) -> bytes:
    assert box.type == b"mdat"
    return data[box.start : box.end]


@pytest.mark.parametrize(
    "t", [str(MOMENT), "1999-01-01T00:00:00Z", "tomorrow", "x&y=<b>"], ids=range(4)
)
async def test_oembed_keeps_the_moment(config: Config, t: str) -> None:
    base = f"http://127.0.0.1:{config.web.port}"
    config = config.model_copy(update={"web": config.web.model_copy(update={"public_url": base})})
    async with serving(config, clock=standing) as session:
        page = (await get(session, f"/stations/s?lang=en&angle=c&t={quote(t)}"))[2].decode()
        found = re.search(r'type="application/json\+oembed" href="([^"]*)"', page)
        assert found
        path = found[1].replace("&amp;", "&").removeprefix(base)
        told = await ask(session, path)
        assert f"/embed/s/c?t={quote(t, safe='').replace('%20', '+')}&quot;" in told[
            "html"
        ].replace('"', "&quot;")
        assert "thumbnail_url" not in told, "it would be a picture of now"
        plain = await ask(session, f"/api/v1/oembed?url={base}/embed/s/c")
        assert plain["thumbnail_url"].endswith("/live/s/c/thumb.jpg")


async def test_a_picture_tells_its_own_time(config: Config) -> None:
    jpeg = b"\xff\xd8\xff\xe0rest"
    told = with_time(jpeg, NOW - 5_000)
    assert time_of(told) == NOW - 5_000 and time_of(jpeg) is None
    with pytest.raises(ValueError, match="not a JPEG"):
        with_time(b"GIF89a", 1)
    thumb = config.spool / "s/c/thumb.jpg"
    thumb.write_bytes(told)
    os.utime(thumb, (NOW // 1000, NOW // 1000))
    say(config, "s/c", clock=standing)
    async with serving(config, clock=standing) as session:
        status, headers, body = await get(session, "/live/s/c/thumb.jpg")
        assert status == 200 and body == told
        since = headers["Last-Modified"]
        again = await get(session, "/live/s/c/thumb.jpg", headers={"If-Modified-Since": since})
        assert again[0] == 304
        for than, answered in ((since, 200), ("Sun, 29 Nov 2020 09:00:00 GMT", 412)):
            asked = {"If-Unmodified-Since": than}
            assert (await get(session, "/live/s/c/thumb.jpg", headers=asked))[0] == answered
    assert parsedate_to_datetime(since).timestamp() == (NOW - 5_000) // 1000
