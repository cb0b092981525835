"""What a command line cannot mean is said, and nothing is begun."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kuager.cli import app
from kuager.supervisor import KUAGER
from tests.support.waiting import BOUND_S


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--share 0/2", "only what --role recorder or web does has shares"),
        ("--role uploader --share 1/2", "only what --role recorder or web does has shares"),
        ("--role recorder --share 2/2", "write 0/2 for the first of two shares"),
        ("--role recorder --share 0/²", "write 0/2 for the first of two shares"),
        ("--role record", "no role 'record'"),
    ],
)
def test_a_share_that_cannot_be(words: str, said: str) -> None:
    """Two machines that are started with a share each would both record all cameras."""
    done = CliRunner().invoke(app, ["run", "--config", "/no/such/file", *words.split()])
    assert done.exit_code == 2 and said in " ".join(done.output.split()), done.output


@pytest.mark.slow
def test_what_is_in_the_folder_where_kuager_is_started_is_not_its_code(tmp_path: Path) -> None:
    """Each process of a supervisor that was started beside somebody's config.py was that."""
    (tmp_path / "config.py").write_text("raise SystemExit(3)")
    done = subprocess.run([*KUAGER, "--version"], cwd=tmp_path, timeout=BOUND_S, check=False)
    assert done.returncode == 0
