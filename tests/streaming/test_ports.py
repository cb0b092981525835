"""Two Kuagers of one user never share a port, and the processes of one do."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming.http import ports
from streaming.http.ports import PortInUse, claimed
from tests.support.s3 import free_port

HOSTS = ("127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "::1", "localhost")


def claim(host: str, port: int, spool: Path) -> contextlib.AbstractContextManager[None]:
    return claimed(host, port, "web.listen", spool)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(0, 2)), max_size=8))
def test_an_address_has_one_spool(claims: list[tuple[str, int]]) -> None:
    had: list[tuple[str, int]] = []
    first = free_port()
    with contextlib.ExitStack() as stack:
        for host, spool in claims:
            met = any(
                whose != spool and (where == host or ports._ALL & {where, host})
                for where, whose in had
            )
            try:
                stack.enter_context(claim(host, first, Path(f"/spool{spool}")))
            except PortInUse:
                assert met
            else:
                assert not met
                had.append((host, spool))
            stack.enter_context(claim(host, first + 1, Path("/spool")))
    with claim("0.0.0.0", first, Path("/other")):
        pass


def test_who_ends_gives_it_back_whatever_else_is_shown(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        for n, name in enumerate((f"kuager/{port}", f"kuager/{port}/x", f"kuager/{port}/::1/é/1")):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(f"\0{name}{n}")
        with claim("::1", port, tmp_path):
            pass
        with claim("::1", port, tmp_path / "other"), pytest.raises(PortInUse, match=r"web\.listen"):
            stack.enter_context(claim("::1", port, tmp_path))
