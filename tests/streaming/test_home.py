"""The home page, /about and /help: what they say, and that their counts agree."""

from __future__ import annotations

import html
import re
from itertools import pairwise
from math import radians
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from base.i18n.causes import CAUSES, describe_cause
from base.i18n.gettext import LANGUAGES
from config.load import load
from config.model import Config, Station
from streaming.stations.nearby import EARTH_M, Nearby
from tests.support.web import ask, say, serving, standing

OPERATOR = {
    "name": {"kk": "Комиссия KK", "ru": "Комиссия RU", "en": "The Commission <b>"},
    "address": "1 Abai Avenue, Almaty",
    "phone": "+7 727 000 00 00",
    "email": "info@example.kz",
    "about": "First paragraph.\n\nSecond <i>paragraph</i>.",
    "terms": {"kk": "Шарт", "ru": "Условие", "en": "Be fair.\n \nCite us."},
}
# number, region, district, latitude, longitude
PLACES = (
    ("1", "Almaty", "Medeu", 43.2389, 76.8897),
    ("2", "Almaty", "Alatau", 43.2500, 76.8900),
    ("3", "Turkistan", "Sairam", 42.4267, 69.8297),
    ("4", "Turkistan", "", None, None),
)


def country(folder: Path, **more: Any) -> Config:
    """Four stations of two cameras in two regions."""
    stations = [
        {
            "id": f"s{number}",
            "number": number,
            "name": f"School {number}",
            "region": region,
            "district": district,
            "latitude": latitude,
            "longitude": longitude,
            "cameras": [
                {"id": c, "title": c.upper(), "url": f"rtsp://h/{number}{c}"} for c in "ab"
            ],
        }
        for number, region, district, latitude, longitude in PLACES
    ]
    written = [{k: v for k, v in s.items() if v is not None} for s in stations]
    kuager = {
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
        "archives": [{"url": "archive", "keep": "365d"}],
        "rewind": "2h",
    }
    (folder / "stations.yaml").write_text(yaml.safe_dump({"stations": written}, allow_unicode=True))
    (folder / "kuager.yaml").write_text(yaml.safe_dump(kuager | more, allow_unicode=True))
    return load(folder / "kuager.yaml", {})


async def page_at(session: aiohttp.ClientSession, path: str, status: int = 200) -> str:
    async with session.get(path) as answer:
        text = await answer.text()
        assert answer.status == status, text
        return html.unescape(text)


def cards(page: str) -> dict[str, str]:
    """Return the text of each station in a list, by its id."""
    found = re.findall(r'<li data-station="(\w+)">(.*?)</li>', page, re.S)
    return {one: " ".join(re.sub(r"<[^>]+>", " ", text).split()) for one, text in found}


def numbers(text: str) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in re.findall(r"(\d+) of (\d+)", text)]


@pytest.mark.parametrize(
    "live",
    [(), ("s1/a", "s1/b", "s3/a"), tuple(f"s{n}/{c}" for n in range(1, 5) for c in "ab")],
)
async def test_counts_agree_with_each_other(tmp_path: Path, live: tuple[str, ...]) -> None:
    config = country(tmp_path)
    say(config, *live)
    async with serving(config, clock=standing) as session:
        page = await page_at(session, "/")
        (tally,) = re.findall(r'id="tally">([^<]+)<', page)
        (stations, cameras) = numbers(tally)
        listed = [numbers(text)[0] for text in cards(page).values()]
        assert cameras == (sum(a for a, _ in listed), sum(b for _, b in listed)) == (len(live), 8)
        assert stations == (sum(a > 0 for a, _ in listed), len(listed))
        areas = [numbers(words)[0] for words in re.findall(r'data-area="[^"]+">([^<]+)<', page)]
        assert stations == (sum(a for a, _ in areas), sum(b for _, b in areas))
        for area in re.findall(r'href="(/\?region=\w+)"', page):
            inside = await page_at(session, area)
            assert re.findall(r'id="tally">([^<]+)<', inside) == [tally]
            assert len(cards(inside)) in (2, 0)
        told = await ask(session, "/api/v1/election")
        assert told["words"] == tally


async def test_a_list_has_pictures_and_says_which_camera_is_silent(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config, "s1/b")
    async with serving(config, clock=standing) as session:
        page = await page_at(session, "/")
        assert 'src="/live/s1/b/thumb.jpg"' in page  # of a camera that is live
        # a slate that says why there is none, in the language of the page
        assert 'src="/live/s2/a/thumb.jpg?lang=en"' in page
        said = cards(page)
        assert "Live: 1 of 2 cameras" in said["s1"] and "No picture: A" in said["s1"]
        assert "No picture" not in said["s2"]  # of none: the count says it


async def test_only_those_with_problems(tmp_path: Path) -> None:
    config = country(tmp_path)
    say(config, "s1/b", *(f"s{n}/{c}" for n in (2, 3, 4) for c in "ab"))
    async with serving(config, clock=standing) as session:
        page = await page_at(session, "/")
        assert 'href="/?faulty=1"' in page
        page = await page_at(session, "/?faulty=1")
        assert list(cards(page)) == ["s1"] and 'href="/"' in page
        told = await ask(session, "/api/v1/stations?faulty=1&region=turkistan")
        assert told["stations"] == [] and told["total"] == 0
        page = await page_at(session, "/?faulty=1&region=turkistan")
        assert "None of these stations has a problem now" in page and not cards(page)


async def test_a_failed_search_shows_near_ones_and_the_regions(tmp_path: Path) -> None:
    async with serving(country(tmp_path), clock=standing) as session:
        page = await page_at(session, "/?q=school%2099")
        assert "Nothing was found" in page and "Similar stations" in page and cards(page)
        assert 'href="/?region=almaty"' in page and 'href="/?region=turkistan"' in page
        page = await page_at(session, "/?q=%3Cscript%3E")
        assert 'value="<script>"' in page and page.count("<script>") == 1  # in the field, escaped
        assert 'href="/?region=almaty"' in page


async def test_the_nearest_come_first_with_their_distance(tmp_path: Path) -> None:
    async with serving(country(tmp_path), clock=standing) as session:
        page = await page_at(session, "/?near=43.239,76.890")
        assert list(cards(page)) == ["s1", "s2", "s3"]  # the fourth does not say where it is
        assert "Near you" in page and "1.2 km" in cards(page)["s2"] and " m" in cards(page)["s1"]
        told = await ask(session, "/api/v1/stations?near=42.4,69.8&limit=1")
        assert told["stations"][0]["id"] == "s3" and told["next_after"] == "s3"
        metres = [s["distance_m"] for s in told["stations"]]
        assert 3_000 < metres[0] < 5_000
        following = await ask(session, "/api/v1/stations?near=42.4,69.8&limit=9&after=s3")
        assert [s["id"] for s in following["stations"]] == ["s1", "s2"]
        for wrong in ("", "43", "43,76,1", "91,0", "0,181", "x,y", "nan,nan", "1e1,2"):
            await ask(session, f"/api/v1/stations?near={wrong}", 400)
            assert "is not a place" in await page_at(session, f"/?near={wrong}&q=1", 400)
        assert 'id="near"' in await page_at(session, "/")


async def test_without_coordinates_nobody_is_offered_what_is_near(tmp_path: Path) -> None:
    config = country(tmp_path)
    bare = [s.model_copy(update={"latitude": None, "longitude": None}) for s in config.stations]
    config = config.model_copy(update={"stations": tuple(bare)})
    async with serving(config, clock=standing) as session:
        assert 'id="near"' not in await page_at(session, "/")


DEGREES = st.tuples(st.floats(-90, 90), st.floats(-180, 180))


@given(DEGREES, st.lists(DEGREES, max_size=20))
def test_distances(here: tuple[float, float], places: list[tuple[float, float]]) -> None:
    stations = [
        Station(id=f"s{n}", time_zone="UTC", latitude=lat, longitude=lon)
        for n, (lat, lon) in enumerate(places)
    ]
    found = Nearby(stations).find(*here)
    assert sorted(found) == list(range(len(places)))
    assert all(a <= b for a, b in pairwise(found.values()))
    for place, metres in found.items():
        lat, lon = places[place]
        assert abs(Nearby([stations[place]]).find(*here)[0] - metres) == 0
        back = Nearby([Station(id="h", time_zone="UTC", latitude=here[0], longitude=here[1])])
        assert abs(back.find(lat, lon)[0] - metres) <= 1
        assert metres >= EARTH_M * abs(radians(lat) - radians(here[0])) - 1
        assert metres <= EARTH_M * 3.1416


async def test_stations_of_ones_own_stand_above(tmp_path: Path) -> None:
    async with serving(country(tmp_path), clock=standing) as session:
        page = await page_at(session, "/")
        assert re.search(r'<section id="mine"[^>]* hidden>', page)
        page = await page_at(session, "/?mine=s3,nothing,s1,s3,%3Cb%3E")
        own = re.search(r'<section id="mine"[^>]*>(.*?)</section>', page, re.S)
        assert own and list(cards(own[1])) == ["s3", "s1"] and "hidden" not in own[0][:60]
        assert "<b>" not in page


async def test_the_site_says_what_it_is_and_who_runs_it(tmp_path: Path) -> None:
    async with serving(country(tmp_path, operator=OPERATOR), clock=standing) as session:
        page = await page_at(session, "/about")
        for said in (
            "The Commission <b>",
            "1 Abai Avenue, Almaty",
            'href="tel:+77270000000"',
            'href="mailto:info@example.kz"',
            "<p>First paragraph.</p>",
            "<p>Be fair.</p>",
            "<p>Cite us.</p>",
            "<dd>2 hours</dd>",
            "<dd>365 days</dd>",
        ):
            assert said in page, said
        async with session.get("/about") as answer:
            raw = await answer.text()
        assert "&lt;b&gt;" in raw and "Second &lt;i&gt;paragraph" in raw
        home = await page_at(session, "/")
        assert "Watch your polling station live" in home and "Run by: The Commission" in home
        assert "Rewind on this site: 2 hours · Kept in the archive: 365 days" in home
        for path in ("/about", "/about#kept", "/help", "/help#gaps"):
            assert f'href="{path}"' in home
        assert "Комиссия RU" in await page_at(session, "/about?lang=ru")


async def test_what_the_operator_did_not_say_is_not_invented(tmp_path: Path) -> None:
    config = country(tmp_path, archives=["archive"])
    async with serving(config, clock=standing) as session:
        page = await page_at(session, "/about")
        assert "has not said who runs" in page and "without a limit" in page
        assert "Terms of use" not in page and "tel:" not in page
        assert "/copies/" not in page and "order a copy" not in page  # there are none here


@pytest.mark.parametrize("lang", LANGUAGES)
async def test_help_names_every_cause_of_a_gap(tmp_path: Path, lang: str) -> None:
    async with serving(country(tmp_path), clock=standing) as session:
        page = await page_at(session, f"/help?lang={lang}")
        for cause in CAUSES:
            assert f"<li>{describe_cause(cause, lang)}</li>" in page
        assert "%(" not in page and "{" not in page.partition("<main")[2]
