"""Small valid configuration files, and helpers to change one thing in them."""

from __future__ import annotations

from pathlib import Path

from config.load import load
from config.model import Config
from config.problems import ConfigError, Problem

KUAGER = """\
election:
  id: test-2026
  name: Test
  date: 2026-11-29
  time_zone: Asia/Almaty
  windows:
    - {from: 2026-11-29T06:00, to: 2026-11-30T03:00}
stations: stations.yaml
spool: spool
archives: [archive]
"""
STATIONS = """\
stations:
  - id: s1
    cameras:
      - id: c1
        url: rtsp://10.0.0.1/a
      - id: c2
        url: rtsp://10.0.0.2/a
"""


def write(directory: Path, **texts: str | bytes) -> Path:
    """Write kuager.yaml, stations.yaml and what else is given (`stations_csv` is stations.csv)."""
    files: dict[str, str | bytes] = {"kuager_yaml": KUAGER, "stations_yaml": STATIONS, **texts}
    if "stations_csv" in texts and "kuager_yaml" not in texts:
        files["kuager_yaml"] = KUAGER.replace("stations.yaml", "stations.csv")
    for name, text in files.items():
        data = text.encode() if isinstance(text, str) else text
        (directory / name.replace("_", ".")).write_bytes(data)
    return directory / "kuager.yaml"


def read(directory: Path, environ: dict[str, str] | None = None, **texts: str | bytes) -> Config:
    """Load what `write` writes."""
    return load(write(directory, **texts), environ or {})


def problems(
    directory: Path, environ: dict[str, str] | None = None, **texts: str | bytes
) -> list[Problem]:
    """Return what is wrong with what `write` writes."""
    try:
        config = read(directory, environ, **texts)
    except ConfigError as error:
        assert any(not p.warning for p in error.problems)
        assert all(p.what and p.fix for p in error.problems)
        return list(error.problems)
    raise AssertionError(f"nothing was found wrong: {config!r}")


def brief(found: Problem) -> str:
    """Return file, line and place of a problem, with what is wrong."""
    place = found.file.name if found.line is None else f"{found.file.name}:{found.line}"
    return " ".join(part for part in (place, found.where, found.what) if part)
