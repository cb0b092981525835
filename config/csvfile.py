"""The stations as a table, one row per camera -> the document that stations.yaml would be.

The columns are in docs/configuration.md. What a station's first row says may be repeated or left
empty on its other rows, but not contradicted.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from base.i18n.gettext import LANGUAGES
from config.problems import Problem, Wrong, unknown
from config.secrets import expand
from config.yamlfile import BROKEN, Loc


def _localized(name: str) -> dict[str, tuple[str, ...]]:
    return {name: (name,)} | {f"{name}_{language}": (name, language) for language in LANGUAGES}


STATION_COLUMNS: dict[str, tuple[str, ...]] = {
    "station_id": ("id",),
    "number": ("number",),
    **_localized("name"),
    **_localized("region"),
    **_localized("district"),
    **_localized("address"),
    "latitude": ("latitude",),
    "longitude": ("longitude",),
    "time_zone": ("time_zone",),
    "exceptions": ("exceptions",),
}
CAMERA_COLUMNS: dict[str, tuple[str, ...]] = {
    "camera_id": ("id",),
    **_localized("title"),
    "url": ("url",),
    "low_url": ("low_url",),
    "source": ("source",),
    "transport": ("transport",),
    "audio": ("audio",),
    "video_track": ("video_track",),
    "picture_zone": ("picture_zone",),
    "first_day": ("first_day",),
    "last_day": ("last_day",),
}
COLUMNS = [*STATION_COLUMNS, *CAMERA_COLUMNS]
REQUIRED = ("station_id", "camera_id", "url")

_EXCEPTION = re.compile(r"(record|skip)\s+([^\s/]+)\s*/\s*([^\s/]+)")
_NAMES = {"station": {v: k for k, v in STATION_COLUMNS.items()},
          "camera": {v: k for k, v in CAMERA_COLUMNS.items()}}  # fmt: skip


@dataclass(slots=True)
class CsvDocument:
    """What the table says, in the shape of stations.yaml; `data` is {"stations": [...]}."""

    path: Path
    data: dict[str, Any] = field(default_factory=lambda: {"stations": []})
    station_lines: list[int] = field(default_factory=list)
    camera_lines: list[list[int]] = field(default_factory=list)

    def line(self, loc: Loc) -> int:
        """Return the line of the row of a station or camera."""
        match loc:
            case ("stations", int(n), "cameras", int(m), *_):
                return self.camera_lines[n][m]
            case ("stations", int(n), *_):
                return self.station_lines[n]
        return 1

    def where(self, loc: Loc) -> str:
        """Return the name of the column."""
        match loc:
            case (_, int(), "cameras", int(), *rest):
                names = _NAMES["camera"]
            case (_, int(), *rest):
                names = _NAMES["station"]
            case _:
                return ""
        return names.get(tuple(map(str, rest[:2]))) or names.get(tuple(map(str, rest[:1])), "")


def read_csv(
    path: Path, text: str, environ: Mapping[str, str], problems: list[Problem]
) -> CsvDocument | None:
    """Return a table's document, or None if there is none; what is wrong goes to `problems`."""
    return _Table(path, environ, problems).read(text)


class _Table:
    def __init__(self, path: Path, environ: Mapping[str, str], problems: list[Problem]):
        self._problems, self._environ = problems, environ
        self._document = CsvDocument(path)
        self._numbers: dict[str, int] = {}  # of the stations so far, by id
        self._first_rows: list[dict[str, str]] = []

    def read(self, text: str) -> CsvDocument | None:
        first_line = re.search(r"[^\r\n]*[\w][^\r\n]*", text)
        rows = self._rows(text, _delimiter(first_line[0] if first_line else ""))
        line, header = next(rows, (1, []))
        names = [name.lower() for name in header]
        if not self._check_header(names, line):
            return None
        station_at = [(n, c) for n, c in enumerate(names) if c in STATION_COLUMNS]
        camera_at = [(n, c) for n, c in enumerate(names) if c in CAMERA_COLUMNS]
        station_id = ""
        for line, row in rows:
            if any(row[len(names) :]):
                self._wrong(
                    line, "", f"has {len(row)} cells, but there are {len(names)} columns",
                    'put cells that hold the delimiter into double quotes: "…"',
                )  # fmt: skip
                continue
            row += [""] * (len(names) - len(row))
            station = {c: row[n] for n, c in station_at if row[n]}
            camera = {c: row[n] for n, c in camera_at if row[n]}
            station_id = station.setdefault("station_id", station_id)
            if not station_id:
                self._wrong(line, "station_id", "is empty", "the first row needs the station's id")
                continue
            self._add(line, station_id, station, camera)
        return self._document

    def _add(
        self, line: int, station_id: str, station: dict[str, str], camera: dict[str, str]
    ) -> None:
        document = self._document
        number = self._numbers.get(station_id)
        if number is None:
            number = self._numbers[station_id] = len(self._first_rows)
            self._first_rows.append(station)
            document.station_lines.append(line)
            document.camera_lines.append([])
            data = self._object(line, station, STATION_COLUMNS)
            if "exceptions" in station:
                data["exceptions"] = self._exceptions(line, data["exceptions"])
            document.data["stations"].append(data | {"cameras": []})
        elif station.items() - self._first_rows[number].items():
            first = self._first_rows[number]
            others = [c for c in station if station[c] != first.get(c)]
            what = f"{'differ' if others[1:] else 'differs'} from line "
            what += f"{document.station_lines[number]}, where the station begins"
            fix = "write the same, or leave it empty; another station needs another station_id"
            self._wrong(line, ", ".join(others), what, fix)
        if camera:
            document.camera_lines[number].append(line)
            cameras = document.data["stations"][number]["cameras"]
            cameras.append(self._object(line, camera, CAMERA_COLUMNS))

    def _object(
        self, line: int, cells: dict[str, str], columns: dict[str, tuple[str, ...]]
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for column, cell in cells.items():
            value: object = cell
            if "$" in cell:
                try:
                    value = expand(cell, self._environ)
                except Wrong as wrong:
                    self._wrong(line, column, wrong.what, wrong.fix)
                    value = BROKEN
            key, *language = columns[column]
            if language:
                text = data.setdefault(key, {})
                if not isinstance(text, dict):  # a bare column fills what the others leave empty
                    text = data[key] = dict.fromkeys(LANGUAGES, text)
                text[language[0]] = value
            elif isinstance(data.get(key), dict):
                data[key] = dict.fromkeys(LANGUAGES, value) | data[key]
            else:
                data[key] = value
        return data

    def _exceptions(self, line: int, text: object) -> object:
        if not isinstance(text, str):
            return text
        found = []
        for part in text.split("|"):
            if not (match := _EXCEPTION.fullmatch(part.strip())):
                self._wrong(
                    line, "exceptions", "not a list of exceptions",
                    "write record FROM/TO or skip FROM/TO, several with | between, as in "
                    "skip 2026-11-29T06:00/2026-11-29T09:00",
                )  # fmt: skip
                return BROKEN
            record = "true" if match[1] == "record" else "false"
            found.append({"from": match[2], "to": match[3], "record": record})
        return found

    def _rows(self, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
        """Yield rows that are not empty, each with the line where it begins."""
        # newlines as in the file, so that a quoted cell may hold one and lines still count
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        line = 1
        try:
            for row in reader:
                cells = [intern(cell.strip()) for cell in row]  # most come many times
                if any(cells):
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            what = "a double quote is not closed, or something follows it"
            if "field larger" in str(error):
                what = "a cell is longer than 131,072 characters"
            fix = 'write "" for a double quote inside a quoted cell; rows after it were not read'
            self._wrong(line, "", what, fix)

    def _check_header(self, names: list[str], line: int) -> bool:
        before = len(self._problems)
        for name in names:
            if name and name not in COLUMNS:
                self._wrong(line, "", *unknown("column", name, COLUMNS))
        for name in dict.fromkeys(n for n in names if n in COLUMNS and names.count(n) > 1):
            self._wrong(line, name, "the column is there twice", "remove one of them")
        for name in REQUIRED:
            if name not in names:
                self._wrong(line, name, "the column is missing", "the first row names the columns")
        return len(self._problems) == before

    def _wrong(self, line: int, column: str, what: str, fix: str) -> None:
        self._problems.append(Problem(self._document.path, line, column, what, fix))


def _delimiter(header: str) -> str:
    def known(delimiter: str) -> int:
        return sum(n.strip(' "\r').lower() in COLUMNS for n in header.split(delimiter))

    return max(",;", key=known)
