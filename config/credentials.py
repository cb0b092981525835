"""Secrets that stand in files of their own: `*_file` keys and the logins of cameras.

The credentials file has a login per camera (`station/camera`), per station (`station`) and for
all the rest (`*`); the nearest one is taken. An address with a login in it keeps that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr

from config.base import SETTINGS, Model
from config.problems import Problem, Wrong, did_you_mean
from config.secrets import read_secret, with_login
from config.validate import note, validate
from config.yamlfile import BROKEN, Loc, YamlDocument

_ID = r"[a-z0-9][a-z0-9_-]{0,63}"
_KEY = re.compile(rf"\*|{_ID}(/{_ID})?")
SHOWN = 20  # logins that nobody needs, one by one
IN_FILES = (  # each can be KEY_file instead
    "database",
    "secret_access_key",
    "password",
    "secret_key",
    "webhook_secret",
)

SETTINGS.update(f"{key}_file" for key in IN_FILES)


class Login(Model):
    """Who a camera lets in."""

    user: str = Field(min_length=1)
    password: SecretStr


class Credentials:
    """The logins of cameras; without a document there are none."""

    def __init__(self, document: YamlDocument | None = None):
        self._document = document
        self._logins: dict[str, Login] = {}

    @classmethod
    def read(cls, document: YamlDocument, problems: list[Problem]) -> Credentials:
        """Take the logins of a credentials file; what is wrong with it goes to `problems`."""
        credentials = cls(document)
        if not isinstance(document.data, dict):
            fix = "write lines such as station/camera: {user: …, password: …}"
            problems.append(note(document, (), "not a list of logins", fix))
            return credentials
        if _mode(document.path) & 0o007:
            fix = f"chmod o= {document.path}"
            what = "others than its owner and group may read it"
            problems.append(Problem(document.path, None, "", what, fix, warning=True))
        for key, entry in document.data.items():
            if not _KEY.fullmatch(key):
                fix = 'write station/camera, station, or "*" for all others'
                problems.append(note(document, (key,), "names no camera", fix))
            if isinstance(entry, dict):
                take_secret(document, (key,), "password", problems)
            if login := validate(Login, document, problems, (key,)):
                credentials._logins[key] = login
        return credentials

    def apply(self, station: object, camera: dict[str, Any]) -> None:
        """Put the login into addresses of a camera that have none; data is as in the file."""
        names = (f"{station}/{camera.get('id')}", str(station), "*")
        login = next((self._logins[name] for name in names if name in self._logins), None)
        for key in ("url", "low_url"):
            if login and isinstance(url := camera.get(key), str):
                camera[key] = with_login(url, login.user, login.password.get_secret_value())

    def unused(self, known: set[str]) -> Iterator[Problem]:
        """Yield a warning for each login of a station or camera that is not among the known; of
        many, as in a file that several machines share, for the first ones and for all others."""
        if self._document is None:
            return
        unused = [key for key in self._logins if key not in known and key != "*"]
        for key in unused[:SHOWN]:
            near = did_you_mean(key, known)  # takes 20 ms of 1,000 names
            fix = f"did you mean '{near}'?" if near else "remove it"
            yield note(self._document, (key,), "no such station or camera", fix, warning=True)
        if (more := len(unused) - SHOWN) > 0:
            what = f"{more:,} more of no station or camera in the stations file"
            fix = "remove them, unless other machines need them"
            yield note(self._document, (), what, fix, warning=True)


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # it was replaced since it was read, which counts
        return 0


def take_secret(document: YamlDocument, at: Loc, key: str, problems: list[Problem]) -> None:
    """Put a secret in place that a `KEY_file` at a place of a document names, if there is one."""
    data: Any = document.data
    for step in at:
        data = data[step]
    if f"{key}_file" not in data:
        return
    name = data[f"{key}_file"]
    loc: Loc = (*at, f"{key}_file")
    secret: object = BROKEN
    try:
        if key in data:
            raise Wrong(f"'{key}' is there too", "remove one of them")
        if isinstance(name, str):
            secret = read_secret(document.path.parent / name)
        elif name is not BROKEN:
            raise Wrong("names no file", "write the name of a file")
    except Wrong as wrong:
        problems.append(note(document, loc, wrong.what, wrong.fix))
    del data[f"{key}_file"]
    data[key] = secret
