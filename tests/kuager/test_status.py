"""`kuager status`: what is wrong, from files that processes wrote and from the database."""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from config.model import Config
from config.roles import processes
from config.schedule import windows
from kuager import VERSION
from kuager.cli import app
from kuager.preflight import Finding
from kuager.status import SHOWN, look
from storage.catalogue.catalogue import Catalogue
from storage.spool.disk import claim_spool
from storage.spool.status import SpoolStatus
from storage.spool.status_records import ORDERS, UPLOADER, OrdersStatus, UploaderStatus
from tests.support.config_files import KUAGER, STATIONS, read, write
from tests.support.s3 import free_port
from tests.support.waiting import until

# a moment in the window of the configuration
NOW = int(datetime.fromisoformat("2026-11-29T12:00+05:00").timestamp() * 1000)
ARCHIVE: dict[str, Any] = {
    "ok": True,
    "last_error": None,
    "blocked": {"gone": 0},
    "backlog_recordings": 2,
    "backlog_bytes": 30_000_000,
    "oldest_unarchived_ms": NOW - 60_000,
}
CAMERA = {"state": "recording", "cause": None, "detail": None, "recorded_ms": NOW - 3_000}
CLOCK = {"synchronized": True, "doubt": None}
SPOOL = {"bytes_per_s": 1000, "waiting_bytes": 0, "slow_s": 0}


class Installation:
    """Status files as processes would write them, each a moment before NOW."""

    def __init__(self, config: Config):
        self.config = config
        claim_spool(config.spool)
        self.cameras: dict[str, dict[str, Any]] = {"s1/c1": dict(CAMERA), "s1/c2": dict(CAMERA)}
        for name in processes(config):
            if name.startswith("recorder"):
                self.tell(name, cameras={}, spool=SPOOL, clock=CLOCK)
        self.tell("recorder-0", cameras=self.cameras, spool=SPOOL, clock=CLOCK)
        self.tell("uploader", archives={"archive": ARCHIVE})
        self.tell("pictures")
        self.tell("supervisor", processes={n: {"up": True, "starts": 1} for n in processes(config)})

    def tell(self, name: str, written_ms: int = NOW - 1_000, **said: Any) -> None:
        path = self.config.spool / f"_status/{name}.json"
        path.write_text(json.dumps({"written_ms": written_ms, **said}))

    def found(self) -> dict[str, Finding]:
        return {f.name: f for f in asyncio.run(look(self.config, lambda: NOW))}

    def wrong(self) -> dict[str, str]:
        """Return what is wrong but for the clock of the machine that runs the test."""
        found = {name: f.wrong for name, f in self.found().items() if f.wrong is not None}
        if found.get("clock", "").startswith("the kernel says"):
            del found["clock"]
        return found


@pytest.fixture
def running(tmp_path: Path) -> Installation:
    return Installation(read(tmp_path))


def test_all_is_well(running: Installation) -> None:
    assert running.wrong() == {}
    found = running.found()
    assert found["cameras"].seen == ("2 of 2 that are scheduled now are recorded",)
    assert found["archive archive"].seen == ("waiting: 2 recordings (0.0 GB), the oldest for 60 s",)


def test_a_camera_that_is_tried_again_is_wrong_in_each_of_its_states(running: Installation) -> None:
    for state in ("backoff", "connecting"):
        running.cameras["s1/c2"] |= {
            "state": state,
            "cause": "refused_password",
            "detail": "10.0.0.2:554 refuses user name or password (401)",
            "recorded_ms": NOW - 600_000,
        }
        running.tell("recorder-0", cameras=running.cameras, spool=SPOOL, clock=CLOCK)
        found = running.wrong()
        assert found["cameras"] == "only 1 of 2 that are scheduled now are recorded"
        assert found["camera s1/c2"].startswith("not recorded for 10 min: 10.0.0.2:554 refuses")
        assert "password" in running.found()["camera s1/c2"].to_do[0]


def test_what_the_files_ask_for_since_is_not_called_dead(running: Installation) -> None:
    """The supervisor does not start them again: it does not know of them."""
    running.config = running.config.model_copy(update={"workers": running.config.workers + 2})
    names = [f"recorder-{running.config.workers - n}" for n in (2, 1)]
    assert running.wrong() == {
        "processes": f"the files ask for {', '.join(names)}, which Kuager was not started with"
    }


def test_a_camera_whose_window_has_just_begun_is_not_called_silent(running: Installation) -> None:
    """It was last recorded a day ago, and whoever opens the polls looks just then."""
    election, (station,) = running.config.election, running.config.stations
    begins_ms = windows(election, station, station.cameras[0])[0].start_ms
    for seconds, wrong in ((5, False), (16, True)):
        at_ms = begins_ms + seconds * 1000
        cameras = {
            name: one | {"recorded_ms": at_ms - 3_000 if name == "s1/c1" else at_ms - 86_400_000}
            for name, one in running.cameras.items()
        }
        running.tell("recorder-0", at_ms - 500, cameras=cameras, spool=SPOOL, clock=CLOCK)
        found = {f.name: f for f in asyncio.run(look(running.config, lambda: at_ms))}  # noqa: B023
        if wrong:
            assert found["cameras"].wrong == "only 1 of 2 that are scheduled now are recorded"
        else:
            assert found["cameras"].seen == (
                "1 of 2 that are scheduled now are recorded",
                "1 begin",
            )


def test_a_clock_that_recorders_do_not_believe_is_wrong(running: Installation) -> None:
    clock = CLOCK | {"doubt": "it is off by +1.0 days"}
    running.tell("recorder-0", cameras=running.cameras, spool=SPOOL, clock=clock)
    assert running.found()["clock"].wrong == "it is off by +1.0 days"


def test_second_streams_are_told_of_where_their_camera_is_recorded(tmp_path: Path) -> None:
    second = "        low_url: rtsp://10.0.0.2/b\n"
    running = Installation(read(tmp_path, stations_yaml=STATIONS + second))
    assert running.wrong() == {
        "second streams": "only 0 of 1 whose camera is recorded; s1/c2: no recorder tells of it"
    }
    low = {"s1/c2": CAMERA | {"state": "backoff", "detail": "no such stream", "recorded_ms": None}}
    running.tell("recorder-0", cameras=running.cameras, low=low, spool=SPOOL, clock=CLOCK)
    assert running.wrong()["second streams"].endswith("s1/c2: no such stream")
    low["s1/c2"] = CAMERA
    running.tell("recorder-0", cameras=running.cameras, low=low, spool=SPOOL, clock=CLOCK)
    found = running.found()
    assert found["second streams"].seen == ("1 of 1 whose camera is recorded are recorded",)
    assert found["cameras"].seen == ("2 of 2 that are scheduled now are recorded",)
    running.cameras["s1/c2"] |= {"state": "backoff"}
    running.tell("recorder-0", cameras=running.cameras, spool=SPOOL, clock=CLOCK)
    assert "second streams" not in running.found(), "it waits for the first"


def test_what_is_away_is_told_by_what_it_said_last(running: Installation) -> None:
    old = NOW - 60_000
    old_camera = CAMERA | {"recorded_ms": old}
    cameras = {"s1/c1": old_camera, "s1/c2": old_camera}
    running.tell("recorder-0", old, cameras=cameras, spool=SPOOL, clock=CLOCK)
    refused = ARCHIVE | {"ok": False, "last_error": "the key is refused"}
    running.tell("uploader", old, archives={"archive": refused})
    found = running.wrong()
    assert found["processes"].startswith("not running: recorder-0, uploader-0 (of")
    assert found["camera s1/c1"] == "not recorded for 60 s: no recorder tells of it"
    assert found["archive archive"].startswith("takes nothing: the key is refused; waiting: 2")


def test_of_what_may_not_be_read_nothing_is_told(running: Installation) -> None:
    status = running.config.spool / "_status"
    status.rename(status.with_name("before"))
    status.symlink_to("_status")  # as where the right is missing, which root has
    assert list(running.found()) == ["spool"]
    (why,) = running.wrong().values()
    assert "cannot be read" in why and "Errno" not in why
    status.unlink()
    assert running.wrong()["processes"] == "Kuager does not run"


def test_what_cannot_be_removed_is_wrong(running: Installation) -> None:
    running.tell("uploader", archives={"archive": ARCHIVE | {"overdue_recordings": 3}})
    assert running.wrong() == {"archive archive": "3 recordings past their date cannot be removed"}


def test_of_a_disk_that_is_not_mounted_nothing_else_is_told(tmp_path: Path) -> None:
    """Neither that Kuager does not run nor that nothing was ever recorded is known then."""
    (tmp_path / "spool").mkdir()
    config = read(tmp_path, kuager_yaml=KUAGER + "spool_mount: spool\n")
    (found,) = asyncio.run(look(config, lambda: NOW))
    assert found.wrong is not None
    assert found.wrong.startswith(f"no disk is mounted at {tmp_path}/spool: nothing is recorded")


def test_nothing_runs_and_nothing_ever_ran(tmp_path: Path) -> None:
    many = "".join(f"      - {{id: m{n}, url: 'rtsp://10.0.0.3/{n}'}}\n" for n in range(20))
    config = read(tmp_path, stations_yaml=STATIONS + many)
    found = [f for f in asyncio.run(look(config, lambda: NOW)) if f.wrong is not None]
    assert found[0].wrong == "Kuager does not run"
    cameras = [f.wrong for f in found if f.name.startswith("camera ")]
    assert cameras == ["not recorded yet: no recorder tells of it"] * SHOWN
    wrong = {f.name: f.wrong for f in found}
    assert wrong["spool"] == f"nothing was ever recorded in {config.spool}"
    assert "archive archive" in wrong


def test_the_exit_code_and_json(tmp_path: Path) -> None:
    path = write(tmp_path, kuager_yaml=KUAGER)
    done = CliRunner().invoke(app, ["status", "--config", str(path), "--json"])
    told = json.loads(done.stdout)
    assert done.exit_code == 1 and told["ok"] is False
    assert told["findings"][0]["wrong"] == "Kuager does not run"
    database = next(f for f in told["findings"] if f["name"] == "database")
    assert database["wrong"] is None


def test_a_database_that_cannot_be_opened_is_wrong(running: Installation) -> None:
    async def make() -> None:
        await (await Catalogue.open(running.config.database_url)).close()

    asyncio.run(make())
    assert "database" not in running.wrong()
    path = Path(running.config.database_url.partition("///")[2])
    path.write_bytes(b"not a database" * 1000)
    assert "database" in running.wrong()


def test_orders_that_do_not_go_on_are_wrong(tmp_path: Path) -> None:
    copies = "copies: {free: true}\nweb: {public_url: 'https://k.example'}\n"
    running = Installation(read(tmp_path, kuager_yaml=KUAGER + copies))
    running.tell("orders", oldest_letter_ms=NOW - 60_000, letters_waiting=1, refunds_due=0)
    assert running.wrong() == {}
    waits = {"oldest_letter_ms": NOW - 7_300_000, "letters_waiting": 3}
    running.tell("orders", **waits, refunds_due=2, failing=1, overdue=0)
    found = [f.wrong for f in asyncio.run(look(running.config, lambda: NOW)) if f.wrong]
    assert found[:3] == [
        "3 letters, the oldest for 2 h",
        "1 kind of work on them: it fails",
        "money is owed to 2 requesters",
    ]


def test_the_version() -> None:
    done = CliRunner().invoke(app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"kuager {VERSION}\n")


@pytest.mark.slow
@pytest.mark.parametrize(("role", "file"), [("uploader", UPLOADER), ("orders", ORDERS)])
async def test_who_waits_for_the_database_at_the_start_says_that_it_runs(
    tmp_path: Path, role: str, file: str
) -> None:
    """An alert for the process would send people to look for another fault."""
    database = f"database: postgresql://u@127.0.0.1:{free_port()}/d\n"
    copies = "web: {public_url: 'http://k'}\ncopies: {free: true}\n"
    config = read(tmp_path, kuager_yaml=KUAGER + database + copies)
    claim_spool(config.spool)
    archives = {"archive": {**ARCHIVE, "archive_id": "x" * 32}}
    path = config.spool / "_status" / file
    path.write_text(json.dumps({"written_ms": 1, "archives": archives, "refunds_due": 3}))
    command = ("-m", "kuager", "run", "--role", role, "--config", str(config.path))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    status = SpoolStatus(config.spool)

    def runs() -> bool:
        list(status.refresh())
        return bool(status.is_up(f"{role}-0"))

    try:
        await until(runs)
        if role == "uploader":

            def tells_why() -> bool:
                said = status.last(UploaderStatus) if runs() else None
                return said is not None and said.catalogue_fault == "unreachable"

            await until(tells_why)
            uploader = status.last(UploaderStatus)
            assert uploader is not None and uploader.pid == process.pid
            assert not uploader.catalogue_ok and "refused" in (uploader.catalogue_error or "")
            assert uploader.archives["archive"].archive_id == "x" * 32, "what is known stays known"
        else:
            orders = status.last(OrdersStatus)
            assert orders is not None and orders.refunds_due == 3 and orders.pid == process.pid
    finally:
        process.terminate()
        assert await process.wait() == 0
