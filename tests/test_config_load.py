"""kuager.yaml, YAML stations and credentials: what they mean, and what is said when wrong."""

from __future__ import annotations

import datetime
import os
import pickle
from pathlib import Path

import pytest
from pydantic import ValidationError

from config.load import load
from config.problems import ConfigError, UnreadableConfig
from tests.config_files import KUAGER, STATIONS, brief, problems, read

DEPLOY = Path(__file__).parents[1] / "deploy"


def test_the_example_means_what_it_says() -> None:
    config = load(DEPLOY / "kuager.example.yaml", {"CAMERA_PASSWORD": "pa/ss"})
    assert config.warnings == ()
    assert config.election.name.in_("en") == "Presidential election"
    assert config.election.polling_hours is not None
    assert config.election.polling_hours.end == datetime.time(20)
    assert [s.id for s in config.stations] == ["0117", "0842"]
    school, house = config.stations
    assert school.time_zone == "Asia/Almaty"
    assert house.time_zone == "Asia/Aqtau"
    assert [e.record for e in house.exceptions] == [True, False]
    box, table = school.cameras
    assert box.url.reveal() == "rtsp://viewer:pa%2Fss@10.17.0.11:554/stream1"
    assert (box.transport, box.audio) == ("tcp", "keep")
    assert (table.transport, table.audio) == ("auto", "drop")
    assert table.last_day == datetime.date(2026, 11, 30)
    assert config.spool == DEPLOY / "spool"
    assert config.archives[0].directory == DEPLOY / "archive"
    assert config.database_url == f"sqlite:///{DEPLOY}/kuager.db"
    assert (config.web.host, config.web.port, config.web.processes) == ("127.0.0.1", 8080, 2)
    assert config.rewind_s == 86400
    assert config.ffmpeg is None
    assert config.workers == os.cpu_count()
    assert config.path == DEPLOY / "kuager.example.yaml"


def test_the_yaml_and_the_csv_example_mean_the_same(tmp_path: Path) -> None:
    environ = {"CAMERA_PASSWORD": "x"}
    text = (DEPLOY / "kuager.example.yaml").read_text()
    (tmp_path / "k.yaml").write_text(text.replace("stations.example.yaml", "stations.example.csv"))
    (tmp_path / "stations.example.csv").write_bytes((DEPLOY / "stations.example.csv").read_bytes())
    from_yaml = load(DEPLOY / "kuager.example.yaml", environ)
    assert load(tmp_path / "k.yaml", environ).stations == from_yaml.stations


@pytest.mark.parametrize(
    "more",
    [
        "archives: [s3://bucket/a/b/]\n",
        "archives:\n- url: s3://bucket/a/b\n  endpoint: http://127.0.0.1:9000/\n  region: x\n"
        "  access_key_id: ${KEY}\n  secret_access_key: ${SECRET}\n",
    ],
)
def test_a_bucket(tmp_path: Path, more: str) -> None:
    kuager = KUAGER.replace("archives: [archive]\n", more)
    archive = read(tmp_path, {"KEY": "k", "SECRET": "s3"}, kuager_yaml=kuager).archives[0]
    assert (archive.bucket, archive.prefix, archive.directory) == ("bucket", "a/b", None)
    if archive.secret_access_key is not None:
        assert archive.secret_access_key.get_secret_value() == "s3"
        assert archive.endpoint == "http://127.0.0.1:9000"
        assert (archive.access_key_id, archive.region) == ("k", "x")
    assert "s3'" not in repr(archive)


@pytest.mark.parametrize(
    ("setting", "attribute", "value"),
    [
        ("rewind: 90s", "rewind_s", 90),
        ("rewind: 2d", "rewind_s", 172800),
        ("workers: 3", "workers", 3),
        ("pictures: 1m", "pictures_s", 60),
        ("pictures: off", "pictures_s", None),
        ("ffmpeg: /opt/ffmpeg", "ffmpeg", Path("/opt/ffmpeg")),
        ("ffmpeg: ffmpeg7", "ffmpeg", Path("ffmpeg7")),
        ("database: sqlite:////x/y.db", "database_url", "sqlite:////x/y.db"),
        (
            "database: postgresql://u:${PG}@host/db",
            "database_url",
            "postgresql://u:p%40%2F@host/db",
        ),
    ],
)
def test_settings(tmp_path: Path, setting: str, attribute: str, value: object) -> None:
    config = read(tmp_path, {"PG": "p@/"}, kuager_yaml=f"{KUAGER}{setting}\n")
    assert getattr(config, attribute) == value


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    more = "ffmpeg: tools/ffmpeg\ndatabase: sqlite:///db/k.db\n"
    config = read(tmp_path, kuager_yaml=KUAGER.replace("spool: spool", "spool: ../s") + more)
    assert config.spool == tmp_path.parent / "s"
    assert config.ffmpeg == tmp_path / "tools/ffmpeg"
    assert config.database_url == f"sqlite:///{tmp_path}/db/k.db"


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [("0.0.0.0:80", "0.0.0.0", 80), ("'[::1]:8080'", "::1", 8080), ("a-b.kz:1", "a-b.kz", 1)],
)
def test_listen(tmp_path: Path, listen: str, host: str, port: int) -> None:
    web = read(tmp_path, kuager_yaml=f"{KUAGER}web:\n  listen: {listen}\n").web
    assert (web.host, web.port, web.public_url) == (host, port, None)


def test_scalars_stay_text(tmp_path: Path) -> None:
    stations = "stations:\n  - {id: 0117, number: 0017, name: no, cameras: []}\n"
    kuager = f"{KUAGER}\n".replace("name: Test", "name: 1.10")
    kuager = kuager.replace("  windows:", "  polling_hours: {from: 07:00, to: 20:00}\n  windows:")
    config = read(tmp_path, kuager_yaml=kuager, stations_yaml=stations)
    (station,) = config.stations
    assert (station.id, station.number, station.name.in_("kk")) == ("0117", "0017", "no")
    assert config.election.name.in_("ru") == "1.10"


def test_names_fall_back(tmp_path: Path) -> None:
    stations = STATIONS.replace(
        "    cameras:", "    number: '7'\n    region: {ru: Р}\n    cameras:"
    )
    (station,) = read(tmp_path, stations_yaml=stations).stations
    assert station.name.in_("en") == "7"
    assert station.region.in_("en") == station.region.in_("de") == "Р"
    assert station.district.in_("kk") == ""
    assert station.cameras[0].title.in_("kk") == "c1"


def test_config_cannot_be_changed(tmp_path: Path) -> None:
    config = read(tmp_path)
    with pytest.raises(ValidationError):
        config.web.port = 1  # type: ignore[misc]
    assert hash(config.stations[0]) == hash(pickle.loads(pickle.dumps(config)).stations[0])


# -- logins ----------------------------------------------------------------------------------

LOGINS = """\
s1/c1: {user: one, password: "a/b@c"}
s1: {user: two, password_file: pw}
"*": {user: all, password: x}
"""


def test_the_nearest_login_is_taken(tmp_path: Path) -> None:
    stations = (
        f"{STATIONS}      - {{id: c3, url: 'rtsp://own:pw@10.0.0.3'}}\n"
        "  - {id: s2, cameras: [{id: c1, url: 'rtsp://[::1]:99?x=1'}]}\n"
    )
    (tmp_path / "pw").write_text("zwei\n")
    (tmp_path / "credentials.yaml").touch(0o600)
    config = read(
        tmp_path,
        kuager_yaml=f"{KUAGER}credentials: credentials.yaml\n",
        stations_yaml=stations,
        credentials_yaml=LOGINS,
    )
    assert [c.url.reveal() for s in config.stations for c in s.cameras] == [
        "rtsp://one:a%2Fb%40c@10.0.0.1/a",
        "rtsp://two:zwei@10.0.0.2/a",
        "rtsp://own:pw@10.0.0.3",
        "rtsp://all:x@[::1]:99?x=1",
    ]
    assert config.warnings == ()


def test_an_alias_is_a_copy(tmp_path: Path) -> None:
    # as PyYAML writes data in which one object stands twice
    stations = """\
stations:
- id: s1
  cameras: &id001
  - {id: c1, url: 'rtsp://10.0.0.1'}
- {id: s2, cameras: *id001}
"""
    (tmp_path / "credentials.yaml").touch(0o600)
    config = read(
        tmp_path,
        kuager_yaml=f"{KUAGER}credentials: credentials.yaml\n",
        stations_yaml=stations,
        credentials_yaml="s1: {user: a, password: b}\ns2: {user: c, password: d}\n",
    )
    urls = [c.url.reveal() for s in config.stations for c in s.cameras]
    assert urls == ["rtsp://a:b@10.0.0.1", "rtsp://c:d@10.0.0.1"]


def test_credentials_warn(tmp_path: Path) -> None:
    kuager = f"{KUAGER}credentials: credentials.yaml\n"
    (tmp_path / "credentials.yaml").touch(0o644)
    logins = "s1/c3: {user: a, password: b}\n"
    config = read(tmp_path, kuager_yaml=kuager, credentials_yaml=logins)
    assert [brief(p) for p in config.warnings] == [
        "credentials.yaml others than its owner may read it",
        "credentials.yaml:1 … no such station or camera",
    ]
    assert config.warnings[1].fix in ("did you mean 's1/c1'?", "did you mean 's1/c2'?")


def test_credentials_wrong(tmp_path: Path) -> None:
    (tmp_path / "credentials.yaml").touch(0o600)
    logins = 'A B: {user: a, password: b}\ns1: {usr: a}\n"*": x\n'
    kuager = f"{KUAGER}credentials: credentials.yaml\n"
    assert [brief(p) for p in problems(tmp_path, kuager_yaml=kuager, credentials_yaml=logins)] == [
        "credentials.yaml:1 … names no camera",
        "credentials.yaml:2 ….user is missing",
        "credentials.yaml:2 ….password is missing",
        "credentials.yaml:2 … unknown key",
        "credentials.yaml:3 … expected settings",
    ]


@pytest.mark.parametrize("content", [b"", b"\xff", b"a\nb\n", None])
def test_a_secret_file_that_holds_no_secret(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "Zx9").write_bytes(content)
    (found,) = problems(tmp_path, kuager_yaml=f"{KUAGER}database_file: Zx9\n")
    assert (found.line, found.where) == (11, "database_file")
    assert "Zx9" not in str(found)  # someone may have put the secret itself there


def test_secret_files(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("postgresql://u:p@h/d\n")
    assert read(tmp_path, kuager_yaml=f"{KUAGER}database_file: db\n").database_shown == (
        "postgresql://***@h/d"
    )
    both = f"{KUAGER}database_file: db\ndatabase: sqlite:///x\n"
    assert [brief(p) for p in problems(tmp_path, kuager_yaml=both)] == [
        "kuager.yaml:11 database_file 'database' is there too"
    ]


# -- what is wrong ---------------------------------------------------------------------------


def test_everything_wrong_is_told_at_once(tmp_path: Path) -> None:
    kuager = """\
election:
  id: Test 2026
  name: {kk: a, eng: b}
  date: 29.11.2026
  time_zone: Asia/Almatty
  windows:
    - {from: 2026-11-29T06:00, to: 2026-11-29T03:00}
    - {from: 2026-11-29T06:00, to: 2026-11-29T24:00}
stations: stations.yaml
spol: x
archives: [{url: gs://x, endpoint: x}]
database: mysql://x
web: {listen: 8080, processes: 0, public_url: ftp://x}
rewind: 24
rewind: 25
workers: many
ffmpeg:
pictures: 1s
"""
    stations = """\
stations:
  - id: a
    latitude: 143
    longitude: x
    cameras:
      - {id: A, url: rtsp://10.0.0.1, transport: tpc}
      - {id: b, url: "rtsp://a:p#w@h/1", audio: no, first_day: 2026-01-02, last_day: 2026-01-01}
      - {id: b, url: "rtsp://a:${NOPE}@h/1"}
  - id: a
    latitude: 1
    exceptions: {from: x}
    cameras: [foo]
  - 5
"""
    found = problems(tmp_path, kuager_yaml=kuager, stations_yaml=stations)
    assert [brief(p) for p in found] == [
        "kuager.yaml:15 rewind the same key is on line 14 already",
        "kuager.yaml:2 election.id not an id",
        "kuager.yaml:3 election.name unknown key",
        "kuager.yaml:4 election.date not a day from 2000 to 2099",
        "kuager.yaml:5 election.time_zone not a time zone that this machine knows",
        "kuager.yaml:7 election.windows[0] 'to' is not after 'from'",
        "kuager.yaml:8 election.windows[1].to not a local time from 2000 to 2099",
        "kuager.yaml:1 spool is missing",
        "kuager.yaml:11 archives[0].endpoint the address does not begin with http:// or https://",
        "kuager.yaml:12 database not a database that Kuager knows",
        "kuager.yaml:13 web.listen not an address to listen on",
        "kuager.yaml:13 web.public_url the address does not begin with http:// or https://",
        "kuager.yaml:13 web.processes is too small",
        "kuager.yaml:14 rewind not a length of time",
        "kuager.yaml:18 pictures shorter than 2 s or longer than 10 minutes",
        "kuager.yaml:17 ffmpeg has no value",
        "kuager.yaml:16 workers neither auto nor a number from 1 to 1024",
        "kuager.yaml:10 unknown key",
        "stations.yaml:8 stations[0].cameras[2].url the environment variable NOPE is not set",
        "stations.yaml:3 stations[0].latitude is too large",
        "stations.yaml:4 stations[0].longitude not a number",
        "stations.yaml:6 stations[0].cameras[0].id not an id",
        "stations.yaml:6 stations[0].cameras[0].transport not one of the choices",
        "stations.yaml:7 stations[0].cameras[1].url the address cannot be read",
        "stations.yaml:7 stations[0].cameras[1].audio not one of the choices",
        "stations.yaml:11 stations[1].exceptions expected a list",
        "stations.yaml:12 stations[1].cameras[0] expected settings",
        "stations.yaml:13 stations[2] expected settings",
        "stations.yaml:8 stations[0].cameras[2].id the same id is on line 7 already",
        "stations.yaml:9 stations[1].id the same id is on line 2 already",
    ]
    fixes = "\n".join(p.fix for p in found)
    for fix in ("did you mean Asia/Almaty?", "did you mean 'spool'?", "did you mean 'en'?"):
        assert fix in fixes
    assert "at most 90" in fixes


BOMB = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{f'*a{n - 1},' * 9}]\n" for n in range(1, 19))
CHAIN = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("url: rtsp://10.0.0.1/a", "url: http://10.0.0.1/a", "5 {}.url the address does not"),
        ("url: rtsp://10.0.0.1/a", "url: rtsp:///a", "5 {}.url the address has no host"),
        ("url: rtsp://10.0.0.1/a", "url: 'rtsp://h/a b'", "5 {}.url the address has a space"),
        ("url: rtsp://10.0.0.1/a", "url: 'rtsp://u:1/2@h/a'", "5 {}.url the address has a '@'"),
        ("url: rtsp://10.0.0.1/a", "url: [x]", "5 {}.url expected an address"),
        ("url: rtsp://10.0.0.1/a", "url: *x", "5 {}.url '*' means an alias here"),
        ("url: rtsp://10.0.0.1/a", "url: &x y", "5 {}.url '&' means an anchor here"),
        (STATIONS, "stations: &a [*a]", "1 stations[0] '*' means an alias here"),
        (STATIONS, "a: &a {b: 1}\nstations: [*a]", "2 stations[0].id is missing"),
        (STATIONS, CHAIN, "None  is nested too deep"),
        (STATIONS, BOMB, "None  has too much behind its aliases"),
        ("url: rtsp://10.0.0.1/a", "url: !x y", "5 {}.url '!' means a tag here"),
        ("url: rtsp://10.0.0.1/a", 'url: "\\0"', "5 {}.url has a control character"),
        ("url: rtsp://10.0.0.1/a", "url: x\n        last_day: 2026-01-01\n        "
         "first_day: 2026-01-02", "5 {}.url the address does not"),
        ("id: c1", "id: c1\n        last_day: 2026-01-01\n        first_day: 2026-01-02",
         "5 {}.last_day 'last_day' is before 'first_day'"),
        ("id: s1", "id: s1\n    latitude: 3", "2 stations[0] has only one of"),
        ("id: s1", "id: s1\n    latitude: nan\n    longitude: 1", "3 stations[0].latitude is too"),
        ("id: s1", "id: s1\n    time_zone: ../x", "3 stations[0].time_zone not a time zone"),
        (STATIONS, "", "None  the file is empty"),
        (STATIONS, "stations: []", "1 stations the list is empty"),
        (STATIONS, "[1]", "1  expected settings"),
        (STATIONS, "a: [1\n", "1  is not YAML: a quote or a bracket"),
        (STATIONS, "stations:\n\t- a", "2  is not YAML: a tab"),
        (STATIONS, "stations: 'a", "1  is not YAML: a quote or a bracket"),
        (STATIONS, "a: 1\n---\nb: 1", "None  has a second document"),
        (STATIONS, "[" * 100_000, "None  is nested too deep"),
        (STATIONS, "- " * 100_000, "None  is nested too deep"),
        (STATIONS, "? [a]\n: b", "1  a key that is not a text"),
        ("- id: c1", "- id: c1\n       x: 1", "5  is not YAML"),
    ],
)  # fmt: skip
def test_one_thing_wrong(tmp_path: Path, old: str, new: str, told: str) -> None:
    found = problems(tmp_path, stations_yaml=STATIONS.replace(old, new))
    told = told.format("stations[0].cameras[0]")
    lines = [f"{p.line} {p.where} {p.what}" for p in found]
    assert any(line.startswith(told) for line in lines), lines


@pytest.mark.parametrize(
    ("archive", "told"),
    [
        ("s3://B", "neither a directory nor s3://bucket/prefix"),
        ("~/x", "'~' has no meaning here"),
        ("{url: x, region: y}", "'region' has no meaning for a directory"),
        ("{url: s3://bucket, lock: compliance}", "'lock' without 'keep'"),
        ("{url: s3://bucket, kms_key_id: x}", "'kms_key_id' without 'encryption: aws:kms'"),
        ("{url: s3://bucket, encryption: rot13}", "not one of the choices"),
        ("{url: s3://bucket, read_back: 101%}", "not a share"),
        ("{url: s3://bucket, keep: 1h}", "shorter than a day"),
        ("{url: x}, {url: y}", "two archives have the same name"),
        ("{url: s3://bucket, access_key_id: x}", "has only one of"),
        ("{url: s3://bucket, endpoint: 'http://a:b@c'}", "the address holds a user name"),
    ],
)
def test_archive_wrong(tmp_path: Path, archive: str, told: str) -> None:
    kuager = KUAGER.replace("archives: [archive]", f"archives: [{archive}]")
    (found,) = problems(tmp_path, kuager_yaml=kuager)
    assert found.what.startswith(told)
    assert found.line == 10


def test_several_archives(tmp_path: Path) -> None:
    more = (
        "archives:\n- {name: near, url: archive, keep: 365d}\n"
        "- {name: far, url: s3://one/x, more_buckets: [two], lock: governance, keep: 400d}\n"
    )
    config = read(tmp_path, kuager_yaml=KUAGER.replace("archives: [archive]\n", more))
    near, far = config.archives
    assert near.directory == tmp_path / "archive" and near.keep == 365 * 86400
    assert (far.buckets, far.lock, far.read_back) == (("one", "two"), "governance", 100)
    assert config.archives_needed == 2
    one = KUAGER.replace("archives: [archive]\n", more + "archives_needed: 1\n")
    assert read(tmp_path, kuager_yaml=one).archives_needed == 1
    (found,) = problems(tmp_path, kuager_yaml=one.replace("needed: 1", "needed: 3"))
    assert found.what == "more than there are archives"


def test_a_wrong_time_zone_of_the_election_is_told_once(tmp_path: Path) -> None:
    kuager = KUAGER.replace("Asia/Almaty", "Asia")
    assert [p.line for p in problems(tmp_path, kuager_yaml=kuager)] == [5]


@pytest.mark.parametrize("name", ["gone.yaml", ".", "stations.txt", '"\\x01"', "/dev/zero"])
def test_a_stations_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "stations.txt").touch()
    kuager = KUAGER.replace("stations.yaml", name)
    assert all(p.line == 8 for p in problems(tmp_path, kuager_yaml=kuager))


def test_kuager_yaml_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", Path("a\0b")):
        with pytest.raises(UnreadableConfig):
            load(path, {})


def test_warnings(tmp_path: Path) -> None:
    stations = """\
stations:
  - id: s1
    cameras:
      - {id: c1, url: "rtsp://a:b@10.0.0.1/x"}
      - {id: c2, url: "rtsp://10.0.0.1/x"}
      - {id: c3, url: "rtsp://10.0.0.3/x", last_day: 2026-11-01}
  - id: s2
"""
    config = read(tmp_path, stations_yaml=stations)
    assert [brief(p) for p in config.warnings] == [
        "stations.yaml:5 stations[0].cameras[1].url s1/c2 has the address of s1/c1 on line 4",
        "stations.yaml:6 stations[0].cameras[2] s1/c3 is never recorded",
        "stations.yaml:7 stations[1] the station has no cameras",
    ]
    assert all(p.warning and p.fix for p in config.warnings)


def test_every_problem_is_in_the_text_of_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, kuager_yaml="x: 1\n")
    assert str(caught.value).splitlines() == [str(p) for p in caught.value.problems]
    assert f"{tmp_path}/kuager.yaml:1: election: is missing" in str(caught.value)


@pytest.mark.parametrize(
    ("written", "bytes_of_a_terabyte"),
    [("500M", 500 * 10**6), ("2G", 2 * 10**9), ("3%", 30 * 10**9), ("2T", 10**12), ("0%", 0)],
)
def test_the_reserve_of_the_spool(tmp_path: Path, written: str, bytes_of_a_terabyte: int) -> None:
    text = f"{KUAGER}spool_reserve: {written}\nspool_warn: [2h, 1d, 90s]\nspool_mount: .\n"
    limits = read(tmp_path, kuager_yaml=text).spool_limits
    assert limits.reserve.of(10**12) == bytes_of_a_terabyte
    assert limits.warn_s == (86400, 7200, 90)
    assert limits.mount == tmp_path


def test_limits_of_the_spool_that_cannot_be(tmp_path: Path) -> None:
    assert read(tmp_path).spool_limits.reserve.of(10**10) == 10**8
    assert read(tmp_path).spool_limits.reserve.of(10**12) == 10**9
    wrong = "spool_reserve: 80%\nspool_warn: [24]\nspool_mount: ~/x\n"
    found = [brief(p) for p in problems(tmp_path, kuager_yaml=KUAGER + wrong)]
    assert len(found) == 3 and all("spool_" in text for text in found), found
    wrong = "spool_reserve: 1 GiB\nspool_warn: 24h\n"
    assert len(problems(tmp_path, kuager_yaml=KUAGER + wrong)) == 2


@pytest.mark.parametrize("kind", ["csv", "yaml"])
def test_what_is_equal_is_kept_once(tmp_path: Path, kind: str) -> None:
    stations = {
        "stations_csv": "station_id,region_kk,camera_id,title_kk,url\n"
        "1,Абай,a,Урна,rtsp://h/1a\n1,Абай,b,Урна,rtsp://h/1b\n2,Абай,a,Урна,rtsp://h/2a\n",
        "stations_yaml": "stations:\n"
        "- {id: 1, region: {kk: Абай}, cameras: [{id: a, title: {kk: Урна}, url: 'rtsp://h/1a'},"
        " {id: b, title: {kk: Урна}, url: 'rtsp://h/1b'}]}\n"
        "- {id: 2, region: {kk: Абай}, cameras: [{id: a, title: {kk: Урна}, url: 'rtsp://h/2a'}]}\n",
    }
    key = f"stations_{kind}"
    one, two = read(tmp_path, None, **{key: stations[key]}).stations
    assert one.region is two.region and one.region.kk == "Абай"
    assert len({id(c.title) for s in (one, two) for c in s.cameras}) == 1
    assert one.__pydantic_fields_set__ is two.__pydantic_fields_set__
