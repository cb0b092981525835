"""What a timeline is made of, without a site."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable
from types import SimpleNamespace
from typing import Any, TypeVar

import m3u8
import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request

from storage.catalogue.rows import ArchivedRow, TimelineRow
from storage.records import Gap, GapCause, Header, Index, Segment, Track
from storage.spool.numbers import LEASE_NUMBERS
from streaming.api import timeline
from streaming.api.timeline import Known, Told, _known, _shown
from streaming.context import CONTEXT
from streaming.http.scheduler import SCHEDULER, Scheduler
from streaming.media import for_peers, stretch
from streaming.media.live import Playlists
from streaming.media.playlist import playlist
from tests.support.waiting import BOUND_S

COUNT = 200
T = TypeVar("T")


class Counting(Scheduler):
    """Counts the steps between which others may go on."""

    steps = 0

    async def in_steps(self, request: web.Request, steps: Iterable[T]) -> AsyncIterator[T]:
        for one in steps:
            Counting.steps += 1
            yield one


def removed(n: int) -> TimelineRow:
    which: dict[str, Any] = {"camera_pk": 1, "record_seq": n, "day": 0}
    why: dict[str, Any] = {"removed_ms": 1, "removed_reason": "kept", "removal_begun_ms": None}
    gone = ArchivedRow("a", "", 1, "", **which, **why, collision=0)
    return TimelineRow(**which, start_ms=n * 6000, end_ms=n * 6000 + 6000, archives=[gone])


async def test_no_step_of_a_timeline_is_of_more_than_one_recording() -> None:
    """Of a camera that came and went there are thousands in some hours, and those that were removed
    are told of in words."""
    rows, gap = [removed(n) for n in range(COUNT)], Gap(1, 1, 2, GapCause.NO_DATA)

    async def ask(_: object) -> Any:
        return {("e", "s", "c"): (rows, [gap])}

    context: Any = SimpleNamespace(machines=None, name=lambda *_: ("e", "s", "c"), ask=ask)
    app = web.Application()
    app[CONTEXT], app[SCHEDULER] = context, Counting()
    request = make_mocked_request("GET", "/?lang=en", app=app)
    camera: Any = SimpleNamespace(id="c")
    station: Any = SimpleNamespace(cameras=[camera], time_zone="UTC")
    complete, known = await _known(request, station, 0, COUNT * 6000)
    recordings, gaps = known["c"]
    assert complete and len(recordings) == COUNT and list(gaps.values()) == [gap]
    assert all(b'"words":"removed on' in data for _, data, _ in recordings.values())
    assert Counting.steps >= COUNT


async def test_what_other_machines_ask_for_is_read_in_steps() -> None:
    """A day of a camera is read anew from the disk, as no machine holds all indexes of all of its
    cameras: a third of a second, in one piece, for whoever looks at a timeline elsewhere. In steps
    it takes longer, of several cameras than a machine is waited for that sends nothing: what was
    read is sent meanwhile."""
    header = Header("e", "s", "c", 1, 1, 1, 0, 1, "", 4, (Track(1, "video", "h264", 90_000),))
    indexes = [
        (None, Index(header, [Segment(n, n * 10, 0, 900, 0, 1, "", True, n)])) for n in range(COUNT)
    ]
    gaps = [Gap(n + 1, n * 10, n * 10 + 5, GapCause.NO_DATA) for n in range(COUNT)]
    reader = SimpleNamespace(recordings=lambda *_: indexes, gaps=lambda *_: gaps)
    entry: Any = SimpleNamespace(name="b")

    begun = asyncio.Event()

    class Waiting(Counting):
        async def in_steps(self, request: web.Request, steps: Iterable[T]) -> AsyncIterator[T]:
            async for one in super().in_steps(request, steps):
                if Counting.steps == COUNT // 2:
                    await begun.wait()
                yield one

    async def json(*_: object) -> Any:
        return said

    context: Any = SimpleNamespace(
        camera=lambda _: (("e", "s", "c"), reader),
        machines=SimpleNamespace(others=lambda _: [entry]),
        peers=SimpleNamespace(json=json),
    )
    app = web.Application()
    app[CONTEXT], app[SCHEDULER] = context, Waiting()
    app.router.add_get("/", for_peers.stretch)
    request = make_mocked_request("GET", "/", app=app)
    Counting.steps = 0
    async with asyncio.timeout(BOUND_S), TestClient(TestServer(app)) as client:
        answer = await client.get("/?from=0&to=1000000")
        begin = await answer.content.readany()
        begun.set()
        said = orjson.loads(begin + await answer.content.read())
    assert Counting.steps == COUNT
    assert [one["record_seq"] for one in said["recordings"]] == [1] * COUNT
    known: Known = ({}, {})
    camera: Any = SimpleNamespace(id="c")
    station: Any = SimpleNamespace(id="s", cameras=[camera])
    await timeline._add_elsewhere(request, station, (0, 1_000_000), {"c": known})
    assert Counting.steps == 3 * COUNT
    assert [len(part) for part in known] == [COUNT, COUNT]


@pytest.mark.parametrize(("begin_s", "count"), [(20, 5), (21, 3), (20.5, 1), (0, 5), (58, 9)])
async def test_a_recording_that_another_interrupts_is_shown_around_it(
    monkeypatch: pytest.MonkeyPatch, begin_s: float, count: int
) -> None:
    """A machine that was cut off went on, and the one that took over broke off: a player that finds
    times that go back shows nothing of what is between."""

    def recording(epoch: int, begin_ms: int, count: int) -> tuple[Index, list[Segment]]:
        first = epoch * LEASE_NUMBERS
        track = (Track(1, "video", "h264", 90_000),)
        header = Header("e", "s", "c", epoch, first, first, begin_ms, 1, "", 2, track)
        segments = [
            Segment(first + n, begin_ms + 2000 * n, 180_000 * n, 180_000, 0, 1, "", True, n)
            for n in range(count)
        ]
        return Index(header, segments), segments

    lower = recording(300_000_000, 0, 30)
    higher = recording(300_000_100, int(begin_s * 1000), count)

    async def none(*_: object) -> dict[Any, Any]:
        return {}

    monkeypatch.setattr(stretch, "find_remote", none)
    app = web.Application()
    app[SCHEDULER] = Counting()
    request = make_mocked_request("GET", "/", app=app)
    reader: Any = SimpleNamespace(stretch=lambda *_: [lower, higher])
    asked = (request, ("e", "s", "c"), reader, (0, 90_000), Playlists(), False)
    text = b"".join(playlist([one async for one in stretch.shown_entries(*asked)], "VOD", True))
    listed = m3u8.loads(text.decode()).segments
    times = [one.program_date_time for one in listed]
    assert times == sorted(times)
    own = [one.uri for one in listed if one.uri.startswith(f"{300_000_100 * LEASE_NUMBERS}"[:10])]
    assert len(own) == count
    assert len({one.uri for one in listed}) == len(listed)


@pytest.mark.parametrize("count", [3, 2 * timeline.FEW])
async def test_much_is_compared_beside_live_video(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """A week of a camera that comes and goes takes a tenth of a second, in one piece."""
    threads, compare = list[bool](), timeline._shown

    def noted(*asked: Any) -> list[Gap]:
        threads.append(threading.current_thread() is not threading.main_thread())
        return compare(*asked)

    gaps = [Gap(n + 1, n * 10, n * 10 + 5, GapCause.NO_DATA) for n in range(count)]
    monkeypatch.setattr(timeline, "_shown", noted)
    monkeypatch.setattr(timeline, "camera_json", lambda *_: {"id": "c"})
    monkeypatch.setattr(timeline, "takes", lambda *_: None)
    reader = SimpleNamespace(recordings=lambda *_: [], gaps=lambda *_: gaps)
    context: Any = SimpleNamespace(
        reader=lambda *_: reader, directory=None, why_no_picture=lambda *_: ""
    )
    app = web.Application()
    app[CONTEXT], app[SCHEDULER] = context, Counting()
    request = make_mocked_request("GET", "/", app=app)
    one: Any = None
    found: Any = await timeline._camera(request, "en", one, one, (0, count * 10), ({}, {}))
    assert len(found["gaps"]) == count and found["id"] == "c"
    assert threads == [count > timeline.FEW]


def test_what_nobody_can_have_hides_no_recording_of_another_machine() -> None:
    """A machine that is away may have recorded the same time under a higher epoch: what is shown of
    it is what another has."""
    lower, higher = (epoch * LEASE_NUMBERS for epoch in (300_000_000, 300_000_100))

    def told(key: tuple[int, int], end_ms: int, can_be_had: bool) -> dict[tuple[int, int], Told]:
        return {key: (end_ms, b'{"n":%d}' % key[0], can_be_had)}

    def second(*all_told: dict[tuple[int, int], Told]) -> set[int]:
        recordings = {key: one for each in all_told for key, one in each.items()}
        gap = Gap(lower, 0, 200, GapCause.NO_DATA)
        assert [(g.start_ms, g.end_ms) for g in _shown(recordings, [gap])] == [(100, 200)]
        return {key[0] for key, (_, data, _) in recordings.items() if b',"second":true}' in data}

    here, there = told((lower, 0), 100, True), told((higher, 0), 100, True)
    away, removed = told((higher, 0), 100, False), told((lower, 0), 100, False)
    assert second(here, there) == {lower}
    assert second(here, away) == {higher}
    assert second(removed, away) == set()
    assert second(removed, there) == {lower}
    assert second(here, told((higher, 50), 100, False)) == {higher}
    assert second(told((lower, 0), 60, True), told((higher, 40), 100, False)) == set()
