"""Scripts and styles as pages load them: all at once, small, and doing what their sources do."""

from __future__ import annotations

import re

import pytest

from streaming.http.assets import HERE, address, assets, imported

SCRIPTS = {p.name: p.read_text() for p in sorted((HERE / "static").glob("*.mjs"))}
TEMPLATES = {p.name: p.read_text() for p in (HERE / "templates").glob("*.html")}
ASKED = re.compile(r'type="module" src="\{\{ static\("(\w+\.mjs)"\)')
ASKS = re.compile(r"\bawait fetch\((.*?)\);", re.S)
COMMENTED = re.compile(r"\s*(//|/\*.*\*/$|/\*\*$|\*)")
PAGES = sorted({name for text in TEMPLATES.values() for name in ASKED.findall(text)})


@pytest.mark.parametrize("page", PAGES)
def test_a_page_asks_at_once_for_every_script_that_it_needs(page: str) -> None:
    at_once = imported(page)
    assert len(set(at_once)) == len(at_once)
    named = {one for name in (page, *map(_name, at_once)) for one in _named(name)}
    assert named == set(map(_name, at_once))
    if at_once:  # one that imports nothing has nothing to ask for
        asks = [text for text in TEMPLATES.values() if f'static("{page}")' in text]
        assert all(f'imported("{page}")' in text for text in asks)


def test_every_script_is_needed_by_a_page() -> None:
    needed = {*PAGES, *(_name(one) for page in PAGES for one in imported(page))}
    assert set(SCRIPTS) == needed


def test_scripts_are_sent_without_lines_of_comment_and_with_all_else() -> None:
    for name, text in SCRIPTS.items():
        sent = assets()[name].plain.decode()
        assert not re.search(r"^\s*(//|/\*\*$)", sent, re.M), name
        # a text over several lines could hold what looks like a comment
        assert all(line.count("`") % 2 == 0 for line in text.splitlines()), name
        lines = [line for line in text.splitlines() if not COMMENTED.match(line)]
        assert [line for line in sent.splitlines() if not COMMENTED.match(line)] == lines, name


def test_no_script_waits_for_ever_for_an_answer() -> None:
    # what a network that went away swallowed is never answered, and never fails by itself
    calls = [(name, call) for name, text in SCRIPTS.items() for call in ASKS.findall(text)]
    assert len(calls) > 8
    assert [(name, call) for name, call in calls if "signal: " not in call] == []


def test_a_page_for_a_slow_link_is_small() -> None:
    page = ("station.mjs", *map(_name, imported("station.mjs")), "kuager.css", "watch.css")
    assert sum(len(assets()[name].packed) for name in page) < 60_000


def _name(address_: str) -> str:
    name = address_.rsplit("/", 1)[1]
    assert address_ == address(name)
    return name


def _named(script: str) -> list[str]:
    return re.findall(r'from "\./([\w.]+)"', SCRIPTS[script])
