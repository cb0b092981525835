"""Docs are true: commands, routes, metrics, links, words; and nothing is here that must not be."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml
from aiohttp import web

from base.i18n.causes import CAUSES
from config.copies import Copies
from config.load import load
from config.model import Node
from kuager.cli import app
from recorder import camera_state, disk_watch, segmenter, session
from recorder.rtsp import connection, messages, nal_units, rtp, stream
from storage.records import GapCause
from streaming.app import COPIES_MODULES, MODULES
from streaming.context import AppContext
from streaming.media import for_peers
from streaming.ops import metrics as status
from streaming.ops.health import operators_routes
from tests.support.repository import PAGES, ROOT, TRACKED
from tests.support.waiting import BOUND_S

WORDS = "election station camera schedule run frame segment recording gap spool archive catalogue"
OPERATIONS = (ROOT / "docs/operations.md").read_text()


def commands(group: object, prefix: str = "kuager") -> list[str]:
    found = []
    for name, command in getattr(group, "commands", {}).items():
        found += [f"{prefix} {name}", *commands(command, f"{prefix} {name}")]
    return found


@pytest.mark.slow
def test_every_command_is_documented_and_has_help() -> None:
    names = commands(typer.main.get_command(app))
    assert {"kuager check", "kuager run", "kuager demo"} <= set(names)
    for name in names:
        assert f"`{name}`" in OPERATIONS, name
        done = subprocess.run(
            [str(ROOT / ".venv/bin/python"), "-m", *name.split(), "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=BOUND_S,
        )
        assert done.returncode == 0 and "Usage" in done.stdout


def test_every_route_is_documented() -> None:
    for routes in (*(part.routes for part in (*MODULES, *COPIES_MODULES)), operators_routes):
        for route in routes:
            path = re.sub(r":\[0-9\]\{1,[0-9]+\}", "", route.path)
            assert f"`{path}`" in OPERATIONS, path


def test_what_machines_ask_each_other_is_documented() -> None:
    scaling = (ROOT / "docs/scaling.md").read_text()
    for route in for_peers.routes:
        assert isinstance(route, web.RouteDef)
        path = re.sub(r"\{(\w+):(?:[^{}]|\{[^}]*\})*\}", r"{\1}", route.path)
        assert f"`{path}`" in scaling, path


def test_what_is_kept_in_the_browser_is_documented() -> None:
    threats = (ROOT / "docs/threat-model.md").read_text()
    ways = re.compile(r"localStorage|sessionStorage|indexedDB|document\.cookie|\bcaches\.")
    for script in (ROOT / "streaming/static").glob("*.mjs"):
        for way in set(ways.findall(script.read_text())):
            assert f"`{way}`" in threats, f"{script.name} keeps something by {way}"


def test_every_metric_is_documented(tmp_path: Path) -> None:
    environ = {"CAMERA_PASSWORD": "x"}
    config = load(ROOT / "deploy/kuager.example.yaml", environ)
    node = Node(name="n1", host="127.0.0.1", port=1)
    config = config.model_copy(
        update={"spool": tmp_path, "copies": Copies(free=True), "node": node}
    )
    context = AppContext(config, None, [])
    list(context.refresh())
    text = b"".join(status.exposition(status.make_registry(context), context)).decode()
    names = set(re.findall(r"(?m)^# TYPE (kuager_\w+) ", text))
    assert len(names) > 12
    for name in names:
        assert f"`{name}`" in OPERATIONS, name
    rows = set(re.findall(r"(?m)^\| `(kuager_\w+)` \|", OPERATIONS))
    assert rows == names


def test_what_one_camera_may_take_is_what_the_code_lets_it() -> None:
    text = (ROOT / "docs/capacity.md").read_text()
    for value in (
        f"{camera_state.MOST_BYTES_S * 8 // 10**6} Mbit/s for long",
        f"{camera_state.MOST_BYTES >> 20} MiB beyond that",
        f"{session.MOST_FRAMES:,} in a second",
        f"{session.MOST_PACKETS:,} in a second",
        f"{connection.MAX_UNASKED:,} |",
        f"{nal_units.MAX_FRAME >> 20} MB |",
        f"{segmenter.MAX_BYTES >> 20} MB, {segmenter.MAX_FRAMES:,} pictures",
        f"{session.MAX_UNWRITTEN >> 20} MB; {disk_watch.MAX_WAITING >> 20} MB for all",
        f"{stream.CAPACITY >> 10} kB; while a large answer comes, "
        f"{messages.MAX_HEAD + messages.MAX_BODY + stream.ROOM >> 10} kB",
        f"{rtp.WINDOW}, and {rtp.WAIT_MS:.0f} ms",
    ):
        assert value in text, value


def test_every_cause_has_words_and_a_page() -> None:
    formats = (ROOT / "docs/formats.md").read_text()
    for cause in GapCause:
        assert f"`{cause.value}`" in formats
        assert CAUSES[cause]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        if not target.startswith(("http://", "https://")):
            assert ((ROOT / page).parent / target).exists(), target


def test_the_glossary_has_the_words() -> None:
    text = (ROOT / "docs/glossary.md").read_text()
    for word in WORDS.split():
        assert f"| {word} |" in text


@cache
def functions_of(name: str) -> set[str]:
    return set(re.findall(r"(?m)^(?:async )?def (test_\w+)\(", (ROOT / name).read_text()))


@pytest.mark.parametrize("page", PAGES)
def test_tests_named_in_docs_exist(page: str) -> None:
    for name, test in re.findall(r"(tests/[\w/]+\.py)::(\w+)", (ROOT / page).read_text()):
        assert name in TRACKED and test in functions_of(name), f"{page}: {name}::{test}"
    for name, test in re.findall(r"`(tests/[\w/.]+\.mjs)::([^`]+)`", (ROOT / page).read_text()):
        there = name in TRACKED and f'test("{test}", ' in (ROOT / name).read_text()
        assert there, f"{page}: {name}::{test}"


def test_every_fault_has_its_test() -> None:
    """Or says that it is not ended; each has an id of its own, by its kind."""
    rows = re.findall(r"(?m)^\| ([a-z]+-[0-9]+) \| (.*) \|$", (ROOT / "docs/faults.md").read_text())
    ids = [one for one, _ in rows]
    assert len(ids) == len(set(ids)) > 130
    for one, text in rows:
        what, how, tests, _, read = text.split(" | ")
        assert what and how and read, one
        assert "::" in tests or (tests == "none" and how.startswith("Not ended.")), one


def test_make_targets_named_in_docs_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    for page in PAGES:
        for target in re.findall(r"(?m)(?:^|`)make ([a-z-]+)", (ROOT / page).read_text()):
            assert target in targets, f"{page}: make {target}"


def test_nothing_is_here_that_must_not_be() -> None:
    hosts = [
        ".".join(h)
        for h in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("debian", "org"),
            ("npmjs", "com"),
        )
    ]
    for name in TRACKED:
        path = ROOT / name
        assert path.stat().st_size < 500_000, f"{name} is large"
        if path.suffix in (".png",):
            continue
        text = path.read_text()
        for host in hosts:
            assert host not in text, f"{name} names {host}"
        for place in ("/" + "work/", "/" + "root/"):
            assert place not in text, f"{name} names {place}"


def test_locks_hold_no_addresses() -> None:
    for name in ("deploy/requirements.txt", "deploy/requirements-dev.txt"):
        assert "://" not in (ROOT / name).read_text()
    assert '"resolved"' not in (ROOT / "streaming/package-lock.json").read_text()


def test_a_commit_is_held_to_what_make_check_runs() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    hooks = [hook["entry"] for hook in config["repos"][0]["hooks"]]
    parts = re.search(r"(?m)^check: (.*) ##", (ROOT / "Makefile").read_text())
    assert parts and hooks == [f"make -s {part}" for part in parts[1].split()]
