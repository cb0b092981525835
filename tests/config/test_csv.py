"""Stations as a table: what Excel and LibreOffice write, and what is said when it is wrong."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from base.i18n.gettext import LANGUAGES
from config.csvfile import COLUMNS
from config.model import Station
from tests.support.config_files import brief, problems, read

TABLE = """\
station_id,number,name,name_ru,latitude,longitude,exceptions,camera_id,title,url
s1,1,Hall,Зал,43.5,76.5,skip 2026-11-29T06:00/2026-11-29T07:00,c1,"A, or B",rtsp://10.0.0.1/a
,,,,,,,c2,,rtsp://u:${P}@10.0.0.2/a
s2,,,,,,,c1,,rtsp://10.0.0.3/a
s1,1,Hall,,,,,c3,,rtsp://10.0.0.4/a
s3,,,,,,,,,
"""
HEADER = "station_id,camera_id,url"


def stations(directory: Path, text: str | bytes) -> tuple[Station, ...]:
    return read(directory, {"P": "p"}, stations_csv=text).stations


def test_a_table(tmp_path: Path) -> None:
    s1, s2, s3 = stations(tmp_path, TABLE)
    assert [c.id for c in s1.cameras] == ["c1", "c2", "c3"]
    assert [c.id for c in s2.cameras] == ["c1"]
    assert s3.cameras == ()
    assert (s1.name.kk, s1.name.ru, s1.name.en) == ("Hall", "Зал", "Hall")
    assert s1.cameras[0].title.in_("en") == "A, or B"
    assert s1.cameras[1].url.reveal() == "rtsp://u:p@10.0.0.2/a"
    assert (s1.latitude, s1.longitude) == (43.5, 76.5)
    (exception,) = s1.exceptions
    assert (exception.start.hour, exception.end.hour, exception.record) == (6, 7, False)
    assert s2.number == "s2"
    assert s2.time_zone == "Asia/Almaty"


@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_what_spreadsheets_write_means_the_same(tmp_path: Path, newline: str, mark: bytes) -> None:
    semicolons = TABLE.replace('"A, or B"', "A+ or B").replace(",", ";").replace("A+", "A,")
    semicolons = semicolons.replace("43.5;76.5", "43,5;76,5")  # Russian and Kazakh settings
    data = mark + semicolons.replace("\n", newline).encode()
    assert stations(tmp_path, data) == stations(tmp_path, TABLE)


def test_order_of_columns_and_case_do_not_matter(tmp_path: Path) -> None:
    text = "\n\nURL, Camera_ID ,STATION_ID\n\n rtsp://h , c , s \n,,\n"
    ((camera,),) = (s.cameras for s in stations(tmp_path, text))
    assert (camera.id, camera.url.reveal()) == ("c", "rtsp://h")


@pytest.mark.parametrize(
    ("codec", "told"),
    [
        ("cp1251", "windows-1251"),
        ("cp866", "IBM 866 (DOS)"),
        ("koi8-r", "KOI8-R"),
        ("utf-16", "UTF-16 (in Excel: 'Unicode Text')"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("latin-1", "another encoding, or no text at all"),
    ],
)
def test_another_encoding_is_named(tmp_path: Path, codec: str, told: str) -> None:
    name = "\x80" if codec == "latin-1" else "Школа номер 12, город Алматы"
    text = f'{HEADER},name\ns1,c1,rtsp://h,"{name}"\n'
    (found,) = problems(tmp_path, stations_csv=text.encode(codec))
    assert found.what == f"is not UTF-8: it looks like {told}"
    assert "CSV UTF-8" in found.fix
    assert found.line == (1 if "utf" in codec else 2)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ["s.csv:1 station_id the column is missing", "s.csv:1 camera_id the column is missing",
              "s.csv:1 url the column is missing"]),
        (f"{HEADER},numbre\n", ["s.csv:1 unknown column"]),
        (f"{HEADER},hunter2\n", ["s.csv:1 unknown column"]),
        (f"{HEADER},url\n", ["s.csv:1 url the column is there twice"]),
        (f"{HEADER}\n", ["s.csv:1 the list is empty"]),
        (f"{HEADER}\n,c1,rtsp://h\n", ["s.csv:2 station_id is empty"]),
        (f"{HEADER}\ns1,c1,rtsp://h,x\n", ["s.csv:2 has 4 cells, but there are 3 columns"]),
        (f"{HEADER}\ns1,c1\n", ["s.csv:2 url is missing"]),
        (f"{HEADER}\ns1,,rtsp://h\n", ["s.csv:2 camera_id is missing"]),
        (f"{HEADER}\ns1,c1,rtsp://${{NO}}@h\n",
         ["s.csv:2 url the environment variable NO is not set"]),
        (f"{HEADER}\ns1,c1,rtsp://h\ns1,c1,rtsp://i\n",
         ["s.csv:3 camera_id the same id is on line 2 already"]),
        (f'{HEADER},number\ns1,c1,rtsp://h,"1\n2"\ns1,c2,rtsp://i,3\n',
         ["s.csv:4 number differs from line 2, where the station begins"]),
        # one mistake, the id, is one error
        (f"{HEADER},number,name,region,address\ns1,c1,rtsp://h,1,A,R,X\ns1,c2,rtsp://i,2,B,Q,Y\n",
         ["s.csv:3 number, name, region, address differ from line 2, where the station begins"]),
        (f'{HEADER}\ns1,c1,"rtsp://h\ns2,c1,rtsp://h\n',
         ["s.csv:2 a double quote is not closed, or something follows it"]),
        (f'{HEADER}\ns1,c1,"{"x" * 140_000}"\n',
         ["s.csv:2 a cell is longer than 131,072 characters"]),
        (f"{HEADER},exceptions\ns1,c1,rtsp://h,skip 1-2\n",
         ["s.csv:2 exceptions not a list of exceptions"]),
        (f"{HEADER},exceptions\ns1,c1,rtsp://h,skip 1/2026-11-29T06:00\n",
         ["s.csv:2 exceptions not a local time from 2000 to 2099"]),
        (f"{HEADER},number,title\ns1,c1,rtsp://h,rtsp://u:p@h,rtsp://u:p@h\n",
         ["s.csv:2 number an address where a text for people belongs",
          "s.csv:2 title an address where a text for people belongs"]),
        (f"{HEADER},transport,latitude,title_kk\nS1,C 1,h,tpc,91,x\n",
         ["s.csv:2 station_id not an id", "s.csv:2 latitude is too large",
          "s.csv:2 camera_id not an id", "s.csv:2 url the address does not begin with rtsp:// or "
          "rtsps://", "s.csv:2 transport not one of the choices"]),
    ],
)  # fmt: skip
def test_what_is_wrong(tmp_path: Path, text: str, told: list[str]) -> None:
    found = [
        brief(p).replace("stations.csv", "s.csv") for p in problems(tmp_path, stations_csv=text)
    ]
    # a table that cannot be read to its end has no stations, which may be told as well
    assert [f for f in found if "list is empty" not in f or len(found) == 1] == told


def test_warnings_have_the_line_of_the_row(tmp_path: Path) -> None:
    text = f"{HEADER},number\ns1,c1,rtsp://h,\ns1,c2,rtsp://h,\n"
    assert [brief(p) for p in read(tmp_path, stations_csv=text).warnings] == [
        "stations.csv:3 url s1/c2 has the address of s1/c1 on line 2"
    ]


def test_columns_are_those_of_the_models() -> None:
    from config.base import keys
    from config.model import Camera, Localized

    expected = set()
    for model, own in ((Station, "station_id"), (Camera, "camera_id")):
        for key, kind in keys(model).items():
            if key == "cameras":
                continue
            expected.add(own if key == "id" else key)
            if kind is Localized:
                expected.update(f"{key}_{language}" for language in LANGUAGES)
    assert set(COLUMNS) == expected
