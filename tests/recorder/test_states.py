"""The transition table is whole, and docs/architecture.md shows the same one."""

from __future__ import annotations

import re

from recorder.states import TRANSITIONS, Event, State
from tests.support.repository import ROOT


def test_every_state_is_reached_and_left() -> None:
    assert {s for s, _ in TRANSITIONS} == set(State)
    assert set(TRANSITIONS.values()) == set(State)
    assert {e for _, e in TRANSITIONS} == set(Event)


def test_docs_show_the_table() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    section = text.split("## A camera's states")[1]
    shown = set()
    for row in re.findall(r"^\| ([a-z, ]+) \| ([a-z]+)[^|]*\| ([a-z]+) \|$", section, re.M):
        if row[0] != "from":
            shown |= {(State(s), Event(row[1]), State(row[2])) for s in row[0].split(", ")}
    assert shown == {(s, e, to) for (s, e), to in TRANSITIONS.items()}
