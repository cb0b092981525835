"""A changed configuration is taken over while everything goes on, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from config.load import load
from config.model import Config
from config.schedule import Window
from kuager import reload as reload_module
from kuager import run as run_module
from kuager import supervisor as supervisor_module
from kuager.reload import (
    Configs,
    Difference,
    Frames,
    Reloading,
    frame,
    is_at_work,
    lock_spool,
    read_outcome,
    receive,
    write_outcome,
)
from kuager.reload import reload as command
from kuager.run import run_all
from kuager.simulator.camera import SimCamera
from kuager.simulator.server import Simulator
from kuager.supervisor import Supervisor, why_not
from recorder.states import State
from storage.records import GapCause
from storage.spool.status_records import SUPERVISOR, ReloadStatus
from tests.support.broken_files import BROKEN
from tests.support.config_files import KUAGER, STATIONS, write
from tests.support.running import kuager, playing
from tests.support.s3 import free_port
from tests.support.stack import SMALL, gaps, recorded, recording, recordings
from tests.support.waiting import until


def test_what_differs(tmp_path: Path) -> None:
    old = load(write(tmp_path), {})
    assert Difference.of(old, load(write(tmp_path), {})) == Difference((), (), (), (), ())
    other = STATIONS.replace("id: c1", "id: c9").replace("10.0.0.2/a", "10.0.0.2/b")
    changed = load(write(tmp_path, kuager_yaml=KUAGER + "rewind: 2h\n", stations_yaml=other), {})
    found = Difference.of(old, changed)
    assert found == Difference(("s1/c9",), ("s1/c1",), ("s1/c2",), ("rewind",), ())
    assert list(found.lines()) == [
        "Cameras added (1): s1/c9",
        "Cameras removed (1): s1/c1",
        "Cameras changed (1): s1/c2",
        "Settings changed (1): rewind",
    ]
    second = "        low_url: rtsp://10.0.0.2/b\n"
    found = Difference.of(old, load(write(tmp_path, stations_yaml=STATIONS + second), {}))
    assert found == Difference((), (), ("s1/c2",), (), ())
    head, first, second = STATIONS.partition("      - id: c1\n        url: rtsp://10.0.0.1/a\n")
    for other in (head + second + first, STATIONS + "  - id: s2\n    cameras: []\n"):
        found = Difference.of(old, load(write(tmp_path, stations_yaml=other), {}))
        assert found == Difference((), (), (), ("stations",), ())
    many = [f"s1/c{n}" for n in range(25)]
    told = next(iter(Difference(tuple(many), (), (), (), ()).lines()))
    assert told == f"Cameras added (25): {', '.join(many[:20])} and 5 more"


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("spool: other", "spool"),
        ("workers: 3", "workers"),
        ("ffmpeg: /opt/ffmpeg", "ffmpeg"),
        ("spool_reserve: 2G", "spool_reserve"),
        ("id: another", "election.id"),
    ],
)
async def test_what_only_a_restart_can_change_is_refused(
    tmp_path: Path, setting: str, named: str
) -> None:
    path, told = write(tmp_path), list[ReloadStatus]()
    reloading = Reloading(load(path, {}), lambda _: pytest.fail("it was taken"), told.append)
    key = setting.partition(":")[0]
    text = KUAGER.replace("id: test-2026", setting)
    if key != "id":
        text = "".join(line for line in KUAGER.splitlines(True) if not line.startswith(f"{key}:"))
        text += f"{setting}\n"
    write(tmp_path, kuager_yaml=text)
    await asked(reloading, told)
    assert not told[-1].taken and named in told[-1].lines[0] and "restart" in told[-1].lines[0]


async def asked(reloading: Reloading, told: list[ReloadStatus]) -> None:
    """Have it reload once."""
    before = len(told)
    task = asyncio.create_task(reloading.run())
    await until(lambda: len(told) == before + 1)  # it has begun
    reloading.ask()
    await until(lambda: len(told) == before + 2)
    task.cancel()


@pytest.mark.parametrize("name", BROKEN)
async def test_broken_files_change_nothing_and_say_why(tmp_path: Path, name: str) -> None:
    path, told, taken = write(tmp_path), list[ReloadStatus](), list[Config]()
    reloading = Reloading(old := load(path, {}), taken.append, told.append)
    BROKEN[name](tmp_path)
    await asked(reloading, told)
    assert not told[-1].taken and told[-1].lines and not taken and reloading.config is old
    assert all(line.startswith(str(tmp_path)) for line in told[-1].lines)  # which file, which line
    write(tmp_path, kuager_yaml=KUAGER + "rewind: 2h\n")  # put right
    await asked(reloading, told)
    assert told[-1].taken and [c.rewind_s for c in taken] == [7200]
    await asked(reloading, told)
    assert told[-1].taken and not told[-1].lines and len(taken) == 1  # nothing differs any more


def unlisted(_: Path) -> Config:
    """A fault of ours, or a file that goes while it is read."""
    raise FileNotFoundError(2, "gone", "credentials.yaml")


async def test_a_fault_while_reading_ends_nothing(tmp_path: Path) -> None:
    path, told = write(tmp_path), list[ReloadStatus]()
    old = load(path, {})
    reads: Iterator[Callable[[Path], Config]] = iter([unlisted, partial(load, environ={})])
    reloading = Reloading(old, lambda _: None, told.append, read=lambda path: next(reads)(path))
    task = asyncio.create_task(reloading.run())
    await until(lambda: len(told) == 1)
    for taken in (False, True):
        before = len(told)
        reloading.ask()
        await until(lambda: len(told) > before)  # noqa: B023
        assert told[-1].taken is taken and reloading.config is old and not task.done()
    assert "FileNotFoundError" in told[1].lines[0]
    task.cancel()


async def test_a_disk_that_hangs_holds_up_nobody_else(tmp_path: Path) -> None:
    """A supervisor that says nothing for a minute is killed by systemd, and all with it."""
    goes_on, waited = threading.Event(), list[bool]()
    reloading = Reloading(
        *(load(write(tmp_path), {}), lambda _: None, lambda _: waited.append(goes_on.wait(9))),
    )
    running = asyncio.create_task(reloading.run())
    await asyncio.sleep(0)
    goes_on.set()
    await until(lambda: waited)
    assert waited == [True]
    running.cancel()


def test_what_no_process_could_run_by_is_not_taken_over(tmp_path: Path) -> None:
    old = load(write(tmp_path, kuager_yaml=KUAGER + "web: {listen: '127.0.0.1:8080'}\n"), {})

    def with_web(**changes: object) -> Config:
        return old.model_copy(update={"web": old.web.model_copy(update=changes)})

    assert why_not(old, old) == []
    assert why_not(old, with_web(port=8081, operators_port=8080)) == []  # ours, changed about
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (said,) = why_not(old, with_web(port=port))
        assert "in use by another program" in said and "web.listen" in said
        (said,) = why_not(old, with_web(operators_port=port))
        assert "web.operators" in said
        # of our own, who listens there already: each process alone is told on its own
        assert why_not(old, with_web(port=port), "web") == []
        old_port = with_web(port=port, host="127.0.0.2")
        assert "web.listen" in why_not(old_port, with_web(port=port))[0]
        away = f"postgresql://u:secret@127.0.0.1:{port}/d"
    (said,) = why_not(old, old.model_copy(update={"database_url": away}))
    assert said.startswith("the database: ") and "secret" not in said
    assert why_not(old, old.model_copy(update={"database_url": away}), "recorder") == []


async def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    path, told = write(tmp_path), list[ReloadStatus]()
    reloading = Reloading(
        *(load(path, {}), lambda _: pytest.fail("it was taken"), told.append),
        why_not=lambda old, new: [f"{old.rewind_s} is better than {new.rewind_s}"],
    )
    write(tmp_path, kuager_yaml=KUAGER + "rewind: 2h\n")
    await asked(reloading, told)
    assert not told[-1].taken and told[-1].lines == ("86400 is better than 7200",)


@pytest.mark.slow
async def test_a_spool_that_is_not_mounted_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is written below its mount: a lock there is found by no `kuager reload` later."""
    (mount := tmp_path / "disk").mkdir()
    spool = f"spool: disk/kuager\nspool_mount: disk\nweb: {{listen: '127.0.0.1:{free_port()}'}}"
    config = load(write(tmp_path, kuager_yaml=KUAGER.replace("spool: spool", spool)), {})
    asked = list[Path]()
    monkeypatch.setattr(os.path, "ismount", lambda path: asked.append(path))
    monkeypatch.setattr(run_module, "_run_until_signal", lambda *_, **__: 0)
    assert run_all(config, False) == 0
    stays = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]
    running = asyncio.create_task(Supervisor(config, stays).run())
    begun = len(asked)
    await until(lambda: len(asked) > begun + 1)
    assert set(asked) == {mount} and not list(mount.iterdir())
    monkeypatch.setattr(os.path, "ismount", lambda path: path == mount)
    await until(lambda: is_at_work(config.spool) and read_outcome(config.spool))
    await until((config.spool / "_status" / SUPERVISOR).exists)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not is_at_work(config.spool)


async def test_of_two_with_one_spool_the_first_is_reloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, looks = load(write(tmp_path), {}), list[Path]()

    def looked(spool: Path) -> BinaryIO | None:
        looks.append(spool)
        return lock_spool(spool)

    monkeypatch.setattr(supervisor_module, "STATUS_S", 0.01)
    monkeypatch.setattr(supervisor_module, "lock_spool", looked)
    first = lock_spool(config.spool)
    assert first is not None
    write_outcome(config.spool, told := ReloadStatus(pid=7, written_ms=1))
    stays = [sys.executable, "-c", "import sys; sys.stdin.buffer.read()"]
    second = asyncio.create_task(Supervisor(config, stays).run())
    await until(lambda: len(looks) > 2)  # it was about to say what runs, and that it was not asked
    assert read_outcome(config.spool) == told
    assert not (config.spool / "_status" / SUPERVISOR).exists()
    first.close()
    await until((config.spool / "_status" / SUPERVISOR).exists)
    found = read_outcome(config.spool)
    assert is_at_work(config.spool) and found and found.pid == os.getpid()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second


def test_a_file_that_nobody_runs_by_is_not_called_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path)
    (copy := tmp_path / "copy.yaml").write_text(KUAGER)
    (link := tmp_path / "link.yaml").symlink_to(path)
    spool = load(path, {}).spool
    told = ReloadStatus(pid=7, written_ms=1, path=str(path))
    monkeypatch.setattr(reload_module, "LOOK_S", 0.001)
    monkeypatch.setattr(os, "kill", lambda *_: write_outcome(spool, replace(told, number=1)))
    lock = lock_spool(spool)
    assert lock is not None
    with lock:
        write_outcome(spool, told)
        with pytest.raises(OSError, match=f"goes by {path}"):
            command(copy)
        assert command(link) == 0


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 4), cuts=st.lists(st.integers(0, 40_000), max_size=12))
def test_frames_come_whole_in_whatever_pieces(
    tmp_path_factory: pytest.TempPathFactory, count: int, cuts: list[int]
) -> None:
    config = load(write(tmp_path_factory.mktemp("c")), {})
    sent = [config.model_copy(update={"rewind_s": 60 + n}) for n in range(count)]
    data, frames, found = b"".join(map(frame, sent)), Frames(), list[Config]()
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    for begin, end in zip([0, *ends], ends, strict=False):
        found += frames.feed(data[begin:end])
    assert found == sent
    secret = next(c.url.reveal() for c in found[0].stations[0].cameras)
    assert secret == "rtsp://10.0.0.1/a"


def test_a_process_waits_for_its_first_configuration(tmp_path: Path) -> None:
    config = load(write(tmp_path), {})
    reading, writing = os.pipe()
    os.write(writing, frame(config) + frame(config)[:100])
    received = receive(reading)
    assert received and received[0] == config
    newer = config.model_copy(update={"rewind_s": 99})
    assert received[1].feed(frame(config)[100:] + frame(newer)) == [config, newer]
    os.close(writing)
    assert receive(reading) is None  # the supervisor went
    os.close(reading)


async def test_the_newest_configuration_counts(tmp_path: Path) -> None:
    config = load(write(tmp_path), {})
    configs = Configs(config)
    for n in (61, 62, 63):
        configs.put(config.model_copy(update={"rewind_s": n}))
    assert (await configs.newer()).rewind_s == configs.now.rewind_s == 63
    waiting = asyncio.ensure_future(configs.newer())
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()


@pytest.mark.slow
async def test_other_cameras_miss_nothing(tmp_path: Path, ffmpeg: str) -> None:
    names = ["same", "longer", "moved", "gone", "late", "ended"]
    async with (
        Simulator([SimCamera(n, **SMALL) for n in names]) as simulator,
        recording(tmp_path, simulator, ffmpeg) as worker,
    ):
        specs = {c.spec.camera: c.spec for c in worker.cameras}
        late = specs.pop("late")
        await worker.change(list(specs.values()))
        await recorded(worker, 4)
        now_ms = int(time.time() * 1000)
        (window,) = specs["same"].windows
        longer = Window(window.start_ms, window.end_ms + 3_600_000)
        specs["longer"] = replace(specs["longer"], windows=(longer,))
        specs["ended"] = replace(specs["ended"], windows=(Window(window.start_ms, now_ms - 1000),))
        specs["moved"] = replace(specs["moved"], url=simulator.url("same"))
        del specs["gone"]
        before = {c.spec.camera: c for c in worker.cameras}
        await worker.change([*specs.values(), late])
        assert [c.spec.camera for c in worker.cameras] == [
            "same",
            "longer",
            "moved",
            "ended",
            "late",
        ]
        after = {c.spec.camera: c for c in worker.cameras}
        assert {n for n in after if after[n] is before.get(n)} == {"same", "longer", "ended"}
        await recorded(worker, 4, "same", "longer", "moved", "late")
        assert after["longer"].state.window == longer
        await until(lambda: after["ended"].status.state is State.IDLE)
        assert all(after[n].status.runs == 1 for n in ("same", "longer"))
    for name in ("same", "longer"):
        found = recordings(tmp_path, name)
        assert len({r.index.header.run_no for r in found}) == 1
        assert {g.cause for g in gaps(tmp_path, name)} <= {
            GapCause.CONNECTING,
            GapCause.RECORDER_STOPPED,
        }
    for name in ("gone", "ended"):  # sealed when they were taken out
        assert all(r.index.seal for r in recordings(tmp_path, name))


@pytest.mark.slow
async def test_the_command_takes_over_or_says_why_not(tmp_path: Path, ffmpeg: str) -> None:
    cameras = [SimCamera(n, **SMALL) for n in ("a", "b", "c")]
    async with kuager(tmp_path, cameras, ffmpeg) as running:
        await playing(running, ["a", "b", "c"])
        children = running.processes()
        stations = tmp_path / "stations.yaml"
        right = stations.read_text()
        stations.write_text(right.replace("id: b", "id: a"))
        code, said = await reload(tmp_path)
        assert code == 1 and "the same id is on line" in said and "Nothing was taken over" in said
        # a process that dies meanwhile comes back as it was
        os.kill(children["recorder 0/2"], signal.SIGKILL)
        await until(
            lambda: running.processes().get("recorder 0/2") not in (None, children["recorder 0/2"])
        )
        await playing(running, ["a", "b", "c"])
        named = right.replace("id: c", "id: d").replace("id: s\n", "id: s\n    name: Moved\n")
        stations.write_text(named)
        code, said = await reload(tmp_path)
        assert code == 0 and "Cameras added (1): s/d" in said and "Cameras removed (1): s/c" in said
        await playing(running, ["a", "b", "d"])

        async def is_shown() -> bool:
            async with (
                aiohttp.ClientSession(running.base) as session,
                session.get("/api/v1/stations/s") as answer,
            ):
                shown = orjson.loads(await answer.read())
            return bool(shown["name"] == "Moved" and len(shown["cameras"]) == 3)

        await until(is_shown)
        for name, pid in children.items():
            assert name == "recorder 0/2" or running.processes()[name] == pid, (
                "it went on as it was"
            )
        stations.write_text(right)
        (tmp_path / "kuager.yaml").write_text(
            (tmp_path / "kuager.yaml").read_text().replace("workers: 2", "workers: 1")
        )
        code, said = await reload(tmp_path)
        assert code == 1 and "only a restart can change workers" in said
    assert "Traceback" not in running.log.read_text()
    code, said = await reload(tmp_path)
    assert code == 2 and "no `kuager run` is at work" in said


async def reload(folder: Path) -> tuple[int, str]:
    """Run `kuager reload`, without the environment of what runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "kuager", "reload", "--config", str(folder / "kuager.yaml")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()
