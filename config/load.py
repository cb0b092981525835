"""kuager.yaml, the stations and the credentials -> one Config, or everything that is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from config.credentials import Credentials, take_secret
from config.csvfile import read_csv
from config.file_models import SQLITE, ConfigFile, Listen, StationsFile
from config.files import read_text, reason
from config.limits import SpoolLimits
from config.model import Archive, Config, Election, Node, Station, Web, port_beside
from config.problems import ConfigError, Problem, UnreadableConfig
from config.schedule import offset_in_doubt, windows
from config.validate import Document, note, validate
from config.values import is_zone, reversed_offset
from config.yamlfile import BROKEN, Loc, YamlDocument, read_yaml

_SECRETS = (
    (("node",), "password"),
    (("copies", "stripe"), "secret_key"),
    (("copies", "stripe"), "webhook_secret"),
    (("copies", "mail"), "password"),
)


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """Read kuager.yaml and the files that it names.

    Raises ConfigError with all problems at once, UnreadableConfig where kuager.yaml cannot be
    read, and nothing else, whatever the files hold.
    """
    return _Loading(path, environ).config()


def spool_of(path: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the spool that kuager.yaml names, whatever else is wrong; raises ConfigError."""
    problems: list[Problem] = []
    main = read_yaml(path, _text(path, problems), environ, problems)
    spool = main.data.get("spool") if main is not None and isinstance(main.data, dict) else None
    if not isinstance(spool, str) or not spool.strip():
        raise ConfigError(problems or [Problem(path, None, "spool", "is missing", "write it")])
    return _normal(path.absolute().parent / spool.strip())


class _Loading:
    def __init__(self, path: Path, environ: Mapping[str, str]):
        self._path, self._environ = path, environ
        self._problems: list[Problem] = []

    def config(self) -> Config:
        problems = self._problems
        main = self._main()
        file = validate(ConfigFile, main, problems)
        credentials, document, stations = self._credentials(main), self._stations(main), None
        if document is not None:
            _complete(document.data, main.data, credentials)
            stations = validate(StationsFile, document, problems)
            problems += _repeated(document)
        if not file or not stations or not document or not all(p.warning for p in problems):
            raise ConfigError(problems)
        problems += _unguarded(file, main)
        problems += _doubtful(file.election, stations.stations, document)
        problems += credentials.unused(_names(stations.stations))
        return _config(file, stations.stations, self._path, tuple(problems))

    def _main(self) -> YamlDocument:
        problems = self._problems
        text = _text(self._path, problems)
        main = read_yaml(self._path, text, self._environ, problems)
        if main is None:
            raise ConfigError(problems)
        if isinstance(main.data, dict):
            take_secret(main, (), "database", problems)
            for n, _ in _parts(main.data, "archives"):
                take_secret(main, ("archives", n), "secret_access_key", problems)
            for at, key in _SECRETS:
                if _is_there(main.data, at):
                    take_secret(main, at, key, problems)
        return main

    def _credentials(self, main: YamlDocument) -> Credentials:
        if named := self._named(main, "credentials"):
            document = read_yaml(*named, self._environ, self._problems)
            if document is not None:
                return Credentials.read(document, self._problems)
        return Credentials()

    def _stations(self, main: YamlDocument) -> Document | None:
        if named := self._named(main, "stations"):
            read = {".csv": read_csv, ".yaml": read_yaml, ".yml": read_yaml}.get(
                named[0].suffix.lower()
            )
            if read is not None:
                return read(*named, self._environ, self._problems)
            what, fix = "the file is neither YAML nor CSV by its name", "name a .yaml or .csv file"
            self._problems.append(note(main, ("stations",), what, fix))
        return None

    def _named(self, main: YamlDocument, key: str) -> tuple[Path, str] | None:
        """Return the path and text of a file that a setting names, if both are there."""
        name = main.data.get(key) if isinstance(main.data, dict) else None
        if not isinstance(name, str) or not name.strip():
            return None  # `validate` says so where it is wrong
        path = self._path.parent / name.strip()
        try:
            text = read_text(path, self._problems)
        except OSError as error:
            what = f"the file cannot be read: {reason(error)}"
            beside = self._path.absolute().parent
            fix = f"write its right name, as seen from {beside}, or make it readable"
            self._problems.append(note(main, (key,), what, fix))
            return None
        return None if text is None else (path, text)


def _text(path: Path, problems: list[Problem]) -> str:
    """Return the text of kuager.yaml; raises UnreadableConfig and ConfigError."""
    try:
        text = read_text(path, problems)
    except OSError as error:
        what = f"cannot be read: {reason(error)}"
        fix = "write its right name, or make it readable"
        raise UnreadableConfig([Problem(path, None, "", what, fix)]) from None
    if text is None:
        raise ConfigError(problems)
    return text


def _complete(data: object, main: object, credentials: Credentials) -> None:
    """Give stations the election's time zone, and cameras their login, where they have none."""
    election = main.get("election") if isinstance(main, dict) else None
    zone = election.get("time_zone") if isinstance(election, dict) else None
    zone = zone if is_zone(zone) else BROKEN  # which is noted once, not for every station
    for _, station in _parts(data, "stations"):
        station.setdefault("time_zone", zone)
        for _, camera in _parts(station, "cameras"):
            credentials.apply(station.get("id"), camera)


def _repeated(document: Document) -> Iterator[Problem]:
    """Yield each station whose id was there before, and each camera within its station."""
    stations: dict[str, int] = {}
    for n, station in _parts(document.data, "stations"):
        yield from _repetition(document, ("stations", n, "id"), station, stations)
        cameras: dict[str, int] = {}
        for m, camera in _parts(station, "cameras"):
            loc = ("stations", n, "cameras", m, "id")
            yield from _repetition(document, loc, camera, cameras)


def _repetition(
    document: Document, loc: tuple[int | str, ...], part: dict[str, Any], lines: dict[str, int]
) -> Iterator[Problem]:
    if not isinstance(name := part.get("id"), str):
        return
    if line := lines.get(name.strip()):
        yield note(document, loc, f"the same id is on line {line} already", "write another id")
    else:
        lines[name.strip()] = document.line(loc)


def _unguarded(file: ConfigFile, main: YamlDocument) -> Iterator[Problem]:
    """Yield a warning for each mount that has nothing of what it is to guard: where the disk of
    that is missing, the directory below it would be written to."""
    mounts: list[tuple[Loc, Path | str | None, Path | str | None]] = [
        (("spool_mount",), file.spool_mount, file.spool)
    ]
    for n, archive in enumerate(file.archives):
        mounts.append((("archives", n, "mount"), archive.mount, archive.directory))
    for loc, mount, path in mounts:
        if mount is not None and path is not None:
            real, above = (os.path.realpath(main.path.absolute().parent / p) for p in (path, mount))
            if not Path(real).is_relative_to(above):
                what = "is neither the directory that it is to guard nor one above it"
                fix = "write where the disk of that directory is mounted"
                yield note(main, loc, what, fix, warning=True)


def _doubtful(
    election: Election, stations: tuple[Station, ...], document: Document
) -> Iterator[Problem]:
    """Yield warnings: what may be meant so, and probably is not."""
    urls: dict[str, tuple[str, int]] = {}
    zones = set[str]()
    for n, station in enumerate(stations):
        if station.time_zone not in zones:
            zones.add(station.time_zone)
            if doubt := offset_in_doubt(station.time_zone, election.windows):
                fix = "bring the older one up to date: apt-get install tzdata"
                yield note(document, ("stations", n, "time_zone"), doubt, fix, warning=True)
            if meant := reversed_offset(station.time_zone):
                fix = "write a place that has its time, as Asia/Almaty"
                yield note(document, ("stations", n, "time_zone"), meant, fix, warning=True)
        if not station.cameras:
            what, fix = "the station has no cameras", "add them, or remove the station"
            yield note(document, ("stations", n), what, fix, warning=True)
        for m, camera in enumerate(station.cameras):
            loc = ("stations", n, "cameras", m)
            for stream, key in zip(camera.streams, ("url", "low_url"), strict=False):
                this = (f"{station.id}/{stream.id}", document.line((*loc, key)))
                first = urls.setdefault(stream.url.without_login(), this)
                if first is not this:
                    what = f"{this[0]} has the address of {first[0]} on line {first[1]}"
                    fix = "each camera, and each second stream, has its own"
                    yield note(document, (*loc, key), what, fix, warning=True)
            if not windows(election, station, camera):
                what = f"{station.id}/{camera.id} is never recorded"
                fix = "look at its days, the station's exceptions and the election's windows"
                yield note(document, loc, what, fix, warning=True)


def _names(stations: tuple[Station, ...]) -> set[str]:
    cameras = {f"{station.id}/{camera.id}" for station in stations for camera in station.cameras}
    return cameras | {station.id for station in stations}


def _is_there(data: object, at: tuple[str, ...]) -> bool:
    """Tell whether there is a mapping at a place."""
    for step in at:
        data = data.get(step) if isinstance(data, dict) else None
    return isinstance(data, dict)


def _parts(data: object, key: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the parts of a list that are what they should be, with their indexes."""
    parts = data.get(key) if isinstance(data, dict) else None
    if isinstance(parts, list):
        yield from ((n, part) for n, part in enumerate(parts) if isinstance(part, dict))


def _beside(directory: Path, archive: Archive) -> Archive:
    """Return an archive with paths that are relative to a directory made absolute."""
    if archive.directory is None:
        return archive
    mount = _normal(directory / archive.mount) if archive.mount else None
    url = str(_normal(directory / archive.directory))
    return archive.model_copy(update={"url": url, "mount": mount})


def _config(
    file: ConfigFile, stations: tuple[Station, ...], path: Path, warnings: tuple[Problem, ...]
) -> Config:
    path = path.absolute()
    beside = path.parent
    spool = _normal(beside / file.spool)
    archives = tuple(_beside(beside, a) for a in file.archives)
    mount = _normal(beside / file.spool_mount) if file.spool_mount else None
    database = file.database or f"{SQLITE}{spool.parent / 'kuager.db'}"
    if database.startswith(SQLITE):
        database = f"{SQLITE}{_normal(beside / database.removeprefix(SQLITE))}"
    ffmpeg = None if file.ffmpeg == "auto" else Path(file.ffmpeg)
    if ffmpeg and len(ffmpeg.parts) > 1:  # else the name of a program on the PATH
        ffmpeg = _normal(beside / ffmpeg)
    operators = file.web.operators or Listen("127.0.0.1", port_beside(file.web.listen.port))
    return Config(
        election=file.election,
        stations=stations,
        spool=spool,
        spool_limits=SpoolLimits(file.spool_warn, file.spool_reserve, mount),
        archives=archives,
        archives_needed=file.archives_needed or len(archives),
        archive_low=file.archive_low,
        database_url=database,
        web=Web(
            host=file.web.listen.host,
            port=file.web.listen.port,
            operators_host=operators.host,
            operators_port=operators.port,
            public_url=file.web.public_url,
            trusted_proxies=file.web.trusted_proxies,
            processes=file.web.processes,
        ),
        node=Node(
            name=file.node.name,
            host=file.node.address.host,
            port=file.node.address.port,
            cameras=file.node.cameras,
            password=file.node.password,
        )
        if file.node
        else None,
        rewind_s=file.rewind,
        pictures_s=file.pictures,
        source=file.source,
        ffmpeg=ffmpeg,
        user_agent=file.user_agent,
        workers=file.workers,
        copies=file.copies,
        operator=file.operator,
        path=path,
        warnings=warnings,
    )


def _normal(path: Path) -> Path:
    return Path(os.path.normpath(path))  # unlike resolve(), leaves links what they are
