"""What every part of the settings is made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator

from config.problems import Wrong
from config.secrets import check_url

SETTINGS: set[str] = set()  # every key that can be written; filled as the models are defined
_WRITTEN: dict[frozenset[str], set[str]] = {}


class Model(BaseModel):
    """Immutable; an unknown key is an error; no error shows what was written."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        str_strip_whitespace=True,
        populate_by_name=True,
    )

    @classmethod
    def __pydantic_init_subclass__(cls, **_kwargs: Any) -> None:
        SETTINGS.update(keys(cls))

    @model_validator(mode="after")
    def _slim(self) -> Self:
        """Share the set of the keys that were written: many thousands have one of a few."""
        written = self.__pydantic_fields_set__
        shared = _WRITTEN.setdefault(frozenset(written), written)
        object.__setattr__(self, "__pydantic_fields_set__", shared)
        return self


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """Return what can be written in a part of a file, with the type of each."""
    return {f.alias or name: f.annotation for name, f in model.model_fields.items()}


def seconds(value: object) -> int:
    """Return a length of time in seconds; raises Wrong."""
    found = re.fullmatch(r"([0-9]{1,9})\s*([smhd])", str(value).strip())
    if not found:
        raise Wrong("not a length of time", "write a number with its unit: 90s, 10m, 24h or 2d")
    return int(found[1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[found[2]]


HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:/%-]*")
_PORTS = {"http": 80, "https": 443}


def _http(text: str) -> str:
    """Return an address that others can be made of by adding to it: scheme, host, and perhaps port
    and path, written as browsers write it (RFC 6454, 6.1)."""
    parts = check_url(text, ("http", "https"))
    if parts.username is not None:
        raise Wrong("the address holds a user name", "write it without")
    if "?" in text:
        raise Wrong("the address has a '?' after its host", "write it without what is asked for")
    host = (parts.hostname or "").lower()
    if ":" in host:  # IPv6: what stands in its brackets was looked at
        host = f"[{host}]"
    elif not HOST_NAME.fullmatch(host):
        fix = "write https://live.example.kz; letters of other scripts in their xn-- form"
        raise Wrong("the address has no host name", fix)
    if not _PATH.fullmatch(parts.path):
        raise Wrong("the path of the address has a letter that it cannot have", "write it as %XX")
    port = "" if parts.port in (None, _PORTS[parts.scheme]) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path}".rstrip("/")


HttpUrl = Annotated[str, AfterValidator(_http)]
