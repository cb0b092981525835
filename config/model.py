"""Config and its parts, immutable: what settings there are, and what fits together.

What a single value may be is said in config/values.py. Every setting is described in
docs/configuration.md.
"""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from base.i18n.gettext import LANGUAGES
from config.base import HttpUrl, Model
from config.copies import Address, Copies
from config.limits import SpoolLimits
from config.problems import Problem, Wrong
from config.secrets import SecretUrl, redact
from config.values import (
    SCHEME,
    Clock,
    Day,
    Days,
    Degrees,
    Id,
    LocalTime,
    Percent,
    Zone,
    check_path,
    for_people,
)

Network = IPv4Network | IPv6Network

_BUCKET_NAME = r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"
_BUCKET = re.compile(rf"s3://({_BUCKET_NAME})(?:/(.*))?", re.S)
SourceKind = Literal["auto", "native", "ffmpeg"]
LOW = ".low"  # ends the name of a second stream, which no id of a camera can have


def _phone(text: str) -> str:
    if not re.fullmatch(r"\+?[0-9][0-9 ()-]{2,30}", text, re.ASCII):
        raise Wrong("not a telephone number", "write digits, as +7 727 000 00 00 or 1450")
    return text


class Localized(Model):
    """A text in Kazakh, Russian and English; a bare text means all three."""

    kk: str | None = None
    ru: str | None = None
    en: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, value: Any) -> Any:
        return dict.fromkeys(LANGUAGES, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _for_people(self) -> Self:
        for text in (self.kk, self.ru, self.en):
            for_people(text or "")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _shared(
        cls, value: Any, make: ModelWrapValidatorHandler[Self], told: ValidationInfo
    ) -> Self:
        """Take the same object for the same texts of a document: 40,000 cameras have few titles."""
        made = make(value)
        return made if told.context is None else told.context.setdefault(made, made)

    def in_(self, language: str) -> str:
        """Return the text in a language, else in the first of kk, ru, en that there is."""
        wanted = getattr(self, language) if language in LANGUAGES else None
        return wanted or self.kk or self.ru or self.en or ""


class Operator(Model):
    """Who runs this site, as its pages say it. In `about` and `terms` an empty line ends a
    paragraph."""

    name: Localized = Localized()
    address: Localized = Localized()
    phone: Annotated[str, AfterValidator(_phone)] | None = None
    email: Address | None = None
    about: Localized = Localized()
    terms: Localized = Localized()


class LocalWindow(Model):
    """A stretch of local time: `start` is in it, `end` is not."""

    start: LocalTime = Field(alias="from")
    end: LocalTime = Field(alias="to")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end <= self.start:
            raise Wrong("'to' is not after 'from'", "write a later time, perhaps of the next day")
        return self


class ScheduleException(LocalWindow):
    """A stretch that a station adds to the election's windows, or cuts from them."""

    record: bool


class PollingHours(Model):
    """When people vote; only shown to people."""

    start: Clock = Field(alias="from")
    end: Clock = Field(alias="to")

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.end <= self.start:
            raise Wrong("'to' is not after 'from'", "write a later time of the same day")
        return self


class Election(Model):
    """What is being recorded. `windows` are in local time of each station's time zone."""

    id: Id
    name: Localized
    date: Day
    time_zone: Zone
    windows: tuple[LocalWindow, ...] = Field(min_length=1)
    polling_hours: PollingHours | None = None


class Camera(Model):
    """One angle in a station. `first_day` and `last_day` are local and both recorded.

    `low_url` is a second stream of the same picture, for viewers whose link is slow.
    """

    id: Id
    title: Localized = Field(default_factory=lambda data: _everywhere(data["id"]))
    url: SecretUrl
    low_url: SecretUrl | None = None
    source: SourceKind | None = None  # None: as in kuager.yaml
    transport: Literal["auto", "tcp", "udp"] = "auto"
    audio: Literal["keep", "drop"] = "keep"
    video_track: int | None = Field(default=None, ge=1, le=32)
    picture_zone: Zone | None = None  # of the clock that the camera writes into its pictures
    first_day: Day | None = None
    last_day: Day | None = None

    @field_validator("title")
    @classmethod
    def _titled(cls, title: Localized, told: ValidationInfo) -> Localized:
        return title if title.in_("") else _everywhere(told.data.get("id", ""))

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.first_day and self.last_day and self.last_day < self.first_day:
            raise Wrong("'last_day' is before 'first_day'", "write a later day", "last_day")
        return self

    @property
    def low(self) -> Camera | None:
        """The second stream, as what is recorded under a name of its own; None without one."""
        if self.low_url is None:
            return None
        own = {"id": self.id + LOW, "url": self.low_url, "low_url": None, "video_track": None}
        return self.model_copy(update=own)

    @property
    def streams(self) -> tuple[Camera, ...]:
        """The camera, then its second stream where it has one."""
        return (self,) if (low := self.low) is None else (self, low)


class Station(Model):
    """A polling station; `time_zone` is the election's where the file does not say."""

    id: Id
    number: Annotated[str, AfterValidator(for_people)] = Field(
        default_factory=lambda data: data["id"]
    )
    name: Localized = Field(default_factory=lambda data: _everywhere(data["number"]))
    region: Localized = Localized()
    district: Localized = Localized()
    address: Localized = Localized()
    latitude: Degrees | None = Field(default=None, ge=-90, le=90)
    longitude: Degrees | None = Field(default=None, ge=-180, le=180)
    time_zone: Zone
    exceptions: tuple[ScheduleException, ...] = ()
    cameras: tuple[Camera, ...] = ()

    @field_validator("number")
    @classmethod
    def _numbered(cls, number: str, told: ValidationInfo) -> str:
        return number or told.data.get("id", "")  # programs write '' for nothing

    @field_validator("name")
    @classmethod
    def _named(cls, name: Localized, told: ValidationInfo) -> Localized:
        return name if name.in_("") else _everywhere(told.data.get("number", ""))

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.latitude is None) != (self.longitude is None):
            raise Wrong("has only one of 'latitude' and 'longitude'", "write both or none")
        return self


class Archive(Model):
    """Where recordings are kept for good: `url` is a directory or s3://bucket/prefix.

    `read_back` is the share, in percent, of what is read back although the server checked it;
    `keep` seconds after its end a recording may be removed, never where it is None. `mount`: where
    the disk of a directory is mounted; nothing is written while none is.
    """

    name: Id = "archive"
    url: str
    mount: Path | None = None
    keep: Days | None = None
    read_back: Percent = 100
    more_buckets: tuple[Annotated[str, Field(pattern=f"^{_BUCKET_NAME}$")], ...] = ()
    storage_class: str | None = None
    encryption: Literal["AES256", "aws:kms"] | None = None
    kms_key_id: str | None = None
    lock: Literal["governance", "compliance"] | None = None
    endpoint: HttpUrl | None = None
    region: str | None = None
    access_key_id: str | None = Field(default=None, repr=False)
    secret_access_key: SecretStr | None = None
    profile: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str | Path) else value

    @field_validator("mount")
    @classmethod
    def _path(cls, value: Path | None) -> Path | None:
        if value is not None:
            check_path(str(value))
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if SCHEME.match(self.url) and not _BUCKET.fullmatch(self.url):
            raise Wrong(
                "neither a directory nor s3://bucket/prefix",
                "a bucket is 3 to 63 of a-z 0-9 . -; servers other than AWS go to 'endpoint'",
                "url",
            )
        if not self.bucket:
            check_path(self.url)
            if others := sorted(self.model_fields_set - {"name", "url", "keep", "mount"}):
                raise Wrong(f"'{others[0]}' has no meaning for a directory", "remove it", others[0])
        elif self.mount:
            raise Wrong("'mount' has no meaning for a bucket", "remove it", "mount")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise Wrong(
                "has only one of 'access_key_id' and 'secret_access_key'",
                "write both, or none for the usual AWS credentials",
            )
        if self.profile and self.access_key_id:
            raise Wrong("has both a key and a 'profile'", "remove one", "profile")
        if self.kms_key_id and self.encryption != "aws:kms":
            raise Wrong("'kms_key_id' without 'encryption: aws:kms'", "add it", "kms_key_id")
        if self.lock and self.keep is None:
            raise Wrong("'lock' without 'keep'", "say how long, as in keep: 365d", "lock")
        return self

    @property
    def bucket(self) -> str | None:
        """The bucket; None for a directory."""
        found = _BUCKET.fullmatch(self.url)
        return found[1] if found else None

    @property
    def prefix(self) -> str:
        """What all keys begin with, without `/` at either end; empty for none."""
        found = _BUCKET.fullmatch(self.url)
        return (found[2] or "").strip("/") if found else ""

    @property
    def buckets(self) -> tuple[str, ...]:
        """All buckets; none for a directory."""
        return (self.bucket, *self.more_buckets) if self.bucket else ()

    @property
    def directory(self) -> Path | None:
        """The directory; None for a bucket."""
        return None if self.bucket else Path(self.url)


class Web(Model):
    """Where the public pages are served; `public_url` has no `/` at its end.

    `operators_host` and `operators_port` are where metrics are served, which the public must not
    reach. `trusted_proxies` are believed when they say for whom they ask.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    operators_host: str = "127.0.0.1"
    operators_port: int = 8081
    trusted_proxies: tuple[Network, ...] = ()
    public_url: HttpUrl | None = None
    processes: int = Field(default=2, ge=1, le=256)


class Node(Model):
    """This machine as one of several: other nodes reach it at `host` and `port`.

    It records `cameras` at the most; None: as many as there are, by its number of cores. Who asks
    it has to know the `password`; None: it answers anybody.
    """

    name: Id
    host: str
    port: int
    cameras: int | None = None
    password: SecretStr | None = None

    @property
    def address(self) -> str:
        """Where other nodes reach it."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def port_beside(port: int) -> int:
    """Return the port of operators where none is configured: the one after the public port."""
    return port + 1 if port < 65535 else port - 1


class Config(Model):
    """Everything that operators wrote. Paths are absolute; `warnings` kept nothing from running.

    `pictures_s`: seconds between two pictures of a camera, None for no pictures. `archive_low`:
    whether second streams are archived, too.
    """

    election: Election
    stations: tuple[Station, ...]
    spool: Path
    spool_limits: SpoolLimits = SpoolLimits()
    archives: tuple[Archive, ...]
    archives_needed: int
    archive_low: bool = False
    database_url: str = Field(repr=False)
    web: Web = Web()
    node: Node | None = None
    rewind_s: int = Field(default=24 * 3600, ge=60)
    pictures_s: int | None = 10
    source: SourceKind = "auto"
    ffmpeg: Path | None = None
    user_agent: str = "Kuager"
    workers: int = Field(default=1, ge=1)
    copies: Copies | None = None
    operator: Operator = Operator()
    path: Path
    warnings: tuple[Problem, ...] = ()

    @property
    def database_shown(self) -> str:
        """The database's address as people may see it."""
        return redact(self.database_url)


def _everywhere(text: str) -> Localized:
    return Localized.model_validate(text)
