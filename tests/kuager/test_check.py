"""`kuager check` as an operator sees it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from base.clock import now_ms
from base.durable import replace_file
from config.load import load
from kuager.check import _measured, _Sink
from kuager.preflight import Finding, _archive, _ports, look, schedule_warnings
from kuager.reload import lock_spool
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from recorder.rtsp.description import Description
from recorder.source import Frame, PacketCounts
from storage.archive.port import ArchiveError, Fault, ObjectNotFound
from storage.archive.s3_client import S3Client
from storage.spool.disk import claim_spool
from streaming.http.ports import claimed
from tests.support.config_files import KUAGER, STATIONS, write
from tests.support.frames import UTC0, VIDEO
from tests.support.mailbox import mailbox
from tests.support.repository import ROOT
from tests.support.rtsp_camera import GOP, Camera, film, h264, sdp_of, serving
from tests.support.s3 import BUCKET, KEY, SECRET, free_port, rclone
from tests.support.waiting import BOUND_S, until
from tests.support.wire import play

FREE_PORT = f'{KUAGER}web: {{listen: "127.0.0.1:{free_port()}"}}\n'


def check(path: Path, *options: str, **environ: str) -> tuple[int, str, str]:
    """Run `kuager check`; return its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "kuager", "check", "--config", str(path), *options],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", "LANG": "C.UTF-8", **environ},
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def living(path: Path, said: dict[str, Any]) -> Iterator[None]:
    """Have a process say something of itself, again and again, as one that lives does."""
    ended = threading.Event()

    def say() -> None:
        while True:
            replace_file(path, json.dumps({"written_ms": now_ms(), **said}).encode())
            if ended.wait(0.5):
                return

    saying = threading.Thread(target=say)
    saying.start()
    try:
        yield
    finally:
        ended.set()
        saying.join()


@pytest.mark.slow
def test_the_example_is_well(tmp_path: Path) -> None:
    for name in ("kuager", "stations"):  # a copy, because the spool is made beside it
        shutil.copy(ROOT / f"deploy/{name}.example.yaml", tmp_path)
    example = tmp_path / "kuager.example.yaml"
    port = free_port()
    text = example.read_text().replace(":8080", f":{port}").replace(":8081", f":{port + 1}")
    example.write_text(text)
    code, out, err = check(example, CAMERA_PASSWORD="Zx9Qw7")
    assert (code, err) == (0, "")
    assert "Presidential election (president-2026), 2026-11-29" in out
    assert "2, with 3 cameras" in out
    assert "2026-11-29 06:00 +0500 │ 2026-11-30 03:00 +0500 │ 21.00" in out
    assert "2026-11-29 06:30 +0500 │ 2026-11-30 03:00 +0500 │ 20.50" in out
    assert "ballot-box, counting-table" in out
    assert "Zx9Qw7" not in out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("rewind: 10m\nworkers: 1\n", ["back in time 10 min", "1 process\n"]),
        ("rewind: 90m\nworkers: 3\n", ["back in time 1 h 30 min", "3 processes\n"]),
    ],
)
def test_numbers_are_written_as_people_write_them(
    tmp_path: Path, settings: str, said: list[str]
) -> None:
    code, out, _ = check(write(tmp_path, kuager_yaml=FREE_PORT + settings))
    assert code == 0
    lines = "".join(f"{line.rstrip()}\n" for line in out.splitlines())
    assert all(words in lines for words in said), out


@pytest.mark.slow
def test_wrong_is_1(tmp_path: Path) -> None:
    path = write(tmp_path, stations_yaml=STATIONS.replace("id: c2", "id: c1"), kuager_yaml=KUAGER)
    code, out, err = check(path)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"error: {tmp_path}/stations.yaml:6: stations[0].cameras[1].id: "
        "the same id is on line 4 already; write another id",
        "1 to put right.",
    ]


@pytest.mark.slow
def test_unread_is_2(tmp_path: Path) -> None:
    code, out, err = check(tmp_path / "kuager.yaml")
    assert (code, out) == (2, "")
    assert f"{tmp_path}/kuager.yaml: cannot be read: no such file or directory" in err


@pytest.mark.slow
def test_warnings_and_odd_names_are_shown_as_they_are(tmp_path: Path) -> None:
    stations = STATIONS.replace("10.0.0.2", "10.0.0.1").replace(
        "    cameras:", "    name: '[bold]School[/x]'\n    cameras:"
    )
    code, out, err = check(write(tmp_path, kuager_yaml=FREE_PORT, stations_yaml=stations))
    assert code == 0
    assert "[bold]School[/x]" in out
    (warning,) = err.splitlines()
    assert warning.startswith(f"warning: {tmp_path}/stations.yaml:8: stations[0].cameras[1].url: ")


def test_dates_that_were_mistyped_are_told(tmp_path: Path) -> None:
    """Every camera is well then, and none is recorded on the day."""
    config = load(write(tmp_path), {})
    ends_ms = 1_795_989_600_000  # 2026-11-30T03:00 in Almaty
    assert not schedule_warnings(config, ends_ms - 1)
    (told,) = schedule_warnings(config, ends_ms)
    assert told.startswith(
        "nothing is to be recorded any more: the last window ended 2026-11-29 22"
    )
    later = KUAGER.replace(
        "{from: 2026-11-29T06:00, to: 2026-11", "{from: 2026-12-29T06:00, to: 2026-12"
    )
    (told,) = schedule_warnings(load(write(tmp_path, kuager_yaml=later), {}), ends_ms)
    assert told == "no window is on the day of the vote, 2026-11-29: look at 'windows'"
    hours = '  polling_hours: {from: "07:00", to: "20:00"}\nstations:'
    voting = KUAGER.replace("stations:", hours)
    assert not schedule_warnings(load(write(tmp_path, kuager_yaml=voting), {}), 0)
    morning = voting.replace("to: 2026-11-30T03:00", "to: 2026-11-29T08:00")  # 20:00 was meant
    (told,) = schedule_warnings(load(write(tmp_path, kuager_yaml=morning), {}), 0)
    assert told == (
        "12.0 h of the polling hours, 07:00 to 20:00 on 2026-11-29, are in no window: look at both"
    )


@pytest.mark.slow
def test_a_clock_that_recorders_do_not_believe_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, kuager_yaml=FREE_PORT)
    spool = load(path, {}).spool
    claim_spool(spool)
    clock = {"synchronized": True, "doubt": "it is off by +1.0 days"}
    with living(spool / "_status/recorder-0.json", {"cameras": {}, "clock": clock}):
        _, out, _ = check(path)
    assert "warning: the clock: it is off by +1.0 days" in out


@pytest.mark.slow
def test_a_large_election_is_summed_up(tmp_path: Path) -> None:
    lines = ["station_id,camera_id,url,last_day"]
    lines += [f"s{n},c1,rtsp://10.1.{n}.1/,{'2026-11-29' if n % 2 else ''}" for n in range(60)]
    lines += ["s60,c1,rtsp://10.2.0.1/,2026-11-01"]
    kuager = FREE_PORT.replace("stations.yaml", "stations.csv")
    code, out, err = check(write(tmp_path, kuager_yaml=kuager, stations_csv="\n".join(lines)))
    assert code == 0
    assert "s60/c1 is never recorded" in err
    assert "and 11 more" in out
    counted = [line.split() for line in out.splitlines() if "Asia/Almaty" in line]
    assert [(line[-4], line[-2]) for line in counted] == [("30", "30"), ("30", "30"), ("1", "1")]
    assert "never" in counted[-1]


@pytest.mark.slow
async def test_probe_says_what_each_camera_sends_and_what_to_do(
    tmp_path: Path, ffmpeg: str
) -> None:
    small = {"width": 480, "height": 270}
    cameras = [
        SimCamera("well", audio="aac", user="u", password="s3cret-word", gop_s=1, **small),  # type: ignore[arg-type]
        SimCamera("hour", shared="well"),
        SimCamera("h265", codec="h265", fps=10, gop_s=1, **small),  # type: ignore[arg-type]
        SimCamera("long", gop_s=3600, **small),  # type: ignore[arg-type]
    ]
    async with Simulator(cameras, ffmpeg=ffmpeg) as simulator:
        simulator.fault("hour", "step-clock", 3600)
        well = simulator.url("well")
        urls = {name: simulator.url(name) for name in ("well", "hour", "h265", "long")} | {
            "password": well.replace("s3cret-word", "other-word"),
            "path": well.replace("/well", "/nothing"),
            "away": "rtsp://127.0.0.1:1/x",
        }
        listed = "".join(f"      - {{id: {n}, url: '{url}'}}\n" for n, url in urls.items())
        listed = listed.replace("}\n", f", low_url: '{simulator.url('hour')}'}}\n", 1)
        listed = listed.replace(f"'{urls['h265']}'", f"'{urls['h265']}', source: ffmpeg")
        path = write(tmp_path, stations_yaml="stations:\n  - id: s1\n    cameras:\n" + listed)
        for name in ("hour", "h265", "long"):  # their encoders have begun
            wire = await play(simulator.url(name))
            await until(lambda wire=wire: len(wire.pictures()) > 20)  # type: ignore[misc]
            await wire.close()
        code, out, err = await asyncio.to_thread(check, path, "--probe", COLUMNS="80")
    assert code == 1 and "Traceback" not in err
    assert "s3cret-word" not in out + err and "other-word" not in out + err
    rows: dict[str, str] = {}
    for line in out.splitlines():
        if line.startswith(("ok ", "WRONG ")):
            word, _, rest = line.partition(" ")
            name, _, text = rest.strip().removeprefix("s1/").partition(": ")
            rows[name] = f"{word} {text}"
        elif line.startswith("       -> "):
            rows[name] += f" -> {line[10:]}"
    shown = re.fullmatch(
        r"ok h264 480x270, ([0-9.]+) pictures/s, keyframe every ([0-9.]+) s, sound aac,"
        r" clock ([+-][0-9.]+) s, read natively",
        rows["well"],
    )
    # a busy machine sends fewer pictures, and keyframes as much later: see the test of what is
    # measured
    assert shown and 3 <= float(shown[1]) <= 16 and abs(float(shown[3])) < 0.5
    assert 1.0 <= float(shown[2]) <= 5.0
    assert re.search(r"clock \+(3599\.[5-9]|3600\.[01]) s, .*-> .*NTP", rows["hour"])
    # on a busy machine it can have no second keyframe in that time
    assert rows["h265"].startswith("ok h265 ")
    assert "through ffmpeg: the configuration says so" in rows["h265"]
    assert ("->" in rows["h265"]) == ("rarer than" in rows["h265"])
    assert "WRONG" in rows["long"] and "-> set its keyframe interval" in rows["long"]
    assert "refuses user name or password (401) -> check user" in rows["password"]
    assert "no such stream (404) -> check the path" in rows["path"]
    assert rows["away"] == (
        "WRONG 127.0.0.1:1 refuses the connection"
        " -> check the port, and that RTSP is switched on in the camera"
    )
    assert "3 of 7 cameras answer with a picture." in out
    assert rows["well.low"].startswith("ok h264 480x270, ")
    assert "1 of 1 second streams answer with a picture." in out


def test_what_a_probe_measures() -> None:
    """The rate of what comes in time, how long it was watched, the clock by the least delay."""
    track = replace(VIDEO, width=640, height=360)

    def said(seconds: float, gop: int, late_ms: Callable[[int], float]) -> Finding:
        sink = _Sink()
        sink.on_tracks([track], ())
        for n in range(int(seconds * 15)):
            taken = UTC0 + n * 1000 / 15
            at = max(UTC0 + 500, taken) + late_ms(n)
            frame = Frame(track.id, n * 6000, n % gop == 0, b"", at, taken + 5_000)
            sink.on_frame(frame)
            sink.on_frame(frame._replace(continues=True))  # another slice of it
        packets = [PacketCounts(received=997, lost=3)]
        return _measured("s/c", Description("h264", None), sink, packets, "read natively")

    found = said(8, 30, lambda n: 20 if n == 60 else 420)
    assert found.seen[1:] == (
        "15.0 pictures/s",
        "keyframe every 2.0 s",
        "sound none",
        "3 of 1,000 packets lost",
        "clock +5.0 s",
        "read natively",
    )
    assert found.to_do == ("the camera's clock is off: give it an NTP server",)
    found = said(3, 60, lambda n: 20)
    assert found.seen[2] == "keyframe rarer than every 2 s", "it was watched for no longer"


@pytest.mark.slow
async def test_a_camera_that_begins_late_is_watched_as_long(tmp_path: Path, ffmpeg: str) -> None:
    first = film(ffmpeg)[:GOP]
    rare = [*first, *first[1:], *first[1:]]  # a keyframe every three intervals
    camera = Camera(sdp_of(h264(rare)), films=[rare], begins_s=6)
    async with serving(camera):
        listed = f"stations:\n  - id: s1\n    cameras: [{{id: c, url: '{camera.url()}'}}]\n"
        path = write(tmp_path, stations_yaml=listed)
        _, out, _ = await asyncio.to_thread(check, path, "--probe")
    assert "keyframe every" in out and "rarer" not in out


@pytest.mark.slow
def test_probe_without_ffmpeg_could_not_run(tmp_path: Path) -> None:
    path = write(tmp_path, kuager_yaml=KUAGER + "ffmpeg: /no/such/ffmpeg\n")
    code, _, err = check(path, "--probe")
    assert code == 2 and "is not a program that can be run" in err
    code, out, _ = check(path)
    assert code == 1 and "WRONG  ffmpeg: ffmpeg: /no/such/ffmpeg is not a program" in out


def needs(folder: Path, settings: str, **environ: str) -> tuple[int, dict[str, str]]:
    """Check a configuration with more settings; return the exit code and what was said of what."""
    path = write(folder, kuager_yaml=KUAGER.replace("archives: [archive]\n", "") + settings)
    code, out, _ = check(path, **environ or {"HTTPS_PROXY": "http://proxy.example:3128"})
    lines = re.sub(r"\n +-> ", " -> ", out).splitlines()
    found = [line.split(": ", 1) for line in lines if line.startswith(("ok ", "WRONG "))]
    return code, dict(found)


def bucket(port: int, name: str = BUCKET, secret: str = SECRET) -> str:
    return (
        f"archives:\n- url: s3://{name}/p\n  endpoint: http://127.0.0.1:{port}\n"
        f"  region: us-east-1\n  access_key_id: {KEY}\n  secret_access_key: {secret}\n"
    )


@pytest.mark.slow
def test_what_run_needs_is_tried(tmp_path: Path) -> None:
    port, web = free_port(), free_port()
    listen = f"web: {{listen: '127.0.0.1:{web}'}}\n"
    with rclone(tmp_path / "s3", port):
        code, said = needs(tmp_path, bucket(port) + listen)
        assert code == 0 and {name.split()[0] for name in said} == {"ok"}, said
        assert "written, read and removed" in said["ok     archive archive"]
        assert not list((tmp_path / "s3").rglob("check-*")), "nothing stays"
        assert "made at the first start" in said["ok     database"]
        unused = "HTTPS_PROXY is set, no archive is reached through one"
        assert said["ok     proxy"] == unused, "the endpoint speaks HTTP"
        assert not (tmp_path / "kuager.db").exists() and not (tmp_path / "spool").exists()
        code, said = needs(tmp_path, bucket(port, secret="not-the-secret") + listen)
        assert code == 1 and "WRONG  archive archive" in said, said
        assert "not-the-secret" not in str(said)
        code, said = needs(tmp_path, bucket(port, name="no-such-bucket") + listen)
        assert code == 1 and "no-such-bucket" in said["WRONG  archive archive"]
    code, said = needs(tmp_path, bucket(port) + listen)
    assert code == 1 and "cannot be reached" in said["WRONG  archive archive"]
    with socket.create_server(("127.0.0.1", web)):
        code, said = needs(tmp_path, "archives: [archive]\n" + listen)
        assert code == 1 and "in use by another program" in said["WRONG  port"]
    with socket.create_server(("127.0.0.1", web + 1)):
        code, said = needs(tmp_path, "archives: [archive]\n" + listen)
        assert code == 1 and "web.operators" in said["WRONG  port of operators"]
    wrong = f"database: postgresql://u:pass-of-u@127.0.0.1:{port}/d\n"
    code, said = needs(tmp_path, "archives: [archive]\n" + wrong + listen)
    assert code == 1 and "connection refused" in said["WRONG  database"]
    assert "pass-of-u" not in str(said)


@pytest.mark.slow
def test_a_proxy_is_named_where_it_is_used(tmp_path: Path) -> None:
    """This S3 server takes requests as a proxy gets them; without it nobody knows the name."""
    port, listen = free_port(), f"web: {{listen: '127.0.0.1:{free_port()}'}}\n"
    away = bucket(port).replace(f"127.0.0.1:{port}", "bucket.invalid") + listen
    proxy = f"http://u:pass-of-u@127.0.0.1:{port}"
    with rclone(tmp_path / "s3", port):
        code, said = needs(tmp_path, away, http_proxy=proxy)
        assert code == 0 and "written, read and removed" in said["ok     archive archive"], said
        through = f"archive archive is reached through http://127.0.0.1:{port}"
        assert through in said["ok     proxy"] and "all else is reached directly" in str(said)
        code, said = needs(tmp_path, away, http_proxy=proxy, no_proxy="bucket.invalid")
        assert code == 1 and "the name server does not know" in said["WRONG  archive archive"]
        assert "no archive is reached through one" in said["ok     proxy"]
    code, said = needs(tmp_path, away, http_proxy=proxy)
    assert f"through the proxy http://127.0.0.1:{port}" in said["WRONG  archive archive"]
    assert "connection refused" in said["WRONG  archive archive"] and "pass-of-u" not in str(said)


def test_a_port_is_looked_at_also_while_kuager_runs(tmp_path: Path) -> None:
    """Else one that was changed, and is another program's, ends all of it at the next start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        web = f"web: {{listen: '127.0.0.1:{port}', operators: '127.0.0.1:{free_port()}'}}\n"
        config = load(write(tmp_path, kuager_yaml=KUAGER + web), {})
        lock = lock_spool(config.spool)
        assert lock is not None
        with lock:
            public, operators = _ports(config)
            assert public.wrong and "in use by another program" in public.wrong
            assert "is free" in operators.seen[0]
            with claimed("127.0.0.1", port, "web.listen", config.spool):
                assert "is at work" in _ports(config)[0].seen[0]


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ("more_buckets: [second]", None),
        ("more_buckets: [second, third]", "there is no third"),
        ("more_buckets: [undying]", "was written, and cannot be removed: access is denied"),
        ("lock: governance\n  keep: 1d", None),
        ("lock: governance\n  keep: 1d\n  more_buckets: [second]", "not on in second"),
    ],
)
async def test_every_bucket_of_an_archive_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str, wrong: str | None
) -> None:
    """What the first takes tells nothing of those that share the cameras with it."""
    there: dict[str, dict[str, bytes]] = {"first": {}, "second": {}, "undying": {}}

    def call(
        _: S3Client, name: str, bucket: str, key: str = "", seconds: float = 0,
        data: Any = None, sha256: str = "", **__: Any,
    ) -> dict[str, Any]:  # fmt: skip
        if bucket not in there:
            raise ArchiveError(f"there is no {bucket}", Fault.BUCKET)
        if name == "get_object_lock_configuration":
            on = {"ObjectLockConfiguration": {"ObjectLockEnabled": "Enabled"}}
            return on if bucket == "first" else {}
        if name == "put_object":
            there[bucket][key] = data.read()
        elif name == "delete_object" and bucket == "undying":
            raise ArchiveError("access is denied: the key may not write here")
        elif name == "delete_object":
            del there[bucket][key]
        elif key not in there[bucket]:
            raise ObjectNotFound(key)
        else:
            return {"Body": io.BytesIO(there[bucket][key]), "ContentLength": 1}
        return {}

    monkeypatch.setattr(S3Client, "call", call)
    archives = f"archives:\n- url: s3://first/p\n  endpoint: http://127.0.0.1:1\n  {settings}\n"
    text = KUAGER.replace("archives: [archive]\n", archives)
    found = await _archive(load(write(tmp_path, kuager_yaml=text), {}).archives[0], None)
    if wrong is None:
        assert found.wrong is None and found.seen
        assert len(found.seen) == 1 or [text[:7] for text in found.seen] == ["first: ", "second:"]
    else:
        assert found.wrong and wrong in found.wrong
    left = [key for name in ("first", "second") for key in there[name] if "check" in key]
    assert not left


async def test_a_link_that_leads_nowhere_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "disk").symlink_to("/no/such/disk")  # which is not mounted
    (tmp_path / "loop").symlink_to("loop")
    for name in ("disk", "disk/x", "loop", "loop/x"):
        text = KUAGER.replace("spool: spool", f"spool: {name}").replace("[archive]", f"[{name}]")
        found = await look(load(write(tmp_path, kuager_yaml=text)))
        wrong = {f.name for f in found if "leads nowhere" in (f.wrong or "")}
        beside = {"database"} if "/" in name else set()  # it lies beside the spool
        assert wrong == {"spool", "archive archive"} | beside, found


async def test_the_mail_server_is_logged_in_to(tmp_path: Path) -> None:
    copies = (
        "web: {listen: '127.0.0.1:%d', public_url: 'http://k'}\ncopies: {free: true,"
        " mail: {host: 127.0.0.1, port: %d, tls: none, from: a@example.kz%s}}\n"
    )
    with mailbox() as box:
        config = load(write(tmp_path, kuager_yaml=KUAGER + copies % (free_port(), box.port, "")))
        found = {finding.name: finding for finding in await look(config)}
        assert found["mail"].wrong is None and not box.letters
        login = ", user: u, password: pass-of-u"
        wrong = KUAGER + copies % (free_port(), box.port, login)
        found = {f.name: f for f in await look(load(write(tmp_path, kuager_yaml=wrong)))}
        assert found["mail"].wrong and "pass-of-u" not in str(found)
    found = {finding.name: finding for finding in await look(config)}
    assert "connection refused" in (found["mail"].wrong or "") and found["mail"].to_do


def test_a_disk_or_a_limit_that_is_too_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(write(tmp_path, kuager_yaml=KUAGER + "spool_reserve: 999999T\n"), {})
    found = {f.name: f for f in asyncio.run(look(config))}
    assert "nothing would be recorded" in (found["spool"].wrong or "")
    with monkeypatch.context() as exfat:
        exfat.setattr(os, "link", lambda *_: Path("/no/such").stat())
        found = {f.name: f for f in asyncio.run(look(load(write(tmp_path), {})))}
    assert "no second name of a file" in (found["spool"].wrong or "")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (72, 72))
    found = {f.name: f for f in asyncio.run(look(config))}
    assert found["files"].wrong is None and (soft, hard) != (72, 72)
    second = "        low_url: rtsp://10.0.0.2/b\n"
    config = load(write(tmp_path, stations_yaml=STATIONS + second), {})
    found = {f.name: f for f in asyncio.run(look(config))}
    assert "a recorder of 2 streams needs 80" in (found["files"].wrong or "")
    assert not list(tmp_path.glob(".kuager*")), "all is left as it was"
