"""What an installation without the extras of pyproject.toml can do, and what it says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kuager.cli import app
from tests.support.archiving import configure
from tests.support.repository import ROOT
from tests.support.waiting import BOUND_S

WITHOUT = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("av", "cv2", "numpy", "stripe", "rclone"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
"""
# all that needs an extra; everything else is imported by some node
NEEDS = ("recorder.pictures", "copies.payments.stripe", "kuager.simulator", "kuager.demo")
IMPORTS = """
import importlib, pkgutil

for package in ("base", "config", "storage", "recorder", "copies", "streaming", "kuager"):
    for module in pkgutil.walk_packages([package], f"{package}."):
        name = module.name
        runs = "migrations" in name or name.endswith("__main__")
        if not runs and not name.startswith(NEEDS):
            importlib.import_module(name)
importlib.import_module("kuager.simulator.faults")  # `kuager demo faults` lists them
print("all", len(sys.modules))
"""


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program to which the extras are not installed."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def kuager(*words: str, **environment: str) -> tuple[int, str]:
    """Run a command; return its exit code and all that it printed."""
    code = f"sys.argv = ['kuager', *{words!r}]\nfrom kuager.__main__ import main\nmain()"
    done = python(code, **environment)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.slow
def test_a_node_without_extras_imports_none_of_them() -> None:
    done = python(f"NEEDS = {NEEDS!r}\n{IMPORTS}")
    assert done.returncode == 0 and done.stdout.startswith("all"), done.stderr


@pytest.mark.slow
def test_what_is_missing_is_said_with_how_to_have_it(tmp_path: Path) -> None:
    config = configure(tmp_path, f"sqlite:///{tmp_path}/k.db", "archives: [archive]\n")
    code, text = kuager("run", "--config", str(config.path))
    assert code == 2 and "pip install 'kuager[pictures]', or write pictures: off" in text
    assert "Traceback" not in text
    text = config.path.read_text() + (
        "pictures: off\ncopies: {price_per_minute: 1, stripe: {secret_key: a, webhook_secret: b}}\n"
    )
    config.path.write_text(text.replace("web: {", 'web: {public_url: "https://k.example", '))
    for words in (("run", "--role", "web"), ("orders", "list")):
        code, text = kuager(*words, "--config", str(config.path))
        assert code == 2 and "pip install 'kuager[stripe]'" in text, text
    code, text = kuager("check", "--config", str(config.path))
    assert code == 1 and "kuager[stripe]" in text, text
    code, text = kuager("demo", "--data", str(tmp_path / "demo"))
    assert code == 2 and "pip install 'kuager[demo]'" in text, text
    assert kuager("demo", "faults")[0] == 0


@pytest.mark.parametrize("port", ["0", "99999"])
def test_a_port_of_the_demo_that_is_none_is_told(tmp_path: Path, port: str) -> None:
    done = CliRunner().invoke(app, ["demo", "--data", str(tmp_path)], env={"PORT": port})
    assert done.exit_code == 2 and "--port" in done.output and not list(tmp_path.iterdir())
