"""For what a node begins anew to wait before it believes that another is dead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from config.load import load
from config.model import Node as NodeSettings
from storage.catalogue.leases import LEASE_MS, SETTLE_MS, Node, Shard, View
from storage.cluster.agent import NodeAgent, _map_of
from tests.support.config_files import write

T0 = 1_795_935_600_000
A, B, VIEWER = "a" * 32, "b" * 32, "c" * 32


@pytest.mark.parametrize(("gone", "settled"), [(VIEWER, True), (B, False)])
def test_a_row_is_missed_of_who_has_shards_alone(tmp_path: Path, gone: str, settled: bool) -> None:
    """Rows of machines that only show are forgotten when any node starts: all others then took for
    12 s nothing of one that was dead."""
    settings = NodeSettings(name="a", host="127.0.0.1", port=9000)
    config = load(write(tmp_path), {}).model_copy(update={"node": settings})
    elapsed_ms = 0.0
    agent = NodeAgent(config, "1", elapsed=lambda: elapsed_ms)
    there = {spool: Node(spool, spool[0], f"{spool[0]}:1") for spool in (A, B, VIEWER)}
    rows = [Shard(n, 1, A if n % 2 else B) for n in range(512)]

    def rounds(count: int) -> None:
        nonlocal elapsed_ms
        for _ in range(count):
            elapsed_ms += 1500
            until_ms = T0 + int(elapsed_ms) + LEASE_MS
            alive = {spool: replace(node, until_ms=until_ms) for spool, node in there.items()}
            view = View(A, until_ms - LEASE_MS, alive, rows)
            agent._decide(view)
            agent._map = _map_of(view, agent._map)

    rounds(SETTLE_MS // 1500 + 1)
    assert agent._contact.is_settled
    del there[gone]
    rounds(1)
    assert agent._contact.is_settled is settled
    rounds(SETTLE_MS // 1500)  # once: else nobody would take what it had
    assert agent._contact.is_settled
