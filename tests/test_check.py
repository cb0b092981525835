"""`kuager check` as an operator sees it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from kuager.simulator import SimCamera, Simulator
from tests.config_files import KUAGER, STATIONS, write
from tests.waiting import until
from tests.wire import play

ROOT = Path(__file__).parents[1]


def check(path: Path, *options: str, **environ: str) -> tuple[int, str, str]:
    """Run `kuager check`; return its exit code, output and errors."""
    done = subprocess.run(
        [sys.executable, "-m", "kuager", "check", "--config", str(path), *options],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "COLUMNS": "200", "LANG": "C.UTF-8", **environ},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def test_the_example_is_well(tmp_path: Path) -> None:
    for name in ("kuager", "stations"):  # a copy, because the spool is made beside it
        shutil.copy(ROOT / f"deploy/{name}.example.yaml", tmp_path)
    code, out, err = check(tmp_path / "kuager.example.yaml", CAMERA_PASSWORD="Zx9Qw7")
    assert (code, err) == (0, "")
    assert "Presidential election (president-2026), 2026-11-29" in out
    assert "2, with 3 cameras" in out
    assert "2026-11-29 06:00 +0500 │ 2026-11-30 03:00 +0500 │ 21.00" in out
    assert "2026-11-29 06:30 +0500 │ 2026-11-30 03:00 +0500 │ 20.50" in out
    assert "ballot-box, counting-table" in out
    assert "Zx9Qw7" not in out


def test_wrong_is_1(tmp_path: Path) -> None:
    path = write(tmp_path, stations_yaml=STATIONS.replace("id: c2", "id: c1"), kuager_yaml=KUAGER)
    code, out, err = check(path)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"error: {tmp_path}/stations.yaml:6: stations[0].cameras[1].id: "
        "the same id is on line 4 already; write another id",
        "1 to put right.",
    ]


def test_unread_is_2(tmp_path: Path) -> None:
    code, out, err = check(tmp_path / "kuager.yaml")
    assert (code, out) == (2, "")
    assert f"{tmp_path}/kuager.yaml: cannot be read: no such file or directory" in err


def test_warnings_and_odd_names_are_shown_as_they_are(tmp_path: Path) -> None:
    stations = STATIONS.replace("10.0.0.2", "10.0.0.1").replace(
        "    cameras:", "    name: '[bold]School[/x]'\n    cameras:"
    )
    code, out, err = check(write(tmp_path, stations_yaml=stations))
    assert code == 0
    assert "[bold]School[/x]" in out
    (warning,) = err.splitlines()
    assert warning.startswith(f"warning: {tmp_path}/stations.yaml:8: stations[0].cameras[1].url: ")


def test_a_large_election_is_summed_up(tmp_path: Path) -> None:
    lines = ["station_id,camera_id,url,last_day"]
    lines += [f"s{n},c1,rtsp://10.1.{n}.1/,{'2026-11-29' if n % 2 else ''}" for n in range(60)]
    lines += ["s60,c1,rtsp://10.2.0.1/,2026-11-01"]
    code, out, err = check(write(tmp_path, stations_csv="\n".join(lines)))
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
        SimCamera("h265", codec="h265", fps=10, **small),  # type: ignore[arg-type]
        SimCamera("long", gop_s=40, **small),  # type: ignore[arg-type]
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
        r"ok h264 480x270, ([0-9.]+) pictures/s, keyframe every 1\.0 s, sound aac,"
        r" clock ([+-][0-9.]+) s",
        rows["well"],
    )
    assert shown and 14 <= float(shown[1]) <= 16 and abs(float(shown[2])) < 0.5
    assert re.search(r"clock \+(3599\.9|3600\.[01]) s -> .*NTP", rows["hour"])
    assert rows["h265"].startswith("ok h265 ") and "->" not in rows["h265"]
    assert "WRONG" in rows["long"] and "-> set its keyframe interval" in rows["long"]
    assert "refuses user name or password (401) -> check user" in rows["password"]
    assert "no such stream (404) -> check the path" in rows["path"]
    assert rows["away"] == (
        "WRONG 127.0.0.1:1 refuses the connection"
        " -> check the port, and that RTSP is switched on in the camera"
    )
    assert "3 of 7 cameras answer with a picture." in out


def test_probe_without_ffmpeg_could_not_run(tmp_path: Path) -> None:
    path = write(tmp_path, kuager_yaml=KUAGER + "ffmpeg: /no/such/ffmpeg\n")
    code, _, err = check(path, "--probe")
    assert code == 2 and "is not a program that can be run" in err
