"""Addresses of RTSP: what is asked, what a description's addresses are relative to, redirects."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urljoin, urlsplit

from recorder.rtsp.auth import Credentials
from recorder.rtsp.messages import Response

PORTS = {"rtsp": 554, "rtsps": 322}  # RFC 7826, 22.14


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stream is; `uri` never holds a login, so it may be sent to the camera as it is."""

    uri: str
    credentials: Credentials | None = None

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take an rtsp:// or rtsps:// address apart; raises ValueError for what is none."""
        parts = urlsplit(url)
        if parts.scheme not in PORTS or not parts.hostname or parts.port == 0:
            raise ValueError("not an RTSP address")
        login = None
        if parts.username is not None:
            login = Credentials(_decoded(parts.username), _decoded(parts.password or ""))
        return cls(parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(), login)

    @property
    def url(self) -> str:
        """The whole address, with the login where there is one: a secret."""
        if self.credentials is None:
            return self.uri
        login = f"{_encoded(self.credentials.user)}:{_encoded(self.credentials.password)}"
        return self.uri.replace("://", f"://{login}@", 1)

    @property
    def host(self) -> str:
        """Name or number of the host."""
        return urlsplit(self.uri).hostname or ""

    @property
    def port(self) -> int:
        """The port, also where the address does not say it."""
        parts = urlsplit(self.uri)
        return parts.port or PORTS[parts.scheme]

    @property
    def secure(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.uri).scheme == "rtsps"

    @property
    def where(self) -> str:
        """Host and port, as operators may read them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def redirected(self, location: str) -> Address:
        """Return where a Location header points to; raises ValueError for no RTSP address.

        The login goes along to the same host only, and never from an encrypted connection to one
        that is not.
        """
        there = Address.parse(urljoin(self.uri, location.strip()))
        if not there.host.isprintable():
            raise ValueError("not the name of a host")
        same = there.host == self.host and there.secure >= self.secure
        return Address(there.uri, self.credentials if same else None)


def _decoded(text: str) -> str:
    return unquote(text, errors="surrogateescape")  # a password need not be UTF-8


def _encoded(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def base_uri(response: Response, asked: str) -> str:
    """Return what the addresses in a description are relative to (RFC 2326, C.1.1)."""
    for name in ("content-base", "content-location"):
        value = (response.get(name) or "").strip()
        if value.lower().startswith(("rtsp://", "rtsps://")):
            return value
        if value.startswith("/"):
            return urljoin(asked, value)
    return asked


def control_uri(base: str, control: str) -> str:
    """Return the address of a track for SETUP, put together as cameras expect it.

    A relative one is appended, after a query too: RFC 2326 asks for RFC 1808's rules, but cameras
    and clients have agreed on this.
    """
    if control.lower().startswith(("rtsp://", "rtsps://")):
        return control
    if control in ("", "*"):
        return base
    return base.rstrip("/") + "/" + control.lstrip("/")
