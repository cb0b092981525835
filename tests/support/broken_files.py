"""Configurations that somebody broke while they are in use, each in another way."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

KUAGER, STATIONS = "kuager.yaml", "stations.yaml"


def _change(name: str, change: Callable[[str], str | bytes], folder: Path) -> None:
    changed = change((folder / name).read_text())
    (folder / name).write_bytes(changed.encode() if isinstance(changed, str) else changed)


def _twice(stations: str) -> str:
    begin, _, listed = stations.partition("cameras:")
    first, second = re.findall(r"\bid: ([\w-]+)", listed)[:2]
    return f"{begin}cameras:{listed.replace(f'id: {second}', f'id: {first}', 1)}"


# of kuager.yaml and stations.yaml in a folder
BROKEN: dict[str, Callable[[Path], object]] = {
    "not YAML": partial(_change, KUAGER, lambda text: text + "spool: [\n"),
    "half written": partial(_change, KUAGER, lambda text: text[: len(text) // 2]),
    "empty": partial(_change, KUAGER, lambda _: ""),
    "gone": lambda folder: (folder / KUAGER).unlink(),
    "stations gone": lambda folder: (folder / STATIONS).unlink(),
    "stations empty": partial(_change, STATIONS, lambda _: ""),
    "an unknown setting": partial(_change, KUAGER, lambda text: text + "wokers: 2\n"),
    "the same id twice": partial(_change, STATIONS, _twice),
    "a camera without an address": partial(
        _change, STATIONS, lambda text: re.sub(r'url: (".*?"|\S+)', 'url: ""', text, count=1)
    ),
    "not text": partial(_change, STATIONS, lambda _: b"\xff\xfe\x00\x00" * 9),
    "a variable that is not set": partial(
        _change, KUAGER, lambda text: text + "user_agent: ${NOT}\n"
    ),
    "a time that is none": partial(
        _change, KUAGER, lambda text: re.sub(r"T\d\d:", "T26:", text, count=1)
    ),
    "stations of an unknown kind": partial(
        _change, KUAGER, lambda text: text.replace("stations.y", "stations.z")
    ),
}
