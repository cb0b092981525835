"""Other programs that a test needs: found, or the test is skipped, in CI failed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CI = os.environ.get("KUAGER_CI") == "1"


def need(program: str, how: str, path: str | None = None) -> str:
    """Return the path of a program, from `path` or PATH; without it the test is skipped, in CI it
    fails."""
    found = shutil.which(program, path=path)
    if found is None:
        missing(f"{program} is missing: {how}")
    assert found is not None
    return found


def self_signed(folder: Path) -> tuple[str, str]:
    """Make a certificate of localhost that nobody vouches for; return its path and its key's."""
    openssl, files = need("openssl", "apt-get install openssl"), (folder / "pem", folder / "key")
    made = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    out = ["-out", str(files[0]), "-keyout", str(files[1])]
    subprocess.run([openssl, *made, *out], check=True, capture_output=True)
    return str(files[0]), str(files[1])


def missing(text: str) -> None:
    """Skip for something missing; in CI that is a failure."""
    if CI:
        pytest.fail(text)
    pytest.skip(text)
