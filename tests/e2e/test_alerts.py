"""Alerts and the dashboard: right by promtool, and of metrics that are there from the start."""

from __future__ import annotations

import json
import math
import re
import subprocess
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
import yaml

from base.clock import now_ms
from config.copies import Copies
from config.load import load
from config.model import Config, Node
from config.roles import processes
from storage.archival.backlog import Blocked
from storage.archive.port import Fault
from storage.catalogue.faults import DatabaseFault
from storage.spool.disk import claim_spool
from storage.spool.node_map import MachineEntry, NodeMap, write_node_map
from streaming.context import AppContext
from streaming.ops import metrics as status
from tests.support.programs import need
from tests.support.repository import ROOT
from tests.support.waiting import BOUND_S

DEPLOY = ROOT / "deploy"
RULES = [
    rule
    for group in yaml.safe_load((DEPLOY / "alerts.yaml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
PANELS = json.loads((DEPLOY / "dashboard.json").read_text())["panels"]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    found = load(DEPLOY / "kuager.example.yaml", {"CAMERA_PASSWORD": "x"})
    return found.model_copy(update={"spool": tmp_path / "spool", "copies": Copies(free=True)})


@pytest.fixture
def several(config: Config) -> Config:
    """Return what one of several machines is configured with."""
    return config.model_copy(update={"node": Node(name="n1", host="127.0.0.1", port=8090)})


def exposed(config: Config) -> bytes:
    """Return what /metrics says."""
    context = AppContext(config, None, [])
    list(context.refresh())
    return b"".join(status.exposition(status.make_registry(context), context))


def series(config: Config) -> dict[str, float]:
    """Return all series that /metrics has, as they are written, with their values."""
    text = exposed(config).decode()
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert len(found) == len(lines)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", (["check", "rules", "alerts.yaml"], ["test", "rules", "alerts.test.yaml"])
)
def test_promtool_finds_nothing_wrong(arguments: list[str]) -> None:
    promtool = need("promtool", "apt-get install prometheus")
    done = subprocess.run(
        [promtool, *arguments], cwd=DEPLOY, capture_output=True, text=True, timeout=BOUND_S
    )
    assert done.returncode == 0 and "SUCCESS" in done.stdout, done.stdout + done.stderr


def test_metrics_keep_the_rules_of_prometheus(several: Config) -> None:
    """Counters are counters and end with _total, units are base units, each has its help."""
    promtool = need("promtool", "apt-get install prometheus")
    done = subprocess.run(
        [promtool, "check", "metrics"], input=exposed(several), capture_output=True, timeout=BOUND_S
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def looked_at() -> dict[str, list[list[bool]]]:
    """Return of each alert, for each group of tests, whether it is to fire at each moment that is
    looked at, in their order."""
    found: dict[str, list[list[bool]]] = {}
    for group in yaml.safe_load((DEPLOY / "alerts.test.yaml").read_text())["tests"]:
        looked: dict[str, list[tuple[int, bool]]] = {}
        for one in group.get("promql_expr_test", ()):
            at_s = int(one["eval_time"][:-1]) * {"s": 1, "m": 60}[one["eval_time"][-1]]
            for name in re.findall(r"Kuager\w+", one["expr"]):
                looked.setdefault(name, []).append((at_s, "exp_samples" in one))
        for one in group.get("alert_rule_test", ()):
            at_s = int(one["eval_time"].removesuffix("s"))
            looked.setdefault(one["alertname"], []).append((at_s, "exp_alerts" in one))
        for name, moments in looked.items():
            found.setdefault(name, []).append([fires for _, fires in sorted(moments)])
    return found


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    """Tested is that it fires, and that it ends."""
    moments = looked_at()
    for alert in ALERTS:
        steps = [step for fires in moments[alert["alert"]] for step in pairwise(fires)]
        assert (True, False) in steps, alert["alert"]
        assert {"summary", "description"} <= alert["annotations"].keys()
        assert alert["labels"]["severity"] in ("warning", "critical")
        for command in re.findall(r"`kuager ([a-z]+)", alert["annotations"]["description"]):
            assert f"| `kuager {command}" in (DEPLOY.parent / "docs/operations.md").read_text()


def test_what_is_asked_for_is_there_from_the_first_second(several: Config) -> None:
    asked: list[str] = [rule["expr"] for rule in RULES]
    asked += [target["expr"] for panel in PANELS for target in panel["targets"]]
    names = {name for text in asked for name in re.findall(r"kuager[_:][a-z_:]+", text)}
    assert len(names) > 20
    found = series(several)
    assert math.isnan(found['kuager_node_up{node="n1"}'])
    there = {re.split("[{ ]", line)[0] for line in found} | RECORDED
    # of HTTP there is nothing before the first request
    assert {n for n in names if not n.startswith("kuager_http_")} <= there


def test_of_two_machines_with_one_name_the_one_that_is_away_counts(several: Config) -> None:
    """One with a new disk is another one; two series of one name are none to Prometheus."""
    (several.spool / "_status").mkdir(parents=True)
    nodes = tuple(
        MachineEntry(spool=spool, name="n1", address="10.0.0.5:8090", alive=alive)
        for spool, alive in (("a" * 32, False), ("b" * 32, True))
    )
    told: dict[str, Any] = {"pid": 1, "written_ms": now_ms(), "spool": "b" * 32, "name": "n1"}
    write_node_map(several.spool, NodeMap(nodes=nodes, database=None, **told))
    assert series(several)['kuager_node_up{node="n1"}'] == 0


def test_pictures_are_old_by_how_often_they_are_made(config: Config) -> None:
    rare = config.model_copy(update={"pictures_s": 300})
    assert series(rare)["kuager_pictures_interval_seconds"] == 300


def test_every_camera_archive_and_process_is_there_from_the_first_second(config: Config) -> None:
    found = series(config)
    for station, key in product(config.stations, ("scheduled", "recorded_timestamp_seconds")):
        for camera in station.cameras:
            labels = f'station="{station.id}",camera="{camera.id}"'
            assert f"kuager_camera_{key}{{{labels}}}" in found
            assert found[f'kuager_camera_cause{{{labels},cause="unknown"}}'] == 1
    for archive in config.archives:
        for fault in Fault:
            labels = f'archive="{archive.name}",cause="{fault}"'
            assert found[f"kuager_archive_cause{{{labels}}}"] == 0
        for reason in Blocked:
            labels = f'archive="{archive.name}",reason="{reason}"'
            assert found[f"kuager_archive_blocked_recordings{{{labels}}}"] == 0
    for name in processes(config):
        up = found[f'kuager_process_up{{process="{name}"}}']
        assert math.isnan(up) if name.startswith("web-") else up == 0
    assert found['kuager_spool_cause{cause="disk_failed"}'] == 1


def tell(config: Config, name: str, **said: Any) -> None:
    (config.spool / "_status").mkdir(parents=True, exist_ok=True)
    (config.spool / "_status" / name).write_text(json.dumps(said))


def test_a_camera_that_is_tried_again_and_one_whose_recorder_died(config: Config) -> None:
    """When it was recorded last, and why it is not, do not change with each try."""
    station, camera = config.stations[0], config.stations[0].cameras[0]
    labels = f'station="{station.id}",camera="{camera.id}"'
    context = AppContext(config, None, [])
    for state in ("backoff", "connecting", "backoff"):
        one = {"state": state, "cause": "refused_password", "recorded_ms": 1_000_500}
        cameras = {f"{station.id}/{camera.id}": one}
        spool = {"bytes_per_s": 0, "waiting_bytes": 0, "slow_s": 0}
        tell(config, "recorder-0.json", written_ms=context.clock(), cameras=cameras, spool=spool)
        found = series(config)
        assert found[f"kuager_camera_recorded_timestamp_seconds{{{labels}}}"] == 1000.5
        assert found[f'kuager_camera_cause{{{labels},cause="refused_password"}}'] == 1
        assert found['kuager_process_up{process="recorder-0"}'] == 1
    tell(config, "recorder-0.json", written_ms=1_010_000, cameras=cameras, spool=spool)
    found = series(config)
    assert found[f"kuager_camera_recorded_timestamp_seconds{{{labels}}}"] == 1000.5
    assert found[f'kuager_camera_cause{{{labels},cause="unknown"}}'] == 1
    assert found['kuager_process_up{process="recorder-0"}'] == 0
    assert found['kuager_process_told_timestamp_seconds{process="recorder-0"}'] == 1010


def counted(found: dict[str, float]) -> dict[str, float]:
    """Return what was counted."""
    return {line: n for line, n in found.items() if "_total" in line and n}


def test_what_is_counted_does_not_fall_while_its_teller_is_silent(config: Config) -> None:
    """`increase` would count it twice, and an alert fire for what was long ago."""
    station, camera = config.stations[0], config.stations[0].cameras[0]
    context = AppContext(config, None, [])
    now = context.clock()
    one = {"state": "recording", "recorded_ms": now, "bytes": 7, "frames": 6, "retries": 5}
    clock = {"synchronized": False, "doubt": "it is off by +1.0 days"}
    cameras = {f"{station.id}/{camera.id}": one}
    archive = {"verification_failures_total": 2, "archived_total": 9}
    archives = {config.archives[0].name: archive}
    supervised = {"orders-0": {"up": True, "starts": 4}}

    def all_told(at_ms: int) -> dict[str, float]:
        tell(config, "recorder-0.json", written_ms=at_ms, cameras=cameras, clock=clock)
        tell(config, "uploader.json", written_ms=at_ms, archives=archives)
        tell(config, "supervisor.json", written_ms=at_ms, processes=supervised)
        return series(config)

    before, silent = all_told(now), all_told(now - 60_000)
    assert len(counted(before)) >= 6 and counted(silent) == counted(before)
    for name in ("kuager_clock_synchronized", "kuager_clock_believed"):
        assert before[name] == silent[name] == 0
    for found, up in ((before, 1), (silent, 0)):
        assert found['kuager_process_up{process="recorder-0"}'] == up


def test_what_was_told_stays_while_the_disk_of_the_spool_is_away(config: Config) -> None:
    station, camera = config.stations[0], config.stations[0].cameras[0]
    context = AppContext(config, None, [])
    registry = status.make_registry(context)
    now = context.clock()
    one = {"state": "recording", "recorded_ms": now, "bytes": 7}
    tell(config, "recorder-0.json", written_ms=now, cameras={f"{station.id}/{camera.id}": one})
    archive = {"verification_failures_total": 2, "backlog_recordings": 3}
    tell(config, "uploader.json", written_ms=now, archives={config.archives[0].name: archive})

    def shown() -> list[str]:
        list(context.refresh())
        text = b"".join(status.exposition(registry, context)).decode()
        words = "recorded_timestamp", "recorded_bytes", "verification_failures", "backlog_rec"
        lines = [line for line in text.splitlines() if any(word in line for word in words)]
        numbers = [line for line in lines if not line.startswith("#")]
        return [line for line in numbers if float(line.rpartition(" ")[2]) > 0]

    before = shown()
    assert len(before) == 4, before
    config.spool.rename(config.spool.with_name("away"))
    assert shown() == before
    config.spool.with_name("away").rename(config.spool)
    (config.spool / "_status/recorder-0.json").unlink()
    assert len(shown()) == 2  # somebody removed it


def test_a_recorder_that_still_pauses_is_told(config: Config) -> None:
    """It waits for room for a minute more, so there may be room already."""
    claim_spool(config.spool)
    spool = {"cause": "disk_full", "bytes_per_s": 0}
    for cause, ok in ((None, 1), ("disk_full", 0)):
        said = {"cameras": {}, "spool": spool | {"cause": cause}}
        tell(config, "recorder-0.json", written_ms=now_ms(), **said)
        found = series(config)
        assert found['kuager_spool_cause{cause="disk_full"}'] == 1 - ok
        assert found["kuager_spool_ok"] == ok


def test_why_the_database_refuses_is_told(config: Config) -> None:
    """A web process that has not opened it yet, and an uploader: for each cause a series."""
    tell(config, "uploader.json", written_ms=now_ms(), catalogue_ok=False, catalogue_fault="disk")
    found = series(config)
    cause = {fault: found[f'kuager_catalogue_cause{{cause="{fault}"}}'] for fault in DatabaseFault}
    assert cause == {fault: fault in ("disk", "other") for fault in DatabaseFault}


def test_work_on_orders_that_fails_has_a_name(config: Config) -> None:
    tell(config, "orders.json", written_ms=now_ms(), failing=1, failing_work=["letter"])
    found = series(config)
    assert found['kuager_orders_failing{work="letter"}'] == 1
    assert found['kuager_orders_failing{work="hash"}'] == 0


def test_web_processes_are_those_that_the_supervisor_has(config: Config) -> None:
    context = AppContext(config, None, [])
    running = {"web-0": {"up": True, "starts": 1}, "web-1": {"up": False, "starts": 4}}
    tell(config, "supervisor.json", written_ms=context.clock(), processes=running)
    found = series(config)
    assert [found[f'kuager_process_up{{process="web-{n}"}}'] for n in range(2)] == [1, 0]
    assert found['kuager_process_starts_total{process="web-1"}'] == 4


@pytest.mark.parametrize(
    ("clocks", "synchronized", "believed"),
    [
        ([(True, None)], 1, 1),
        ([(True, None), (False, None)], 0, 1),
        ([(True, None), (False, "it is off by +1.0 days")], 0, 0),
    ],
)
def test_what_recorders_say_of_the_clock(
    config: Config, clocks: list[tuple[bool, str | None]], synchronized: int, believed: int
) -> None:
    """One of several is enough."""
    for share, (kernel, doubt) in enumerate(clocks):
        said = {"cameras": {}, "clock": {"synchronized": kernel, "doubt": doubt}}
        tell(config, f"recorder-{share}.json", written_ms=now_ms(), **said)
    found = series(config)
    assert found["kuager_clock_synchronized"] == synchronized
    assert found["kuager_clock_believed"] == believed
