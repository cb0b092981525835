"""kuager.yaml, YAML stations, credentials and secret files: what they mean."""

from __future__ import annotations

import datetime
import os
import pickle
import zoneinfo
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError

from config import load as load_module
from config.load import load
from config.problems import ConfigError
from config.yamlfile import YamlDocument, read_yaml
from tests.support.config_files import KUAGER, STATIONS, brief, problems, read, write
from tests.support.repository import ROOT

DEPLOY = ROOT / "deploy"


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
        ("archive_low: true", "archive_low", True),
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


@pytest.mark.parametrize(
    ("listen", "operators", "wrong"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080", True),
        ("0.0.0.0:8080", "127.0.0.1:8080", True),  # a proxy here would show metrics to all
        ("127.0.0.1:8080", "0.0.0.0:8080", True),
        ("[::]:8080", "127.0.0.1:8080", True),
        ("[::1]:8080", "[0:0:0:0:0:0:0:1]:8080", True),
        ("localhost:8080", "127.0.0.1:8080", True),
        ("live.example:80", "LIVE.example:80", True),
        ("192.0.2.1:8080", "127.0.0.1:8080", False),
        ("[::1]:8080", "127.0.0.1:8080", False),
        ("0.0.0.0:8080", "0.0.0.0:8081", False),
        ("localhost:8080", "localhost:8081", False),
    ],
)
def test_operators_are_told_at_an_address_of_their_own(
    tmp_path: Path, listen: str, operators: str, wrong: bool
) -> None:
    web = f"web: {{listen: '{listen}', operators: '{operators}'}}\n"
    path = write(tmp_path, kuager_yaml=KUAGER + web)
    if wrong:
        with pytest.raises(ConfigError, match="is the address of the public pages"):
            load(path, {})
    else:
        assert load(path, {}).web.operators_port


def test_a_proxy_may_be_written_as_a_socket_of_ipv6_shows_it(tmp_path: Path) -> None:
    written = "['::ffff:10.1.2.3', '::ffff:10.2.0.0/112', '2001:db8::/32', 'fc00::/7']"
    path = write(tmp_path, kuager_yaml=f"{KUAGER}web: {{trusted_proxies: {written}}}\n")
    found = [str(network) for network in load(path, {}).web.trusted_proxies]
    assert found == ["10.1.2.3/32", "10.2.0.0/16", "2001:db8::/32", "fc00::/7"]


def test_not_everybody_is_a_proxy(tmp_path: Path) -> None:
    for network in ("0.0.0.0/0", "::/0", "::ffff:0.0.0.0/96", "128.0.0.0/1", "2000::/3"):
        path = write(tmp_path, kuager_yaml=f"{KUAGER}web: {{trusted_proxies: ['{network}']}}\n")
        with pytest.raises(ConfigError, match="far more addresses"):
            load(path, {})


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


def test_a_second_stream_is_recorded_as_the_first_under_its_own_name(tmp_path: Path) -> None:
    camera = (
        "- {id: c3, url: 'rtsp://10.0.0.3/1', low_url: 'rtsp://10.0.0.3/2', source: native,"
        " transport: udp, audio: drop, video_track: 2, last_day: 2026-11-29}"
    )
    (tmp_path / "pw").write_text("zwei\n")
    (tmp_path / "credentials.yaml").touch(0o600)
    config = read(
        tmp_path,
        kuager_yaml=f"{KUAGER}credentials: credentials.yaml\n",
        stations_yaml=f"{STATIONS}      {camera}\n",
        credentials_yaml=LOGINS,
    )
    first, second = config.stations[0].cameras[2].streams
    assert (first.url.reveal(), first.id) == ("rtsp://two:zwei@10.0.0.3/1", "c3")
    assert (second.url.reveal(), second.id) == ("rtsp://two:zwei@10.0.0.3/2", "c3.low")
    changed = {"id", "url", "low_url", "video_track"}
    assert first.model_dump(exclude=changed) == second.model_dump(exclude=changed)
    assert second.video_track is None and second.low is None and "zwei" not in repr(second)
    assert config.stations[0].cameras[0].streams == config.stations[0].cameras[:1]


def test_a_second_stream_with_the_address_of_the_first(tmp_path: Path) -> None:
    table = "station_id,camera_id,url,low_url\ns1,c1,rtsp://u:p@10.0.0.1/a,rtsp://10.0.0.1/a\n"
    assert [brief(p) for p in read(tmp_path, stations_csv=table).warnings] == [
        "stations.csv:2 low_url s1/c1.low has the address of s1/c1 on line 2"
    ]


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
        "credentials.yaml others than its owner and group may read it",
        "credentials.yaml:1 … no such station or camera",
    ]
    assert config.warnings[1].fix in ("did you mean 's1/c1'?", "did you mean 's1/c2'?")


def test_an_old_time_zone_database_is_a_warning(tmp_path: Path) -> None:
    """Of before 1 March 2024 it has Almaty an hour further east: the last hour would be missing."""
    (tmp_path / "Asia").mkdir()
    omsk = resources.files("tzdata").joinpath("zoneinfo", "Asia", "Omsk").read_bytes()
    (tmp_path / "Asia" / "Almaty").write_bytes(omsk)
    assert not read(tmp_path).warnings
    try:
        zoneinfo.reset_tzpath([tmp_path])
        ZoneInfo.clear_cache()
        (told,) = read(tmp_path).warnings
        assert brief(told) == (
            "stations.yaml:2 stations[0].time_zone Asia/Almaty is +0600 on 2026-11-29 by the time"
            " zone database of this machine, and +0500 by that which came with Kuager"
        )
    finally:
        zoneinfo.reset_tzpath()
        ZoneInfo.clear_cache()


@pytest.mark.parametrize(("zone", "means"), [("Etc/GMT+5", "UTC-5"), ("Etc/GMT-12", "UTC+12")])
def test_an_offset_with_the_sign_of_posix_is_a_warning(
    tmp_path: Path, zone: str, means: str
) -> None:
    """Who means UTC+5 would record ten hours late."""
    (told,) = read(tmp_path, kuager_yaml=KUAGER.replace("Asia/Almaty", zone)).warnings
    assert brief(told) == f"stations.yaml:2 stations[0].time_zone {zone} means {means}"
    assert not read(tmp_path, kuager_yaml=KUAGER.replace("Asia/Almaty", "Etc/GMT")).warnings


def test_an_address_is_the_same_with_the_port_that_it_has_anyway(tmp_path: Path) -> None:
    (told,) = read(
        tmp_path, stations_yaml=STATIONS.replace("10.0.0.2/a", "u:p@10.0.0.1:554/a")
    ).warnings
    assert told.what == "s1/c2 has the address of s1/c1 on line 5"
    other = STATIONS.replace("rtsp://10.0.0.2/a", "rtsps://10.0.0.1/a")
    assert not read(tmp_path, stations_yaml=other).warnings


def test_credentials_that_are_replaced_while_they_are_read_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editor may have renamed them away, and not have written the others yet."""

    def reading(path: Path, *others: Any) -> YamlDocument | None:
        document = read_yaml(path, *others)
        if path.name == "credentials.yaml":
            path.unlink()
        return document

    monkeypatch.setattr(load_module, "read_yaml", reading)
    text = KUAGER + "credentials: credentials.yaml\n"
    config = read(tmp_path, kuager_yaml=text, credentials_yaml='"*": {user: a, password: b}\n')
    assert config.stations[0].cameras[0].url.reveal() == "rtsp://a:b@10.0.0.1/a"


def test_an_empty_name_is_none(tmp_path: Path) -> None:
    """Programs write '' for nothing: a station or an angle without a name cannot be clicked."""
    empty = "stations:\n- {id: s1, number: '', name: {ru: ''}, cameras:\n"
    empty += "  [{id: c1, title: ' ', url: 'rtsp://h/1'}]}\n"
    (station,) = read(tmp_path, stations_yaml=empty).stations
    assert (station.number, station.name.in_("kk")) == ("s1", "s1")
    assert station.cameras[0].title.in_("ru") == "c1"


def test_a_mount_that_guards_nothing_is_a_warning(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    named = (
        "archives:\n- {name: a, url: disk/a, mount: other}\n- {name: b, url: disk, mount: disk}\n"
    )
    text = KUAGER.replace("archives: [archive]\n", named + "spool_mount: disk\n")
    what = "is neither the directory that it is to guard nor one above it"
    assert [brief(p) for p in read(tmp_path, kuager_yaml=text).warnings] == [
        f"kuager.yaml:13 spool_mount {what}",
        f"kuager.yaml:11 archives[0].mount {what}",
    ]
    text = text.replace("spool: spool", "spool: link/spool").replace("other", "link")
    assert not read(tmp_path, kuager_yaml=text).warnings


def test_logins_of_other_machines_are_told_together(tmp_path: Path) -> None:
    """A country's credentials beside the stations of a region: to look for the name that each of
    40,000 was to be took a quarter of an hour, at each start."""
    (tmp_path / "credentials.yaml").touch(0o600)
    logins = "".join(f"x{n}: {{user: a, password: b}}\n" for n in range(1000))
    kuager = f"{KUAGER}credentials: credentials.yaml\n"
    told = [brief(p) for p in read(tmp_path, kuager_yaml=kuager, credentials_yaml=logins).warnings]
    assert told[:2] == [f"credentials.yaml:{n} … no such station or camera" for n in (1, 2)]
    assert told[20:] == ["credentials.yaml:1 980 more of no station or camera in the stations file"]


def test_credentials_may_be_read_by_the_group_of_kuager(tmp_path: Path) -> None:
    """As docs/install.md has them: of root, and readable for the group. With 600, Kuager's user
    could read them no longer."""
    (tmp_path / "credentials.yaml").touch()
    (tmp_path / "credentials.yaml").chmod(0o640)
    kuager = f"{KUAGER}credentials: credentials.yaml\n"
    logins = "s1/c1: {user: a, password: b}\n"
    assert not read(tmp_path, kuager_yaml=kuager, credentials_yaml=logins).warnings


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
