"""The log: one line each, no secret in it, and not one for each request of a stranger."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.config_files import STATIONS, write
from tests.support.waiting import BOUND_S

SCRIPT = """
import logging
import structlog
from kuager import logs
logs.configure("web-0", public=True)
def fail():
    secret = "of-an-order"
    raise ValueError("wrong")
try:
    fail()
except ValueError:
    structlog.get_logger().exception("A request failed", route="/")
    logging.getLogger("asyncio").exception("Task exception was never %s", "retrieved")
for _ in range(500):
    structlog.get_logger().error("The same line")
    logging.getLogger("aiohttp.server").error("The same, of a library, for %s", "10.0.0.9")
"""


def test_lines_are_json_and_few() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=BOUND_S
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(line["process"] == "web-0" and line["timestamp"] for line in lines)
    assert lines[0]["event"] == "A request failed" and "ValueError: wrong" in lines[0]["exception"]
    assert lines[1]["event"] == "Task exception was never retrieved"
    assert len(lines) == 2 + 2 * 20
    assert "of-an-order" not in done.stderr.replace('secret = \\"of-an-order\\"', "")


def test_a_terminal_shows_no_values_of_variables() -> None:
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs) as child:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other end is closed
            pass
        assert child.wait(60) == 0
    os.close(ours)
    assert b"ValueError" in shown and b"wrong" in shown
    assert b"of-an-order" not in shown


def test_what_was_left_out_is_counted() -> None:
    from kuager.logs import EVERY_S, LINES, Seldom

    now = [0.0]
    seldom = Seldom(lambda: now[0])
    assert [seldom.due("a") for _ in range(LINES + 3)] == [0] * LINES + [None] * 3
    assert seldom.due("b") == 0
    now[0] = EVERY_S
    assert seldom.due("a") == 3
    assert seldom.due("a") == 0


@pytest.mark.slow
@pytest.mark.parametrize("where", ["a full disk", "a reader that has gone", "one that sleeps"])
def test_a_line_that_cannot_be_written_holds_up_nothing(where: str) -> None:
    """A supervisor has a line to say of each process that ends, and a recorder of each camera: they
    would end, or wait for a terminal that somebody stopped with Ctrl-S."""
    code = SCRIPT.replace('"web-0", public=True', '"supervisor"') + 'print("goes on")\n'
    reader, errors = os.pipe()
    if where == "a full disk":
        os.close(errors)
        errors = os.open("/dev/full", os.O_WRONLY)
    if where != "one that sleeps":
        os.close(reader)
    command = [sys.executable, "-c", code]
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, timeout=BOUND_S, check=False
        )
    finally:
        os.close(errors)
        if where == "one that sleeps":
            os.close(reader)
    assert (done.returncode, done.stdout) == (0, b"goes on\n")


COLLECTING = """
import logging
import sys
from kuager import logs
logs.configure("supervisor")
says = logging.getLogger("asyncio").error
def collect(*_):
    sys.setprofile(None)
    says("Task was destroyed but it is pending!")
    sys.setprofile(collect)
sys.setprofile(collect)
says("A line")
sys.setprofile(None)
"""


def test_a_line_may_be_said_in_the_midst_of_another() -> None:
    """The garbage collector begins wherever it likes, and what it takes away may have a line to
    say: it would wait for a lock that its own thread has, and no camera was recorded any more."""
    command = [sys.executable, "-c", COLLECTING]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=BOUND_S, check=True)
    lines = [json.loads(line)["event"] for line in done.stderr.splitlines()]
    assert lines.count("A line") == 1 and len(lines) > 10


WRONG = """
import logging
from kuager import logs
logs.configure("recorder-0")
logging.getLogger("aiohttp").warning("%d bytes were left", "some")
print("goes on")
"""


def test_a_line_of_a_library_whose_values_do_not_fit_ends_nothing() -> None:
    command = [sys.executable, "-c", WRONG]
    done = subprocess.run(command, capture_output=True, timeout=BOUND_S, check=False)
    assert (done.returncode, done.stdout) == (0, b"goes on\n"), done.stderr
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["event"] == "%d bytes were left"


READING = """
import sys
from pathlib import Path
from kuager.cli_options import read_config
assert read_config(Path(sys.argv[1])).warnings
print("goes on")
"""


@pytest.mark.slow
def test_warnings_that_cannot_be_written_keep_nothing_from_running(tmp_path: Path) -> None:
    path = write(tmp_path, stations_yaml=STATIONS.replace("10.0.0.2", "10.0.0.1"))
    with Path("/dev/full").open("wb") as errors:
        command = [sys.executable, "-c", READING, str(path)]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=errors, timeout=BOUND_S, check=False
        )
    assert done.stdout == b"goes on\n"  # in the end some Pythons say that a line was not written
