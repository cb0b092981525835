"""Whether an address can be listened on, and what is said where it cannot."""

from __future__ import annotations

import errno
import socket


class PortInUse(RuntimeError):
    """The address cannot be listened on; the text says what to do."""


def check_port(host: str, port: int, setting: str = "web.listen") -> None:
    """Raise PortInUse where another program listens: our processes share a port silently."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise port_problem(host, port, error, setting) from None


def port_problem(host: str, port: int, error: OSError, setting: str) -> PortInUse:
    """Return what to say of an address that cannot be listened on."""
    choose = f"choose another with {setting}"
    if error.errno == errno.EADDRINUSE:
        return PortInUse(f"port {port} on {host} is in use by another program: {choose} or stop it")
    why = error.strerror or error
    return PortInUse(f"port {port} on {host} cannot be listened on ({why}): {choose}")
