"""kuager.yaml and the stations file as they are written; `load` makes a Config of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, NamedTuple, Self

from pydantic import AfterValidator, Field, PlainValidator, SecretStr, model_validator

from config.base import HttpUrl, Model, seconds
from config.copies import Copies
from config.limits import Reserve, SpoolLimits, reserve
from config.model import (
    Archive,
    Election,
    Network,
    Operator,
    SourceKind,
    Station,
    port_beside,
)
from config.problems import Wrong
from config.secrets import check_url
from config.values import Id, UserAgent, check_path

SQLITE = "sqlite:///"
WIDEST = 7  # bits of a network that proxies may have: fc00::/7 is all of IPv6's private addresses
_MAPPED = IPv6Network("::ffff:0:0/96")  # IPv4 addresses in IPv6 ones (RFC 4291, 2.5.5.2)


class Listen(NamedTuple):
    """An address to listen on."""

    host: str
    port: int

    def meets(self, other: Listen) -> bool:
        """Tell whether who asks for one may be answered by the other: of one port, the system
        gives a connection to whoever names its address best. A name may be any address."""
        try:
            hosts = {ip_address(self.host), ip_address(other.host)}
        except ValueError:
            return self.port == other.port
        apart = len(hosts) == 2 and not any(host.is_unspecified for host in hosts)
        return self.port == other.port and not apart


def _listen(value: object) -> Listen:
    form = r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9_.-]+)):([0-9]{1,5})"
    found = re.fullmatch(form, str(value).strip())
    if not found or not 0 < int(found[3]) < 65536:
        raise Wrong("not an address to listen on", "write HOST:PORT, as in 127.0.0.1:8080")
    return Listen(found[1] or found[2], int(found[3]))


def _network(value: object) -> Network:
    try:
        network = ip_network(str(value).strip())
    except ValueError:
        raise Wrong(
            "not an IP address or network", "write 10.1.2.3, 10.1.0.0/16 or 2001:db8::/32"
        ) from None
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):  # as IPv4 peers are read
        network = IPv4Network((int(network[0]) & 0xFFFFFFFF, network.prefixlen - 96))
    if network.prefixlen < WIDEST:  # everybody could then write whom he is counted as
        raise Wrong("of far more addresses than proxies have", "write those of your proxies alone")
    return network


def _rewind(value: object) -> int:
    if not 60 <= (found := seconds(value)) <= 366 * 86400:
        raise Wrong("shorter than a minute or longer than a year", "write 1m to 366d")
    return found


def _pictures(value: object) -> int | None:
    if str(value).strip() == "off":
        return None
    if not 2 <= (found := seconds(value)) <= 600:
        raise Wrong("shorter than 2 s or longer than 10 minutes", "write 2s to 10m, or off")
    return found


def _thresholds(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple):
        raise Wrong("not a list of lengths of time", "write [24h, 6h, 2h], or [] for none")
    return tuple(sorted({seconds(one) for one in value}, reverse=True))


def _workers(value: object) -> int:
    text = str(value).strip()
    if text == "auto":
        return os.cpu_count() or 1
    if re.fullmatch(r"[0-9]{1,4}", text) and 0 < int(text) <= 1024:
        return int(text)
    raise Wrong("neither auto nor a number from 1 to 1024", "write auto: one per core")


def _database(text: str) -> str:
    if text.startswith(SQLITE):
        check_path(text.removeprefix(SQLITE))
        if "?" in text:  # what follows would not be a part of the name
            raise Wrong("a '?' in the name of a database's file", "choose another name")
        return text
    if not text.startswith("postgresql://"):
        raise Wrong(
            "not a database that Kuager knows",
            "write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/DATABASE",
        )
    parts = check_url(text, ("postgresql",), host_needed=False)
    query = f"?{parts.query}" if parts.query else ""  # geturl() leaves out an empty host's //
    return f"postgresql://{parts.netloc}{parts.path}{query}"


def _long(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 16:  # whoever reads along may try as many as he likes
        raise Wrong("is shorter than 16 characters", "write one of `openssl rand -hex 32`")
    return secret


def _places(archive: Archive) -> Iterator[tuple[str, ...]]:
    """Yield where an archive keeps its objects, as far as its settings tell."""
    if archive.directory is not None:
        yield (os.path.normpath(archive.directory),)
    for bucket in archive.buckets:
        yield archive.endpoint or "", bucket, archive.prefix


PathText = Annotated[str, AfterValidator(check_path)]


class WebFile(Model):
    """`web:` in kuager.yaml."""

    listen: Annotated[Listen, PlainValidator(_listen)] = Listen("127.0.0.1", 8080)
    operators: Annotated[Listen, PlainValidator(_listen)] | None = None
    public_url: HttpUrl | None = None
    trusted_proxies: tuple[Annotated[Network, PlainValidator(_network)], ...] = ()
    processes: int = Field(default=2, ge=1, le=256)

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.operators and self.listen.meets(self.operators):
            raise Wrong("is the address of the public pages", "write another port", "operators")
        return self


class NodeFile(Model):
    """`node:` in kuager.yaml."""

    name: Id
    address: Annotated[Listen, PlainValidator(_listen)]
    cameras: int | None = Field(default=None, ge=0, le=100_000)
    password: Annotated[SecretStr, AfterValidator(_long)] | None = None

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.address.host in ("0.0.0.0", "::"):
            raise Wrong(
                "is no address at which other machines reach this one",
                "write its own address in their network, as in 10.0.0.5:8090",
                "address",
            )
        return self


class ConfigFile(Model):
    """kuager.yaml; paths are relative to its directory."""

    election: Election
    stations: PathText
    spool: PathText
    spool_warn: Annotated[tuple[int, ...], PlainValidator(_thresholds)] = SpoolLimits().warn_s
    spool_reserve: Annotated[Reserve, PlainValidator(reserve)] = Reserve()
    spool_mount: PathText | None = None
    archives: tuple[Archive, ...] = Field(min_length=1)
    archives_needed: int | None = Field(default=None, ge=1)
    archive_low: bool = False
    database: Annotated[str, AfterValidator(_database)] | None = None
    web: WebFile = WebFile()
    node: NodeFile | None = None
    rewind: Annotated[int, PlainValidator(_rewind)] = 24 * 3600
    pictures: Annotated[int | None, PlainValidator(_pictures)] = 10
    source: SourceKind = "auto"
    ffmpeg: PathText = "auto"
    user_agent: UserAgent = "Kuager"
    workers: Annotated[int, PlainValidator(_workers)] = Field(
        default_factory=lambda: _workers("auto")
    )
    credentials: PathText | None = None
    copies: Copies | None = None
    operator: Operator = Operator()

    @model_validator(mode="after")
    def _archives(self) -> Self:
        names = [archive.name for archive in self.archives]
        if len(set(names)) < len(names):
            what = "two archives have the same name"
            raise Wrong(what, "give each a 'name' of its own, and never change it", "archives")
        places = [place for archive in self.archives for place in set(_places(archive))]
        if len(set(places)) < len(places):
            fix = "give each a bucket, a prefix or a directory of its own, or remove one"
            raise Wrong("two archives are in the same place", fix, "archives")
        if (self.archives_needed or 0) > len(names):
            raise Wrong(
                "more than there are archives", f"write 1 to {len(names)}", "archives_needed"
            )
        return self

    @model_validator(mode="after")
    def _ports(self) -> Self:
        """Web processes share their ports among themselves: of two such servers on one, the system
        would give a visitor to either."""
        public = self.web.listen
        operators = self.web.operators or Listen("127.0.0.1", port_beside(public.port))
        for name, address in (("web.listen", public), ("web.operators", operators)):
            if self.node and self.node.address.meets(address):
                raise Wrong(f"is the address of '{name}'", "write another port", "node")
        return self

    @model_validator(mode="after")
    def _shared(self) -> Self:
        if self.node and not (self.database or "").startswith("postgresql:"):
            raise Wrong(
                "'node' without a PostgreSQL that all machines share",
                "write database: postgresql://…, or remove 'node' where there is one machine",
                "node",
            )
        return self

    @model_validator(mode="after")
    def _addressed(self) -> Self:
        if self.copies and not self.web.public_url:
            raise Wrong(
                "'copies' without 'public_url': letters, links to orders and payment pages would "
                "lead to whatever address a visitor named",
                "write the address that people type, as public_url: https://live.example.kz",
                "web",
            )
        return self


class StationsFile(Model):
    """The stations file in YAML, and what a table is turned into."""

    stations: tuple[Station, ...] = Field(min_length=1)
