"""The API over HTTP: what it says, in three languages, and that its description is true."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
import yaml
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from base.i18n.gettext import LANGUAGES
from benchmarks.country import ANGLES, stations
from config.load import load
from config.model import Config
from copies.states import State
from storage.catalogue.orders import MOST_NUMBER
from storage.records import GapCause
from streaming.api.openapi import description
from streaming.api.stations import MOST_QUERY
from streaming.app import MODULES, create_app, make_runner
from streaming.context import AppContext
from streaming.http.responses import MOST_PAGE
from streaming.media import pictures
from streaming.ops.camera_metrics import STATES
from streaming.stations.featured import HOLDS_S, MOST_FEATURED, Featured
from tests.support.s3 import free_port
from tests.support.spools import fill
from tests.support.waiting import BOUND_S, until
from tests.support.web import NOW, ask, get, say, serving, standing

PATHS = description(False)["paths"]
KUAGER = {
    "election": {
        "id": "e",
        "name": {"kk": "Сайлау", "ru": "Выборы", "en": "Election"},
        "date": "2026-11-29",
        "time_zone": "Asia/Almaty",
        "windows": [{"from": "2020-01-01T00:00", "to": "2090-01-01T00:00"}],
        "polling_hours": {"from": "07:00", "to": "20:00"},
    },
    "stations": "stations.yaml",
    "spool": "spool",
    "archives": ["archive"],
    "web": {"public_url": "https://kuager.example/e"},
}


def country(folder: Path, count: int = 60, **more: Any) -> Config:
    """A small country: every station has two cameras."""
    rows: list[dict[str, Any]] = []
    for station in stations(count):
        cameras = [
            {"id": a, "title": {"kk": kk, "ru": ru, "en": en}, "url": f"rtsp://h/{a}{len(rows)}"}
            for a, kk, ru, en in ANGLES[:2]
        ]
        rows.append(station | {"cameras": cameras})
    rows[0]["name"] = 'School <script>alert("1")</script>\u2028 & "sons"'
    (folder / "stations.yaml").write_text(yaml.safe_dump({"stations": rows}, allow_unicode=True))
    (folder / "kuager.yaml").write_text(yaml.safe_dump(KUAGER | more, allow_unicode=True))
    return load(folder / "kuager.yaml", {})


@pytest.mark.slow
async def test_what_is_live_is_counted_by_region_and_district(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config, "s1/ballot-box", "s1/counting-table", "s2/entrance", "s60/ballot-box")
    async with serving(config, clock=standing) as session:
        told = await ask(session, "/api/v1/election")
        assert told["name"] == "Election" and told["polling_hours"]["to"] == "20:00"
        assert (told["stations"], told["stations_live"]) == (60, 2)
        assert (told["cameras"], told["cameras_live"]) == (120, 3)
        assert len(told["windows"]) == 1 and told["now_ms"] == NOW
        assert sum(r["stations"] for r in told["regions"]) == 60
        assert sum(r["cameras_live"] for r in told["regions"]) == 3
        first = told["regions"][0]
        assert first["id"] == "abai-region" and first["name"] == "Abai region"
        region = await ask(session, f"/api/v1/regions/{first['id']}")
        assert {k: region[k] for k in first} == first
        assert sum(d["stations"] for d in region["districts"]) == first["stations"]
        district = next(d for d in region["districts"] if d["cameras_live"])
        query = f"region={first['id']}&district={district['id']}"
        page = await ask(session, f"/api/v1/stations?{query}&live=1")
        assert [s["id"] for s in page["stations"]] == ["s1"] and page["total"] == 1
        page = await ask(session, f"/api/v1/stations?{query}")
        assert page["total"] == district["stations"]
        station = page["stations"][0]
        assert station["picture"] == "/live/s1/ballot-box/thumb.jpg" and station["live"] == 2
        for path in ("regions/nowhere", "stations?region=nowhere", "stations?district=nowhere"):
            await ask(session, f"/api/v1/{path}", 404)
        say(config, age_ms=60_000)  # who wrote it is gone

        async def nobody_is_live() -> bool:
            told = await ask(session, "/api/v1/election")
            return bool((told["stations_live"], told["cameras_live"]) == (0, 0))

        await until(nobody_is_live)
        station = await ask(session, "/api/v1/stations/s1")
        assert station["cameras"][0]["state"] == "unknown" and station["picture"] is None
        assert station["now_ms"] == NOW  # the clock of embedded cameras


async def test_search_and_its_pages(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config, "s17/ballot-box")
    async with serving(config, clock=standing) as session:
        page = await ask(session, "/api/v1/stations?q=17&limit=1")
        assert page["stations"][0]["id"] == "s17" and page["total"] > 1
        seen, after = ["s17"], page["next_after"]
        while after:
            following = await ask(session, f"/api/v1/stations?q=17&limit=1&after={after}")
            assert following["total"] == page["total"]
            seen += [s["id"] for s in following["stations"]]
            after = following["next_after"]
        assert len(seen) == len(set(seen)) == page["total"]
        page = await ask(session, "/api/v1/stations?q=17&live=1")
        assert [s["id"] for s in page["stations"]] == ["s17"] and page["total"] == 1
        village = config.stations[3].address.kk.split()[0]  # type: ignore[union-attr]
        page = await ask(session, f"/api/v1/stations?q={quote(village + ' Нигде')}")
        assert page["total"] == 0 and "s4" in [s["id"] for s in page["suggestions"]]
        await ask(session, "/api/v1/stations?q=17&after=s18", 400)  # of another search


async def test_answers_in_three_languages(tmp_path: Path) -> None:
    config = country(tmp_path)
    fill(config.spool, "s1", "ballot-box", start_ms=NOW - 100_000, runs=1, segments=5).close()
    spool = fill(config.spool, "s2", "ballot-box", start_ms=NOW - 100_000, runs=1, segments=5)
    spool.begin_gap(NOW - 90_000, GapCause.UNREACHABLE, "")
    spool.close()
    say(config, "s1/ballot-box")
    async with serving(config, clock=standing) as session:
        for lang, name, title, words in (
            ("kk", "Сайлау", "Сайлау жәшігі", "камера жауап бермейді"),
            ("ru", "Выборы", "Урна", "камера не отвечает"),
            ("en", "Election", "Ballot box", "the camera does not answer"),
        ):
            path = "/api/v1/stations/s2/timeline"
            ways: tuple[dict[str, Any], ...]
            ways = {"params": {"lang": lang}}, {"headers": {"Accept-Language": lang}}
            for how in ways:
                _, headers, body = await get(session, "/api/v1/election", **how)
                assert json.loads(body)["name"] == name and headers["Content-Language"] == lang
                assert ("Vary" in headers) == ("headers" in how)
                camera = (await ask(session, path, **how))["cameras"][0]
                assert camera["title"] == title and words in camera["words"]
                assert re.search(r"\b\d\d:\d\d:\d\d UTC", camera["words"])  # it may be short
                assert camera["gaps"][-1]["words"] == words
        without = {"Accept-Language": ""}
        assert (await ask(session, "/api/v1/election", headers=without))["name"] == "Сайлау"
        hostile = {"Accept-Language": ";q=,\t*;q=1e9,en;q=0.1," + "a-" * 3000}
        assert (await ask(session, "/api/v1/election", headers=hostile))["name"]
        for lang in ("de", "", "kk,ru", "%00", "<script>"):
            said = await ask(session, f"/api/v1/election?lang={lang}", 400)
            assert said["detail"].startswith("'lang' is not a language of this site")


async def test_who_has_it_gets_304(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config, "s1/ballot-box")
    to_ms = NOW - 1000
    async with serving(config, clock=standing) as session:
        for path in (
            "/api/v1/election",
            "/api/v1/regions/abai-region",
            "/api/v1/stations?q=1",
            "/api/v1/stations/s1",
            f"/api/v1/stations/s1/timeline?from={to_ms - 60_000}&to={to_ms}",
            "/api/v1/openapi.json",
            "/api/v1/oembed?url=https://kuager.example/e/stations/s1",
        ):
            status, headers, body = await get(session, path)
            assert status == 200 and body and "max-age" in headers["Cache-Control"]
            have = {"If-None-Match": f'"other", {headers["ETag"]}'}
            again = await get(session, path, headers=have)
            assert again[0] == 304 and again[2] == b"" and again[1]["ETag"] == headers["ETag"]
            head = await get(session, path, method="HEAD")
            assert head[0] == 200 and head[1]["ETag"] == headers["ETag"] and head[2] == b""


async def test_bad_requests_are_told_what_is_wrong(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config)
    future = NOW + 86_400_000
    async with serving(config, clock=standing) as session:
        for query, status, words in (
            ("stations/nobody", 404, "no such station"),
            ("stations/nobody/timeline", 404, "no such station"),
            ("stations/%3Cscript%3E", 404, "no such station"),
            ("stations/s1/timeline?from=yesterday", 400, "is not a time"),
            (f"stations/s1/timeline?from={future}", 400, "in the future"),
            (f"stations/s1/timeline?from={future}&to={NOW}", 400, "not after"),
            ("stations/s1/timeline?from=0", 400, "longer than 7 days"),
            ("stations?q=" + quote("я" * 5000), 400, "at most 200 characters"),
            ("stations?limit=0", 400, "from 1 to 100"),
            ("stations?limit=١", 400, "from 1 to 100"),
            ("stations?live=yes", 400, "from 0 to 1"),
            ("stations?after=nobody", 400, "'after'"),
            ("wall?limit=1000", 400, "from 1 to 48"),
            ("oembed", 400, "'url' is missing"),
            ("oembed?url=https://elsewhere.example/stations/s1", 404, "no camera"),
            ("oembed?url=https://kuager.example/e/stations/nobody", 404, "no camera"),
            ("oembed?url=https://[broken", 404, "no camera"),
            ("oembed?url=https://kuager.example/e/stations/s1&format=xml", 501, "json"),
        ):
            said = await ask(session, f"/api/v1/{query}", status)
            assert words in said["detail"] and said["status"] == status, query
        said = await ask(session, "/api/v1/nothing?lang=ru", 404)
        assert said["detail"] == "По этому адресу ничего нет."
        async with session.post("/api/v1/stations") as answer:
            assert answer.status == 405 and "GET" in answer.headers["Allow"]
            assert "GET and HEAD only" in (await answer.json(content_type=None))["detail"]
        # before the election, and control characters: nothing is there, and that is no fault
        past = "from=2001-01-01T00:00Z&to=2001-01-02T00:00Z"
        told = await ask(session, f"/api/v1/stations/s1/timeline?{past}")
        assert all(c["recordings"] == c["gaps"] == [] for c in told["cameras"])
        for query in ("%00%1b%7f%0d%0a", "%ff%fe", "%3Cscript%3E", "'%22;--"):
            assert await ask(session, f"/api/v1/stations?q={query}")
        found = await ask(session, "/api/v1/stations?q=script")
        assert "<script>" in found["stations"][0]["name"]  # JSON, by its type and nosniff


async def test_the_wall_changes_and_shows_one_camera_of_a_station(tmp_path: Path) -> None:
    config = country(tmp_path)
    live = [f"s{n}/ballot-box" for n in range(1, 61)] + ["s1/counting-table"]
    for name in live[:50]:  # the others have no picture, one has an old one
        (config.spool / name).mkdir(parents=True)
        (config.spool / name / "thumb.jpg").write_bytes(b"jpeg")
    for path in config.spool.glob("*/*/thumb.jpg"):
        os.utime(path, (NOW / 1000, NOW / 1000))
    old = NOW / 1000 - 100
    os.utime(config.spool / "s50/ballot-box/thumb.jpg", (old, old))
    say(config, *live)
    async with serving(config, clock=standing) as session:
        wall = (await ask(session, "/api/v1/wall"))["wall"]
        assert len(wall) == 12 and wall[0]["picture"].endswith("/ballot-box/thumb.jpg")
        assert (await ask(session, "/api/v1/wall?limit=5"))["wall"] == wall[:5]
    context = AppContext(config, None, [], standing)
    list(context.refresh())
    featured = Featured(context.directory, partial(pictures.has_picture, context))
    slots = [slot * HOLDS_S * 1000 for slot in range(6)]
    walls = [[s.id for s, _ in featured.shown(ms, MOST_FEATURED)] for ms in slots]
    assert len({tuple(wall[:12]) for wall in walls}) > 1
    for wall in walls:
        assert len(set(wall)) == len(wall) == 48
        assert all(int(name[1:]) < 50 for name in wall)
        regions = {config.stations[int(n[1:]) - 1].region.en for n in wall[:12]}
        assert len(regions) == 12  # of 17 that have a picture


async def test_lists_for_players_and_frames_for_pages(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config, "s1/ballot-box")
    async with serving(config, clock=standing) as session:
        status, headers, body = await get(session, "/stations/s1/all.m3u?lang=en")
        assert status == 200 and headers["Content-Type"].startswith("audio/x-mpegurl")
        assert body.decode().splitlines() == [
            "#EXTM3U",
            "#EXTINF:-1,1 Ballot box",
            "https://kuager.example/e/live/s1/ballot-box/index.m3u8",
            "#EXTINF:-1,1 Counting table",
            "https://kuager.example/e/live/s1/counting-table/index.m3u8",
        ]
        assert (await get(session, "/stations/nobody/all.m3u"))[0] == 404
        base = "/api/v1/oembed?url=https://kuager.example/e"
        told = await ask(session, f"{base}/embed/s1/counting-table&maxwidth=320&maxheight=1000")
        assert (told["width"], told["height"], told["type"]) == (320, 180, "video")
        assert 'src="https://kuager.example/e/embed/s1/counting-table"' in told["html"]
        assert "<script>" not in told["html"] and "&lt;script&gt;" in told["html"]
        linked = quote("?t=2026-11-29T09:40:00Z&angle=counting-table", safe="")
        told = await ask(session, f"{base}/stations/s1{linked}")
        assert "/embed/s1/counting-table" in told["html"]
        told = await ask(session, f"{base}/stations/s1&maxheight=90")
        assert (told["width"], told["height"]) == (160, 90)
        assert told["thumbnail_url"] == "https://kuager.example/e/live/s1/ballot-box/thumb.jpg"
        await ask(session, f"{base}/embed/s1/nothing", 404)
    config = config.model_copy(update={"web": config.web.model_copy(update={"public_url": None})})
    async with serving(config, clock=standing) as session:
        host = {"Host": "video.example:8080"}
        _, _, body = await get(session, "/stations/s1/all.m3u", headers=host)
        assert b"\nhttp://video.example:8080/live/s1/" in body
        _, _, body = await get(session, "/stations/s1/all.m3u", headers={"Host": 'x"><b>'})
        assert b"<b>" not in body and b"\nhttp://127.0.0.1:8080/live/s1/" in body


async def test_no_cache_keeps_a_host_that_a_visitor_named(tmp_path: Path) -> None:
    config = country(tmp_path, web={"listen": "127.0.0.1:8080"})
    url = "http://elsewhere.example/embed/s1/counting-table"
    shown = set()
    async with serving(config, clock=standing) as session:
        for path in (route.path for part in MODULES for route in part.routes):
            asked = path.replace("{station}", "s1").replace("{camera}", "counting-table")
            if "{" in asked:
                continue
            host = {"Host": "elsewhere.example"}
            asked += f"?url={url}" if path.endswith("oembed") else ""
            _, headers, body = await get(session, asked, headers=host)
            if b"elsewhere.example" in body or "elsewhere.example" in str(headers):
                shown.add(path)
                assert headers["Cache-Control"] == "no-store", path
    assert {"/stations/{station}", "/stations/{station}/all.m3u", "/api/v1/oembed"} <= shown


def test_every_route_of_the_api_is_described_and_every_description_is_a_route() -> None:
    routes = {r.path for part in MODULES for r in part.routes if r.path.startswith("/api/")}
    assert routes == set(PATHS)
    for path, operations in PATHS.items():
        assert list(operations) == ["get"]
        inside = {p["name"] for p in parameters_of(path).values() if p["in"] == "path"}
        assert inside == set(re.findall(r"\{(\w+)\}", path))


def parameters_of(path: str) -> dict[str, Any]:
    """Return the parameters of a path that answers GET, by name."""
    known = description(True)["components"]["parameters"]
    said = PATHS[path]["get"].get("parameters", ())
    found = [known[p["$ref"].rpartition("/")[2]] if "$ref" in p else p for p in said]
    return {parameter["name"]: parameter for parameter in found}


def test_the_description_has_the_limits_and_lists_of_the_code() -> None:
    schemas = description(True)["components"]["schemas"]
    assert schemas["GapCause"]["enum"] == [*GapCause]
    assert schemas["CameraState"]["enum"] == [*STATES]
    assert schemas["OrderState"]["enum"] == [*State]
    stations, wall = parameters_of("/api/v1/stations"), parameters_of("/api/v1/wall")
    assert stations["limit"]["schema"]["maximum"] == MOST_PAGE
    assert stations["q"]["schema"]["maxLength"] == MOST_QUERY
    assert stations["lang"]["schema"]["enum"] == [*LANGUAGES]
    assert wall["limit"]["schema"]["maximum"] == MOST_FEATURED
    (before, _) = description(True)["paths"]["/api/v1/copies/register"]["get"]["parameters"]
    assert before["schema"]["maximum"] == MOST_NUMBER


@contextlib.contextmanager
def beside(config: Config) -> Iterator[str]:
    """Serve in a thread of its own; yields the address."""
    port, loop, ready = free_port(), asyncio.new_event_loop(), threading.Event()
    runner = None

    async def start() -> None:
        nonlocal runner
        runner = make_runner(create_app(config, None, [], standing))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        ready.set()

    thread = threading.Thread(target=lambda: (loop.run_until_complete(start()), loop.run_forever()))
    thread.start()
    assert ready.wait(BOUND_S)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        assert runner is not None
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(BOUND_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(BOUND_S)
        loop.close()


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    config = country(tmp_path_factory.mktemp("api"), 20)
    spool = fill(config.spool, "s1", "ballot-box", start_ms=NOW - 100_000, segments=10)
    spool.begin_gap(NOW - 20_000, GapCause.NO_DATA, "")
    spool.close()
    say(config, "s1/ballot-box")
    with beside(config) as address:
        yield schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json")


BOUNDED = settings(derandomize=True, max_examples=25, database=None)


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda m: m.value)
@pytest.mark.parametrize("path", PATHS)
def test_the_description_is_true(described: Any, path: str, mode: Any) -> None:
    """Valid and invalid requests of every route: the answers are as described, never a fault.

    A cursor of another search, a stretch that ends before it begins and such are valid by the
    description and are refused all the same.
    """
    excluded = [schemathesis.checks.positive_data_acceptance]
    if path == "/api/v1/oembed":  # oEmbed asks for 501; a 500 is not in the description
        excluded.append(schemathesis.checks.not_a_server_error)
    requests = described[path]["GET"].as_strategy(generation_mode=mode)

    @settings(BOUNDED, suppress_health_check=list(HealthCheck))
    @given(requests)
    def hold(case: Any) -> None:
        case.call_and_validate(excluded_checks=excluded)

    try:
        hold()
    except Unsatisfiable:  # nothing can be wrong with a request that has no parameters
        assert mode is schemathesis.GenerationMode.NEGATIVE
        assert "parameters" not in PATHS[path]["get"]
