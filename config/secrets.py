"""Secrets: where they come from, and addresses that never show theirs.

`${NAME}` is replaced from the environment, `$$` is a `$`. Between `://` and `@` of an address the
value is percent-encoded (RFC 3986, section 2.1), so that a password stands in the environment as
it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from config.files import has_control, read_regular, reason
from config.problems import Wrong

_VARIABLE = re.compile(r"\$(?:\$|\{([A-Za-z_][A-Za-z0-9_]*)\}|\{)")
_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#]*)@")
_NO_LOGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^/?#@]+)(?=[/?#]|$)")
_ESCAPE = "in a password write / as %2F, ? as %3F, # as %23, @ as %40, or use the credentials file"


def expand(text: str, environ: Mapping[str, str]) -> str:
    """Return text with `${NAME}` replaced; raises Wrong with the variable that is not set."""
    if "$" not in text:
        return text
    if login := _LOGIN.match(text):
        user = _expand(login[2], environ, encode=True)
        return f"{login[1]}{user}@{_expand(text[login.end() :], environ)}"
    return _expand(text, environ)


def _expand(text: str, environ: Mapping[str, str], encode: bool = False) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if not (name := found[1]):
            raise Wrong("'${' is not followed by a name and '}'", "write ${NAME}, or $$ for a $")
        if name not in environ:
            raise Wrong(f"the environment variable {name} is not set", f"set {name}")
        if has_control(environ[name]):
            raise Wrong(
                f"the environment variable {name} has control characters or is not UTF-8",
                f"set {name} to plain text",
            )
        return quote(environ[name], safe="") if encode else environ[name]

    return _VARIABLE.sub(value, text)


def read_secret(path: Path) -> str:
    """Return the secret that a file holds, without the newline at its end.

    Raises Wrong. Its text does not name the file: someone may have written the secret itself
    where the name belongs.
    """
    try:
        secret = read_regular(path).decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        raise Wrong(
            f"the file named there cannot be read: {reason(error)}",
            "write the name of a file that holds nothing but the secret",
        ) from None
    except UnicodeDecodeError:
        secret = ""
    if not secret or "\n" in secret or has_control(secret):
        raise Wrong(
            "the file named there does not hold one line of UTF-8",
            "put the secret into it, and nothing else",
        )
    return secret


def redact(url: str) -> str:
    """Return an address as people may see it: no login, nothing from the first `?` or `=` on.

    Some cameras have their password in the path (`/user=admin&password=…`).
    """
    shown = _LOGIN.sub(r"\1***@", url, count=1)
    return re.sub(r"([?=;]).*", r"\1***", shown, flags=re.S)


def redact_text(text: str) -> str:
    """Return a text as people may see it: every address in it is redacted."""
    return re.sub(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s'\"]+", lambda found: redact(found[0]), text)


def with_login(url: str, user: str, password: str) -> str:
    """Return the address with a login, unless it has one already or is no address."""
    login = f"{quote(user, safe='')}:{quote(password, safe='')}@"
    return _NO_LOGIN.sub(lambda found: f"{found[1]}{login}{found[2]}", url, count=1)


def check_url(text: str, schemes: tuple[str, ...], host_needed: bool = True) -> SplitResult:
    """Return the parts of an address, the login percent-encoded; raises Wrong without its text."""
    known = " or ".join(f"{scheme}://" for scheme in schemes)
    if not text.isprintable() or " " in text:
        raise Wrong("the address has a space or a control character", "write a space as %20")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:  # its text would quote the address
        raise Wrong(
            "the address cannot be read", f"write {known}host:port/path; {_ESCAPE}"
        ) from None
    if parts.scheme not in schemes or not text[len(parts.scheme) :].startswith("://"):
        raise Wrong(f"the address does not begin with {known}", f"write {known}host:port/path")
    if port == 0 or (host_needed and not host):
        raise Wrong("the address has no host, or port 0", f"write {known}host:port/path")
    # a '/', '?' or '#' in a password ends the host early and leaves an '@' behind
    for character in "#@":
        if character in parts.path + parts.query or (character == "#" and "#" in text):
            raise Wrong(f"the address has a '{character}' after its host", _ESCAPE)
    login, at, host_port = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    netloc = f"{_requote(user)}{colon}{_requote(password)}{at}{host_port}"
    return parts._replace(netloc=netloc)


def _requote(text: str) -> str:
    return quote(unquote(text, errors="surrogateescape"), safe="", errors="surrogateescape")


@dataclass(frozen=True, slots=True, repr=False)
class SecretUrl:
    """The RTSP address of a camera. It shows itself without login; `reveal()` gives all of it."""

    _text: str

    @classmethod
    def parse(cls, value: object) -> SecretUrl:
        """Return a checked address; raises Wrong."""
        if isinstance(value, SecretUrl):
            return value
        if not isinstance(value, str):
            raise Wrong("expected an address", "write rtsp://host:554/path")
        return cls(check_url(value.strip(), ("rtsp", "rtsps")).geturl())

    def reveal(self) -> str:
        """Return the address with its login, percent-encoded: for the recorder's eyes only."""
        return self._text

    def without_login(self) -> str:
        """Return the address without its login, with its port: two cameras may not have the same.
        An address is the same with and without the port that its scheme has anyway."""
        parts = urlsplit(self._text)
        port = parts.port or {"rtsp": 554, "rtsps": 322}[parts.scheme]
        return parts._replace(netloc=f"{parts.hostname}:{port}").geturl()

    def __str__(self) -> str:
        return redact(self._text)

    def __repr__(self) -> str:
        return f"SecretUrl('{self}')"

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _next: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema()
        )
