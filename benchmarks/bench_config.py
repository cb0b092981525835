"""How long 10,000 stations with 40,000 cameras take to load, from CSV and from YAML.

Run: python -m benchmarks.bench_config
"""

from __future__ import annotations

import csv
import resource
import tempfile
import time
from pathlib import Path

from config.csvfile import COLUMNS
from config.load import load

STATIONS, ANGLES = 10_000, ("ballot-box", "counting-table", "entrance", "hall")
KUAGER = """
election:
  id: president-2026
  name: Presidential election
  date: 2026-11-29
  time_zone: Asia/Almaty
  windows: [{{from: 2026-11-29T06:00, to: 2026-11-30T03:00}}]
stations: {}
spool: spool
archives: [archive]
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_csv(directory / "stations.csv")
        write_yaml(directory / "stations.yaml")
        for file in ("stations.csv", "stations.yaml"):
            path = directory / "kuager.yaml"
            path.write_text(KUAGER.format(file))
            start = time.perf_counter()
            config = load(path, {"CAMERA_PASSWORD": "secret"})
            seconds = time.perf_counter() - start
            cameras = sum(len(station.cameras) for station in config.stations)
            size_mb = (directory / file).stat().st_size / 1e6
            memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{file}: {size_mb:.1f} MB, {len(config.stations):,} stations, {cameras:,} cameras:"
                f" {seconds:.2f} s, at most {memory_mb:.0f} MB of memory so far"
            )


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for n in range(STATIONS):
            for m, angle in enumerate(ANGLES):
                writer.writerow(row(n, m, angle))


def row(n: int, m: int, angle: str) -> dict[str, str]:
    texts = {"name": f"Мектеп №{n}", "region": "Алматы қаласы", "district": "Медеу ауданы"}
    texts |= {"address": f"Абай көшесі {n}", "title": angle}
    return {
        "station_id": f"{n:05}",
        "number": str(n),
        **{f"{k}_{lang}": text for k, text in texts.items() for lang in ("kk", "ru", "en")},
        "latitude": f"{40 + n / 1000:.6f}",
        "longitude": f"{50 + n / 500:.6f}",
        "camera_id": angle,
        "url": f"rtsp://viewer:${{CAMERA_PASSWORD}}@10.{n >> 8}.{n & 255}.{m + 10}:554/stream1",
        "transport": "tcp",
        "audio": "keep",
    }


def write_yaml(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write("stations:\n")
        for n in range(STATIONS):
            file.write(f'  - id: "{n:05}"\n    number: "{n}"\n')
            for key in ("name", "region", "district", "address"):
                file.write(f"    {key}: {{kk: Алматы {n}, ru: Алматы {n}, en: Almaty {n}}}\n")
            file.write(f"    latitude: {40 + n / 1000}\n    longitude: {50 + n / 500}\n")
            file.write("    cameras:\n")
            for m, angle in enumerate(ANGLES):
                file.write(f"      - id: {angle}\n        title: {angle}\n")
                file.write(f"        url: {row(n, m, angle)['url']}\n")


if __name__ == "__main__":
    main()
