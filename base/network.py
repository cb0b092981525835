"""Why a connection failed, in words for people: libraries hide what the system said."""

from __future__ import annotations

import os
import socket
import ssl


def connection_words(error: BaseException | None) -> str:
    """Return what the operating system said of a connection, which may be the cause of an error."""
    while error is not None:
        if isinstance(error, socket.gaierror):
            return "the name server does not know its name, or does not answer"
        if isinstance(error, ssl.SSLError):
            return f"TLS fails: {(error.reason or 'broken').replace('_', ' ').lower()}"
        if isinstance(error, TimeoutError):
            return "no answer in time"
        if isinstance(error, OSError) and (error.errno or 0) > 0:
            return os.strerror(error.errno or 0).lower()
        error = error.__cause__ or error.__context__
    return "the connection ended"
