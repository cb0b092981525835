"""Whichever web process is asked for metrics tells what all of them counted."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from config.model import Config
from streaming.context import AppContext
from streaming.ops.http_counts import HttpCounts
from streaming.ops.metrics import make_registry
from tests.support.archiving import configure

NOW = 1_795_000_000_000


class Process:
    """The counters of one web process."""

    def __init__(self, config: Config, name: str):
        self.name, self.registry = name, CollectorRegistry()
        self.requests = Counter("k_requests", "R", ["process", "route"], registry=None)
        self.seconds = Histogram("k_seconds", "S", ["process"], registry=None, buckets=(1, 2))
        self.counts = HttpCounts(config, name, (self.requests, self.seconds))
        self.registry.register(self.counts)

    def count(self, times: int) -> None:
        self.requests.labels(self.name, "/").inc(times)
        self.seconds.labels(self.name).observe(times)

    def told(self) -> dict[str, float]:
        text = generate_latest(self.registry).decode()
        lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}


def total(process: str) -> str:
    return f'k_requests_total{{process="{process}",route="/"}}'


def test_all_tell_the_same(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    one, other = Process(config, "web-0"), Process(config, "web-1")
    one.count(1)
    assert one.told()[total("web-0")] == 1  # there is no spool yet, and it tells its own
    (config.spool / "_status").mkdir(parents=True)
    other.count(2)
    for process in (one, other):
        process.counts.write()
    assert one.told() == other.told()
    assert one.told()[total("web-0")] == 1 and one.told()[total("web-1")] == 2
    assert one.told()['k_seconds_bucket{le="1.0",process="web-1"}'] == 0
    assert one.told()['k_seconds_count{process="web-0"}'] == 1


def test_nothing_is_counted_back(tmp_path: Path) -> None:
    """Asked in turn, no process tells less than another did before."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    (config.spool / "_status").mkdir(parents=True)
    both = Process(config, "web-0"), Process(config, "web-1")
    before: dict[str, float] = {}
    for n in range(20):
        both[n % 2].count(n)
        if n % 3 == 0:
            both[n % 2].counts.write()
        told = both[n // 2 % 2].told()
        if n > 3:
            assert all(told[name] >= value for name, value in before.items())
            before = told
    text = "\n".join(both[0].told())
    assert text.count("k_requests_total") == 2


def test_a_file_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    (config.spool / "_status").mkdir(parents=True)
    one = Process(config, "web-0")
    one.count(1)
    one.counts.write()
    for text in ("", "[]", "{}", '{"samples":[[1]]}', '{"samples":[["a",{},"x"]]}', "\ud800"):
        (config.spool / "_status/web-1.http").write_text(text, errors="replace")
        assert one.told()[total("web-0")] == 1


def test_a_process_that_hangs_is_seen(tmp_path: Path) -> None:
    """Those who come to it wait, while the others answer Prometheus."""
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    (config.spool / "_status").mkdir(parents=True)
    up = {name: {"up": True, "starts": 1} for name in ("web-0", "web-1")}
    told = {"written_ms": NOW, "processes": up}
    (config.spool / "_status/supervisor.json").write_text(json.dumps(told))
    for name, written_ms in (("web-0", NOW - 1_000), ("web-1", NOW - 30_000)):
        HttpCounts(config, name, (), partial(int, written_ms)).write()
    context = AppContext(config, None, [], lambda: NOW)
    list(context.refresh())
    text = generate_latest(make_registry(context)).decode()
    assert 'kuager_process_up{process="web-0"} 1.0' in text
    assert 'kuager_process_up{process="web-1"} 0.0' in text
    (config.spool / "_status/web-1.http").unlink()  # it cannot write: the supervisor's word counts
    assert (
        'kuager_process_up{process="web-1"} 1.0' in generate_latest(make_registry(context)).decode()
    )
