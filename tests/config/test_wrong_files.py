"""kuager.yaml and YAML stations: what is said when something in them is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import load
from config.problems import ConfigError, UnreadableConfig
from tests.support.config_files import KUAGER, STATIONS, brief, problems, read


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
        ("{name: a, url: x}, {name: b, url: ./x/}", "two archives are in the same place"),
        (
            "{name: a, url: s3://one/x, more_buckets: [two]}, {name: b, url: s3://two/x/}",
            "two archives are in the same place",
        ),
        ("s3:/bucket/prefix", "neither a directory nor s3://bucket/prefix"),
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


def test_no_time_zone_far_away_is_proposed(tmp_path: Path) -> None:
    """Of UTC+5 the nearest name was UTC, of Asia/Nur-Sultan Asia/Seoul."""
    for zone, fix in (
        ("UTC+5", "write an IANA name such as Asia/Almaty"),
        ("Asia/Nur-Sultan", "write an IANA name such as Asia/Almaty"),
        ("localtime", "write an IANA name such as Asia/Almaty"),
        ("Asia/Almata", "did you mean Asia/Almaty?"),
        ("asia/almaty", "did you mean Asia/Almaty?"),
    ):
        (found,) = problems(tmp_path, kuager_yaml=KUAGER.replace("Asia/Almaty", zone))
        assert (found.line, found.fix) == (5, fix)


def test_a_machine_takes_no_more_cameras_than_a_database_can_count(tmp_path: Path) -> None:
    node = "database: postgresql:///d\nnode: {name: n, address: '10.0.0.5:1', cameras: %s}\n"
    (found,) = problems(tmp_path, kuager_yaml=KUAGER + node % "9999999999")
    assert brief(found) == "kuager.yaml:12 node.cameras is too large"
    assert found.fix == "write at most 100000"


def test_a_secret_file_without_a_name(tmp_path: Path) -> None:
    copies = "copies: {free: true, mail: {host: h, user: u, password_file: , from: a@b.kz}}\n"
    text = KUAGER + copies + "web: {public_url: https://live.example.kz}\n"
    (found,) = problems(tmp_path, kuager_yaml=text)
    assert brief(found) == "kuager.yaml:11 copies.mail.password_file names no file"


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


def test_limits_of_the_spool_that_cannot_be(tmp_path: Path) -> None:
    assert read(tmp_path).spool_limits.reserve.of(10**10) == 10**8
    assert read(tmp_path).spool_limits.reserve.of(10**12) == 10**9
    wrong = "spool_reserve: 80%\nspool_warn: [24]\nspool_mount: ~/x\n"
    found = [brief(p) for p in problems(tmp_path, kuager_yaml=KUAGER + wrong)]
    assert len(found) == 3 and all("spool_" in text for text in found), found
    wrong = "spool_reserve: 1 GiB\nspool_warn: 24h\n"
    assert len(problems(tmp_path, kuager_yaml=KUAGER + wrong)) == 2


def test_a_password_of_machines_is_long_and_not_shown(tmp_path: Path) -> None:
    node = "database: postgresql://u:p@h/d\nnode: {name: n, address: '10.0.0.5:1', password: %s}\n"
    (found,) = problems(tmp_path, kuager_yaml=KUAGER + node % "qwertzuiopasdfg")
    assert brief(found) == "kuager.yaml:12 node.password is shorter than 16 characters"
    assert "qwertz" not in str(found)
    config = read(tmp_path, kuager_yaml=KUAGER + node % "qwertzuiopasdfgh")
    assert config.node is not None and config.node.password is not None
    assert "qwertz" not in repr(config)


@pytest.mark.parametrize(
    ("node", "listen", "met"),
    [
        ("10.0.0.5:8080", "0.0.0.0:8080", "web.listen"),
        ("n1:8080", "127.0.0.1:8080", "web.listen"),  # a name may be any address
        ("127.0.0.1:8081", "0.0.0.0:8080", "web.operators"),  # the port after that of listen
        ("10.0.0.5:8081", "0.0.0.0:8080", None),
    ],
)
def test_what_machines_tell_each_other_is_on_a_port_of_its_own(
    tmp_path: Path, node: str, listen: str, met: str | None
) -> None:
    """Else the system would give a visitor to either, and all that is in the spool to anybody."""
    text = f"database: postgresql:///d\nnode: {{name: n, address: '{node}'}}\n"
    text = f"{KUAGER}{text}web: {{listen: '{listen}'}}\n"
    if met is None:
        assert read(tmp_path, kuager_yaml=text).node is not None
        return
    (found,) = problems(tmp_path, kuager_yaml=text)
    assert brief(found) == f"kuager.yaml:12 node is the address of '{met}'"
