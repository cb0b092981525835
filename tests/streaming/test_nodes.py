"""One site of several machines: whichever is asked answers for every camera."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import m3u8
import pytest
from pydantic import SecretStr

from config.load import load
from config.model import Config
from storage.archive.factory import open_archive
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.rows import Archived
from storage.cluster.machines import Machines
from storage.cluster.other_spools import OtherSpools
from storage.cluster.peer_auth import HEADER, sign
from storage.cluster.peer_status import PeerStatus
from storage.cluster.peers import ABSENT_S, Peers
from storage.recording_source import Sources
from storage.records import GapCause, Index
from storage.spool.numbers import CLOCK_2020_S, Numbers
from storage.spool.reader import SpoolReader
from storage.spool.writer import CameraSpool
from streaming.media.elsewhere import FRESH_S
from tests.support.archiving import configure
from tests.support.playable import LOW, PlayableCamera
from tests.support.several import Machine, Several, several
from tests.support.spools import fill
from tests.support.waiting import until
from tests.support.web import ask, get

NOW = int(time.time() * 1000)
NAME, CAMERA = ("e", "s", "c"), "s/c"
OLD, NEW = (NOW // 1000 - CLOCK_2020_S - ago_s for ago_s in (3600, 300))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n", "2h")


Site = Callable[..., AbstractAsyncContextManager[Several]]


@pytest.fixture
async def catalogue(config: Config) -> AsyncIterator[Catalogue]:
    opened = await Catalogue.open(config.database_url)
    yield opened
    await opened.close()


@pytest.fixture
def site(config: Config, catalogue: Catalogue) -> Site:
    archive = open_archive(config.archives[0])
    return partial(several, config, "abc", catalogue, [archive], clock=lambda: NOW)


def record(
    machine: Machine, epoch: int, ago_s: int, seconds: int, *, sealed: bool = True
) -> CameraSpool:
    """Have a machine record the camera, from `ago_s` before now on."""
    start_ms = NOW - ago_s * 1000
    floor = Numbers.by_lease(epoch, (CLOCK_2020_S + epoch) * 1000)
    options = {"runs": 1, "segments": seconds // 2, "sealed": sealed, "floor": floor}
    return fill(machine.spool, start_ms=start_ms, **options)  # type: ignore[arg-type]


def indexes(machine: Machine) -> list[Index]:
    reader = SpoolReader(machine.spool, "s", "c")
    reader.refresh()
    return [index for _, index in reader.recordings()]


async def entered(catalogue: Catalogue, machine: Machine) -> None:
    """Have the catalogue know what a machine has, as its uploader would."""
    found = [index for index in indexes(machine) if index.seal]
    await catalogue.writer.put_recordings(found, machine.id)
    reader = SpoolReader(machine.spool, "s", "c")
    await catalogue.writer.put_gaps(NAME, reader.all_gaps())


async def archived(config: Config, catalogue: Catalogue, machine: Machine) -> None:
    """Have the archive get what a machine has."""
    await entered(catalogue, machine)
    for index in indexes(machine):
        base = config.path.parent / "archive" / index.archive_key
        base.parent.mkdir(parents=True, exist_ok=True)
        (media,) = machine.spool.glob(f"s/c/*/{base.name}.mp4")
        shutil.copy(media, f"{base}.mp4")
        base.with_name(base.name + ".json").write_bytes(index.archive_document())
        archive = Archived("archive", "", NOW, "test")
        assert await catalogue.writer.mark_archived(index, archive)


async def listed(session: aiohttp.ClientSession, query: str = "") -> list[tuple[int, str]]:
    """Return number and time of the segments of a playlist."""
    status, _, body = await get(session, f"/live/s/c/index.m3u8{query}")
    assert status == 200, body
    parsed = m3u8.loads(body.decode())
    return [(int(s.uri.split(".")[0]), str(s.program_date_time)) for s in parsed.segments]


async def discontinuity(session: aiohttp.ClientSession) -> int:
    """Return the DISCONTINUITY-SEQUENCE of the live playlist."""
    _, _, body = await get(session, "/live/s/c/index.m3u8")
    (found,) = re.findall(rb"DISCONTINUITY-SEQUENCE:(\d+)", body)
    return int(found)


async def test_whichever_machine_is_asked_gives_the_same(site: Site) -> None:
    async with site() as machines:
        record(machines["a"], OLD, 60, 50, sealed=False).close()
        machines.owns("a", CAMERA, OLD)
        own = await get(machines["a"].session, "/live/s/c/index.m3u8")
        assert own[0] == 200
        number = m3u8.loads(own[2].decode()).segments[0].uri
        (init,) = re.findall(rb'URI="(init-\d+\.mp4)"', own[2])
        for path in ("index.m3u8", number, init.decode()):
            here, there = [
                await get(machines[name].session, f"/live/s/c/{path}") for name in ("a", "b")
            ]
            assert there[::2] == here[::2], path
            for header in ("ETag", "Cache-Control", "Content-Type", "Access-Control-Allow-Origin"):
                assert there[1][header] == here[1][header], (path, header)
            tag = {"If-None-Match": there[1]["ETag"]}
            assert (await get(machines["b"].session, f"/live/s/c/{path}", headers=tag))[0] == 304
        part = await get(
            machines["b"].session, f"/live/s/c/{number}", headers={"Range": "bytes=3-9"}
        )
        assert part[0] == 206 and len(part[2]) == 7
        # what nobody has nobody is asked for twice on the way: machines answer from their own spool
        assert (await get(machines["c"].inner, f"/live/s/c/{number}"))[0] == 404
        assert (await get(machines["b"].session, "/live/s/c/77.m4s"))[0] == 404
        assert (await get(machines["b"].session, "/live/s/c/init-77.mp4"))[0] == 404


async def test_a_stranger_of_the_inner_network_is_told_nothing(site: Site) -> None:
    async with site(password=SecretStr("a word of machines")) as machines:
        record(machines["a"], OLD, 60, 50, sealed=False).close()
        machines.owns("a", CAMERA, OLD)
        (number, _), *_ = await listed(machines["b"].session)
        segment = f"/live/s/c/{number}.m4s"
        assert (await get(machines["b"].session, segment))[0] == 200
        for path in ("/status.json", segment, "/spool/s/c/stretch?from=0", "/nowhere"):
            for said in ({}, {HEADER: sign("a word of others", path, NOW)}):
                status, _, body = await get(machines["a"].inner, path, headers=said)
                assert status == 403 and b"s/c" not in body, path
            said = {HEADER: sign("a word of machines", path, NOW)}
            assert (await get(machines["a"].inner, path, headers=said))[0] in (200, 404), path


async def test_a_player_finds_what_follows_when_a_camera_changes_machines(site: Site) -> None:
    async with site() as machines:
        record(machines["a"], OLD, 60, 40, sealed=False).close()
        machines.owns("a", CAMERA, OLD)
        before = await listed(machines["c"].session)
        was_no = await discontinuity(machines["c"].session)
        # b begins, and has nothing yet
        machines.owns("b", CAMERA, NEW, before="a", both=True)
        for name in "abc":
            assert await listed(machines[name].session) == before
        # and the other machine is gone: players wait with what they have
        machines.away.add("a")
        machines.owns("b", CAMERA, NEW, before="a")
        assert await listed(machines["c"].session) == before
        record(machines["b"], NEW, 18, 12, sealed=False).close()
        machines.passed_s += FRESH_S  # for which a playlist of another machine stands
        for name in "bc":
            after = await listed(machines[name].session)
            assert min(after)[0] > max(before)[0] and len(after) == 6
            now_no = await discontinuity(machines[name].session)
            assert was_no < now_no < was_no + 3600 or now_no < 3600  # each 36 h from 0 again
        # what b had of the camera long ago is not what is live
        machines.owns("a", CAMERA, NEW + 1, before="b")
        machines.away.add("b")
        assert (await listed(machines["b"].session))[0][0] == after[0][0]


async def test_both_streams_and_keyframes_are_found_on_every_machine(
    config: Config, catalogue: Catalogue
) -> None:
    path = config.path.parent / "stations.yaml"
    path.write_text(path.read_text().replace('/c"', '/c", low_url: "rtsp://127.0.0.1/2"'))
    config = load(config.path, {})
    async with several(config, "abc", catalogue, clock=lambda: NOW) as machines:
        floor = Numbers.by_lease(OLD, (CLOCK_2020_S + OLD) * 1000)
        first = PlayableCamera(machines["a"].spool, "c", NOW - 60_000, floor=floor)
        second = PlayableCamera(machines["a"].spool, "c.low", NOW - 60_000, LOW, first.line, floor)
        for stream in (first, second):
            stream.append(29)
            stream.close()
        machines.owns("a", CAMERA, OLD)
        await are_alike(machines)
        machines.owns("b", CAMERA, NEW, before="a", both=True)  # which has nothing yet
        await are_alike(machines)


async def are_alike(machines: Several) -> None:
    """Expect all machines to give the streams of the camera, and what they list."""
    files = ["c/all.m3u8"]
    for file in files:
        found = [await get(machines[name].session, f"/live/s/{file}") for name in "abc"]
        assert [status for status, _, _ in found] == [200] * 3, file
        assert len({(headers["ETag"], body) for _, headers, body in found}) == 1, file
        if file.endswith(".m3u8"):
            listed = m3u8.loads(found[0][2].decode())
            names = (*listed.playlists, *listed.iframe_playlists, *listed.segments[:1])
            files += [f"{file.rpartition('/')[0]}/{one.uri}" for one in names]
    assert len(files) == 1 + 4 + 4


async def test_a_stretch_goes_on_over_machines_and_archives(
    site: Site, config: Config, catalogue: Catalogue
) -> None:
    async with site() as machines:
        record(machines["a"], OLD, 600, 180).close()
        await archived(config, catalogue, machines["a"])
        shutil.rmtree(machines["a"].spool / "s")
        record(machines["b"], OLD + 100, 420, 180).close()
        await entered(catalogue, machines["b"])
        record(machines["c"], NEW, 240, 200, sealed=False).close()
        machines.owns("c", CAMERA, NEW, before="b")
        query = f"?from={NOW - 700_000}"
        found = {name: await listed(machines[name].session, query) for name in "abc"}
        assert found["a"] == found["b"] == found["c"] and len(found["a"]) == 280
        assert [n for n, _ in found["a"]] == sorted(n for n, _ in found["a"])
        _, _, body = await get(machines["a"].session, f"/live/s/c/index.m3u8{query}")
        assert body.count(b"#EXT-X-DISCONTINUITY\n") == 2 == body.count(b"#EXT-X-MAP") - 1
        for number, _ in found["a"][::40]:
            parts = [await get(machines[n].session, f"/live/s/c/{number}.m4s") for n in "abc"]
            assert {part[0] for part in parts} == {200} and len({part[2] for part in parts}) == 1
        # a part, whose ends are within recordings
        cut = f"?from={NOW - 450_000}&to={NOW - 400_000}"
        some = [await listed(machines[name].session, cut) for name in "abc"]
        assert some[0] == some[1] == some[2] and 24 <= len(some[0]) <= 26


async def test_what_two_machines_recorded_is_shown_once_and_told_of(
    site: Site, config: Config, catalogue: Catalogue
) -> None:
    """a was cut off and went on; then it had trouble of its own."""
    async with site() as machines:
        cut_off = record(machines["a"], OLD, 600, 400)
        cut_off.begin_gap(NOW - 200_000, GapCause.CLOSED_BY_CAMERA)
        cut_off.end_gap(NOW - 100_000)
        cut_off.close()
        took_over = record(machines["b"], NEW, 300, 280, sealed=False)
        took_over.close()
        machines.owns("b", CAMERA, NEW, before="a")
        for is_known in (False, True):
            if is_known:
                await entered(catalogue, machines["a"])
            for name in "abc":
                found = await listed(machines[name].session, f"?from={NOW - 700_000}")
                times = [at for _, at in found]
                assert times == sorted(times) and len(set(times)) == len(times)
                assert len(found) == 150 + 140
                path = f"/api/v1/stations/s/timeline?from={NOW - 700_000}&to={NOW}"
                (camera, _) = (await ask(machines[name].session, path))["cameras"]
                rows = camera["recordings"]
                covered = {(row["start_ms"], row.get("second", False)) for row in rows}
                assert any(second for _, second in covered), name
                shown = [row for row in rows if not row.get("second")]
                assert min(row["start_ms"] for row in shown) == NOW - 600_000
                assert camera["gaps"] == []  # the other one recorded then


async def test_what_only_a_machine_that_is_away_has_is_told(
    site: Site, config: Config, catalogue: Catalogue
) -> None:
    async with site() as machines:
        record(machines["a"], OLD, 600, 180).close()
        await entered(catalogue, machines["a"])
        (first, *_, last) = indexes(machines["a"])
        await archived_only(catalogue, first)
        number = last.segments[-1].segment_no
        machines.owns("b", CAMERA, NEW, before="a")
        machines.away.add("a")
        shutil.move(machines["a"].spool / "s", machines["a"].spool / "gone")
        machines.tell()
        path = f"/api/v1/stations/s/timeline?from={NOW - 700_000}&to={NOW}"
        (camera, _) = (await ask(machines["b"].session, path))["cameras"]
        assert "away" not in camera["recordings"][0]
        assert {row.get("away") for row in camera["recordings"][1:]} == {"waiting"}
        status, headers, body = await get(machines["b"].session, f"/live/s/c/{number}.m4s")
        assert status == 503 and b"machine that is away" in body and headers["Retry-After"]
        machines.given_up.add("a")
        machines.tell()
        (camera, _) = (await ask(machines["b"].session, path))["cameras"]
        assert {row.get("away") for row in camera["recordings"][1:]} == {"given_up"}
        # it comes back
        shutil.move(machines["a"].spool / "gone", machines["a"].spool / "s")
        machines.away.clear()
        machines.given_up.clear()
        machines.tell()
        machines.passed_s += ABSENT_S  # what was not there is not asked for again at once
        assert (await get(machines["b"].session, f"/live/s/c/{number}.m4s"))[0] == 200
        (camera, _) = (await ask(machines["b"].session, path))["cameras"]
        assert {row.get("away") for row in camera["recordings"]} == {None}


async def archived_only(catalogue: Catalogue, index: Index) -> None:
    archive = Archived("archive", "", NOW, "test")
    assert await catalogue.writer.mark_archived(index, archive)


@pytest.mark.slow
async def test_states_and_pictures_of_all_machines_are_known_to_each(site: Site) -> None:
    async with site() as machines:
        record(machines["a"], OLD, 60, 50, sealed=False).close()
        machines.owns("a", CAMERA, OLD)
        machines.owns("b", "s/d", OLD)
        floor = Numbers.by_lease(OLD, (CLOCK_2020_S + OLD) * 1000)
        silent = CameraSpool(machines["b"].spool, *NAME[:2], "d", floor)
        silent.begin_gap(NOW - 60_000, GapCause.NO_DATA)
        silent.close()
        said = {
            "a": {"s/c": {"state": "recording", "since_ms": NOW, "cause": None}},
            "b": {"s/d": {"state": "backoff", "since_ms": NOW - 60_000, "cause": "no_data"}},
            "c": {},
        }
        for name, cameras in said.items():
            record_ = {"pid": 1, "written_ms": NOW, "cameras": cameras}
            path = machines[name].spool / "_status" / "recorder-0.json"
            path.write_text(json.dumps(record_))
        picture = machines["a"].spool / "s/c/thumb.jpg"
        picture.write_bytes(b"\xff\xd8 a picture")
        os.utime(picture, (NOW / 1000, NOW / 1000))  # a picture of now, by the clock that stands
        peers = Peers()
        for machine in machines.machines.values():
            await PeerStatus(
                machine.spool, Machines(machine.spool), peers, clock=lambda: NOW
            ).ask_all()
        for name, machine in machines.machines.items():

            async def told(session: aiohttp.ClientSession = machine.session) -> Any:
                return (await ask(session, "/api/v1/stations/s"))["cameras"]

            async def are_known(told: Callable[[], Awaitable[Any]] = told) -> bool:
                return [c["state"] for c in await told()] == ["recording", "backoff"]

            await until(are_known, why=name)  # its own answer to others made it look before
            assert "the camera sends no picture" in (await told())[1]["words"], name
            election = await ask(machine.session, "/api/v1/election")
            assert (election["cameras_live"], election["stations_live"]) == (1, 1)
            thumb = await get(machine.session, "/live/s/c/thumb.jpg")
            assert thumb[0] == 200 and thumb[2] == b"\xff\xd8 a picture", name
            wall = await ask(machine.session, "/api/v1/wall")
            assert [one["camera"] for one in wall["wall"]] == ["c"]
        # a machine that is gone tells nothing any more
        machines.away.add("a")
        machines.tell()
        status = PeerStatus(machines["c"].spool, Machines(machines["c"].spool), peers)
        status._written[machines["a"].id] = (0, None)
        await status.ask_all()
        assert not list(machines["c"].spool.glob(f"_status/peer-{machines['a'].id}*"))
        await peers.close()


async def test_a_copy_is_read_from_the_machine_that_has_it(
    site: Site, catalogue: Catalogue
) -> None:
    async with site() as machines:
        record(machines["a"], OLD, 600, 180).close()
        await entered(catalogue, machines["a"])
        machines.owns("b", CAMERA, NEW, before="a")
        peers = Peers()
        others = OtherSpools(Machines(machines["b"].spool), peers)
        sources = Sources(machines["b"].spool, [others], catalogue)
        buckets = await sources.locate(NAME, NOW - 700_000, NOW)
        assert {tuple(there) for there in buckets.values()} == {("other machines",)}
        index = indexes(machines["a"])[1]
        key = index.archive_key
        whole = await others.get(f"{key}.mp4", bucket=machines["a"].id)
        (media,) = machines["a"].spool.glob(f"s/c/*/{key.rpartition('/')[2]}.mp4")
        assert whole == media.read_bytes()
        assert await others.get(f"{key}.mp4", 10, 20, bucket=machines["a"].id) == whole[10:30]
        document = await others.get(f"{key}.json", bucket=machines["a"].id)
        assert document == index.archive_document()
        unfinished = record(machines["a"], OLD, 60, 40, sealed=False)
        unfinished.close()
        settled = await others.settled_ms(NAME, buckets.keys(), NOW - 700_000, NOW)
        assert settled is not None and settled <= NOW - 50_000
        await peers.close()
