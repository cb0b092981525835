"""`kuager demo`: everything real but the cameras, on one machine, in one folder.

Simulated cameras (RTSP), rclone's S3 server, and `kuager run` between them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import socket
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
import yaml

from kuager import signals
from kuager.extras import rclone
from kuager.simulator.faults import FAULTS
from kuager.terminal import err, say

BUCKET = "kuager-demo"
ZONE = "Asia/Almaty"
STOP_S = 40.0
STATIONS: list[dict[str, Any]] = [
    {
        "id": "s117",
        "number": "117",
        "name": {"kk": "№ 12 мектеп", "ru": "Школа № 12", "en": "School 12"},
        "region": {"kk": "Алматы қаласы", "ru": "город Алматы", "en": "Almaty city"},
        "district": {"kk": "Медеу ауданы", "ru": "Медеуский район", "en": "Medeu district"},
        "address": {"kk": "Абай даңғылы, 5", "ru": "пр. Абая, 5", "en": "5 Abai Avenue"},
        "latitude": 43.2389,
        "longitude": 76.8897,
    },
    {
        "id": "s204",
        "number": "204",
        "name": {"kk": "Мәдениет үйі", "ru": "Дом культуры", "en": "House of Culture"},
        "region": {"kk": "Түркістан облысы", "ru": "Туркестанская область", "en": "Turkistan"},
        "district": {"kk": "Сайрам ауданы", "ru": "Сайрамский район", "en": "Sairam district"},
        "address": {"kk": "Ақсу ауылы", "ru": "село Аксу", "en": "Aksu village"},
        "latitude": 42.4267,
        "longitude": 69.8297,
    },
]
ANGLES = {
    "ballot-box": {"kk": "Сайлау жәшігі", "ru": "Урна", "en": "Ballot box"},
    "counting-table": {"kk": "Санау үстелі", "ru": "Стол подсчёта", "en": "Counting table"},
    "entrance": {"kk": "Кіреберіс", "ru": "Вход", "en": "Entrance"},
}
OPERATOR = {
    "name": {"kk": "Kuager демосы", "ru": "Демонстрация Kuager", "en": "The Kuager demo"},
    "email": "demo@example.kz",
    "about": {
        "kk": "Мұндағы камералар мен учаскелер шынайы емес: бейнені бағдарлама жасайды.",
        "ru": "Камеры и участки здесь ненастоящие: изображение создаёт программа.",
        "en": "These cameras and stations are not real: a program draws the pictures.",
    },
}
LOW = {"width": 320, "height": 180, "fps": 10, "bitrate": 100_000}
COPIES = {
    "price_per_minute": "20",
    "minimum": "100",
    "free_minutes": "1",
    "tax": "16%",
    "bank": {
        "beneficiary": "SAMPLE, do not pay (kuager demo)",
        "address": "SAMPLE address",
        "bin": "123456789012",
        "iban": "KZ86125KZT5004100100",
        "bank": "SAMPLE bank",
        "bic": "SAMPKZKA",
        "beneficiary_code": "17",
        "purpose_code": "859",
    },
}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Demo:
    """One demo in one folder; `run` returns when it was asked to stop."""

    def __init__(self, data: Path, port: int):
        """Raises ExtraMissing."""
        self._data, self._port, self._rclone = data.resolve(), port, rclone()
        self._rtsp, self._control, self._s3 = _free_port(), _free_port(), _free_port()
        self._key, self._secret = "demo", secrets.token_urlsafe(24)
        self._children: list[asyncio.subprocess.Process] = []

    def write_config(self) -> Path:
        """Write kuager.yaml, stations and the simulator's list; the schedule is kept."""
        self._data.mkdir(parents=True, exist_ok=True)
        (self._data / "s3" / BUCKET).mkdir(parents=True, exist_ok=True)
        path = self._data / "kuager.yaml"
        begun = datetime.now(ZoneInfo(ZONE)).replace(microsecond=0, tzinfo=None)
        if path.exists():
            old = yaml.safe_load(path.read_text())
            begun = datetime.fromisoformat(old["election"]["windows"][0]["from"])
        config = {
            "election": {
                "id": "demo",
                "name": {"kk": "Демо нұсқа", "ru": "Демонстрация", "en": "Demonstration"},
                "date": begun.date().isoformat(),
                "time_zone": ZONE,
                "windows": [
                    {"from": begun.isoformat(), "to": (begun + timedelta(days=365)).isoformat()}
                ],
            },
            "stations": "stations.yaml",
            "spool": "spool",
            "archives": [
                {
                    "url": f"s3://{BUCKET}",
                    "endpoint": f"http://127.0.0.1:{self._s3}",
                    "region": "us-east-1",
                    "access_key_id": self._key,
                    "secret_access_key_file": "s3.secret",
                }
            ],
            "web": {
                "listen": f"127.0.0.1:{self._port}",
                "public_url": f"http://127.0.0.1:{self._port}",
                "processes": 2,
            },
            "operator": OPERATOR,
            "copies": COPIES,
            "rewind": "2h",
            "workers": 2,
        }
        path.write_text(yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
        stations = [s | {"cameras": [c for c, *_ in self._cameras(s)]} for s in STATIONS]
        (self._data / "stations.yaml").write_text(
            yaml.safe_dump({"stations": stations}, allow_unicode=True, sort_keys=False)
        )
        simulated = [c for s in STATIONS for _, *streams in self._cameras(s) for c in streams]
        (self._data / "simulator.json").write_text(json.dumps({"cameras": simulated}))
        (self._data / "s3.secret").write_text(self._secret)  # for commands beside the demo, too
        for name in ("stations.yaml", "simulator.json", "s3.secret"):
            (self._data / name).chmod(0o600)  # they hold passwords
        (self._data / "control.json").write_text(json.dumps({"port": self._control}))
        return path

    def _cameras(self, station: dict[str, Any]) -> list[tuple[dict[str, Any], ...]]:
        """Return Kuager's entry for each camera, then the simulator's for each of its streams."""
        out = list[tuple[dict[str, Any], ...]]()
        for angle, title in ANGLES.items():
            name = f"{station['id']}-{angle}"
            simulated: dict[str, Any] = {
                "name": name,
                "angle": angle,
                "title": f"{station['number']} {title['en']}",
                "audio": "aac" if angle == "counting-table" else None,
            }
            login = ""
            if angle != "entrance":  # some cameras ask for a password, as in life
                simulated |= {"user": "kuager", "password": "camera-pass"}
                login = "kuager:camera-pass@"
            url = f"rtsp://{login}127.0.0.1:{self._rtsp}/{name}"
            camera = {"id": angle, "title": dict(title), "url": url, "picture_zone": "UTC"}
            if station is STATIONS[0]:  # the cameras of the other have one stream each, as in life
                low = simulated | {"name": f"{name}-low"} | LOW
                out.append((camera | {"low_url": f"{url}-low"}, simulated, low))
            else:
                out.append((camera, simulated))
        return out

    async def run(self) -> int:
        """Start everything, say where, and stop everything when asked to."""
        stop = asyncio.Event()
        signals.on_stop(stop.set, stop.set)  # a terminal that is closed stops it, too
        try:
            return await self._run(stop)
        finally:
            await self._stop()

    async def _run(self, stop: asyncio.Event) -> int:
        config = self.write_config()
        err.print(f"Kuager demo. Data: {self._data}")
        err.print("Starting rclone's S3 server, 6 simulated cameras and kuager run ...")
        environment = os.environ | {
            "RCLONE_AUTH_KEY": f'"{self._key},{self._secret}"',
            "RCLONE_CONFIG": "/dev/null",
        }
        # a shell that ends rclone when we are gone, however we went
        wrapper = '"$@" & child=$!; read -r _; kill $child 2>&-; wait'
        serve = [
            self._rclone,
            "serve",
            "s3",
            "--addr",
            f"127.0.0.1:{self._s3}",
            "--log-level",
            "ERROR",
        ]
        await self._start(["sh", "-c", wrapper, "sh", *serve, str(self._data / "s3")], environment)
        simulator = [sys.executable, "-P", "-m", "kuager.simulator", "--port", str(self._rtsp)]
        simulator += ["--control-port", str(self._control)]
        simulator += ["--config", str(self._data / "simulator.json")]
        await self._start(simulator, environment)
        main = await self._start(
            [sys.executable, "-P", "-m", "kuager", "run", "--config", str(config), "--supervised"],
            environment,
        )
        playing = asyncio.ensure_future(self._until_playing())
        stopped = asyncio.ensure_future(stop.wait())
        ended = asyncio.ensure_future(main.wait())
        await asyncio.wait({playing, stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done() and not stopped.done():
            self._welcome()
            await asyncio.wait({stopped, ended}, return_when=asyncio.FIRST_COMPLETED)
        playing.cancel()
        if ended.done():
            err.print("kuager run ended by itself; its last words are above.", style="red")
            return 2
        return 0

    async def _start(
        self, command: Sequence[str], environment: dict[str, str]
    ) -> asyncio.subprocess.Process:
        child = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,  # its end tells them that we are gone
            env=environment,
            start_new_session=True,
        )
        self._children.append(child)
        return child

    async def _until_playing(self) -> None:
        base = f"http://127.0.0.1:{self._port}"
        waiting = [f"{s['id']}/{angle}" for s in STATIONS for angle in ANGLES]
        total = len(waiting)
        with err.status("") as line:
            async with aiohttp.ClientSession() as session:
                while waiting:
                    line.update(f"{total - len(waiting)} of {total} cameras play")
                    for name in list(waiting):
                        try:
                            async with session.get(f"{base}/live/{name}/index.m3u8") as answer:
                                if answer.status == 200:
                                    waiting.remove(name)
                        except aiohttp.ClientError:
                            break
                    await asyncio.sleep(0.3)

    def _welcome(self) -> None:
        base = f"http://127.0.0.1:{self._port}"
        first = STATIONS[0]["id"]
        kuager = os.path.relpath(Path(sys.executable).with_name("kuager"))
        say(f"\n6 of 6 cameras play.  {base}/\n")
        say(f"  a station:     {base}/stations/{first}")
        say(f"  for VLC:       {base}/live/{first}/ballot-box/index.m3u8")
        say(f"  recordings:    {self._data / 's3' / BUCKET} (through S3)")
        say(
            f"  spoil one:     {kuager} demo fault {first}-ballot-box drop 10   "
            f"(all faults: {kuager} demo faults)"
        )
        say(f"  order a copy:  {base}/copies/new?station={first}   (of what is a minute old)")
        say(
            f"  say it is paid: {kuager} orders confirm 1 --amount 100.00 --reference test-1 "
            f"--config {self._data}/kuager.yaml   (order and amount as on the invoice)"
        )
        say("  stop:          Ctrl-C\n")
        sys.stdout.flush()

    async def _stop(self) -> None:
        """Stop Kuager first, so that it can finish while camera and bucket are there."""
        err.print("Stopping: sealing what is being recorded ...")
        for child in reversed(self._children):
            if child.stdin is not None:
                child.stdin.close()
            try:
                async with asyncio.timeout(STOP_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        err.print("Stopped.")


async def send_fault(data: Path, camera: str, fault: str, value: float | None) -> str:
    """Tell the running demo's simulator to spoil a camera; returns its answer.

    Raises ValueError with what is wrong.
    """
    if fault != "clear" and fault not in FAULTS:
        raise ValueError(f"no fault '{fault}'; there are: clear, {', '.join(FAULTS)}")
    try:
        port = json.loads((data / "control.json").read_text())["port"]
    except (OSError, ValueError, KeyError):
        raise ValueError(f"no demo has its data in {data}: start one with make demo") from None
    url = f"http://127.0.0.1:{port}/cameras/{camera}/fault"
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json={"fault": fault, "value": value}) as answer,
        ):
            text = await answer.text()
    except aiohttp.ClientError:
        raise ValueError(f"the demo of {data} is not running: start it with make demo") from None
    if answer.status >= 400:
        raise ValueError(text)
    return text
