"""A test that leaves a connection open fails, and does not hang."""

from __future__ import annotations

import asyncio
import socket

import pytest

from tests.support.loop import Loop


def test_what_was_left_open_is_said_and_closed() -> None:
    loop, (ours, theirs) = Loop(), socket.socketpair()
    loop.run_until_complete(loop.create_connection(asyncio.Protocol, sock=ours))
    with pytest.raises(AssertionError, match="left open: unclosed resource <UnixTransport"):
        loop.close()
    theirs.settimeout(10)
    assert theirs.recv(1) == b""
    theirs.close()
