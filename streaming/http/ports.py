"""The ports that web processes listen on: shared among those of one Kuager, and with nobody else.

Linux gives a port to several programs of a user without a word where all of them ask for that
(SO_REUSEPORT), as our processes do: to share the work, and to serve by a new configuration before
the old one ends. So that two Kuagers never do, each process shows whose it is, as long as it
listens, by the name of a Unix socket without a file (unix(7), abstract): all of these stand in
/proc/net/unix.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import os
import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

BACKLOG = 1024  # connections that the system keeps while this process is busy
_SOCKETS = Path("/proc/net/unix")
_ALL = {"0.0.0.0", "::"}
_number = itertools.count()


class PortInUse(RuntimeError):
    """The address cannot be listened on; the text says what to do."""

    def __init__(self, host: str, port: int, setting: str, why: str | None = None):
        choose = f"choose another with {setting}"
        super().__init__(
            f"port {port} on {host} is in use by another program: {choose} or stop it"
            if why is None
            else f"port {port} on {host} cannot be listened on ({why}): {choose}"
        )

    @classmethod
    def of(cls, host: str, port: int, setting: str, error: OSError) -> PortInUse:
        """Return what to say where the system refuses."""
        in_use = error.errno == errno.EADDRINUSE
        return cls(host, port, setting, None if in_use else error.strerror or str(error))


def check_port(host: str, port: int, setting: str = "web.listen") -> None:
    """Raise PortInUse where any program listens, also one that would share."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse.of(host, port, setting, error) from None


@contextlib.contextmanager
def claimed(host: str, port: int, setting: str, spool: Path) -> Iterator[None]:
    """Show meanwhile that the Kuager of this spool listens there; raises PortInUse where the one of
    another spool does. Of two that begin at the same moment at least one is refused."""
    own = _name_of(spool)
    with socket.socket(socket.AF_UNIX) as shown:
        shown.bind(f"\0kuager/{port}/{host}/{own}/{os.getpid()}-{next(_number)}")
        shown.listen(BACKLOG)
        for name, where, whose in _shown(port):
            if _meet(where, host) and whose != own and _is_of_this_user(name):
                raise PortInUse(host, port, setting)
        yield


def is_ours(host: str, port: int, spool: Path) -> bool:
    """Tell whether the Kuager of this spool listens there; it may, where nobody can see that."""
    if not os.access(_SOCKETS, os.R_OK):
        return True
    own = _name_of(spool)
    return any(whose == own and _meet(where, host) for _, where, whose in _shown(port))


def _name_of(spool: Path) -> str:
    return hashlib.sha256(os.fsencode(spool.resolve())).hexdigest()[:16]


def _meet(host: str, other: str) -> bool:
    return host == other or bool(_ALL & {host, other})


def _shown(port: int) -> list[tuple[str, str, str]]:
    """Return who listens on a port of any address: the name, its host, its spool."""
    try:
        text = _SOCKETS.read_text(errors="replace")  # proc(5) shows the first zero byte as `@`
    except OSError:  # hidden from us: two Kuagers may then share as all programs of a user
        return []
    return re.findall(rf" @(kuager/{port}/([^/\s]+)/([0-9a-f]+)/[0-9-]+)$", text, re.MULTILINE)


def _is_of_this_user(name: str) -> bool:
    """Tell whether a program of this user has the name: no other's could share a port with it."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)
        if asking.connect_ex(f"\0{name}") != 0:
            return False  # it has ended meanwhile
        credentials = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return bool(struct.unpack("3i", credentials)[1] == os.geteuid())
