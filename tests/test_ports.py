"""Two Kuagers of one user never share a port, and the processes of one do."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming import ports
from streaming.ports import PortInUse, claimed
from tests.s3 import free_port

HOSTS = ("127.0.0.1", "127.0.0.2", "0.0.0.0", "::", "::1", "localhost")  # noqa: S104


def claim(host: str, port: int, spool: Path) -> contextlib.AbstractContextManager[None]:
    return claimed(host, port, "web.listen", spool)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(HOSTS), st.integers(0, 2)), max_size=8))
def test_an_address_has_one_spool(claims: list[tuple[str, int]]) -> None:
    had: list[tuple[str, int]] = []
    first = free_port()
    with contextlib.ExitStack() as stack:
        for host, spool in claims:
            met = [
                one for one in had if one[1] != spool and (one[0] == host or ports._ALL & {one[0], host})
            ]
            try:
                stack.enter_context(claim(host, first, Path(f"/spool{spool}")))
                had.append((host, spool))
            except PortInUse:
                assert met
            else:
                assert not met
            stack.enter_context(claim(host, first + 1, Path("/spool")))
    with claim("0.0.0.0", first, Path("/other")):  # noqa: S104 all was given back
        pass


def test_who_ends_gives_it_back_whatever_else_is_shown(tmp_path: Path) -> None:
    port = free_port()
    with contextlib.ExitStack() as stack:
        for n, name in enumerate((f"kuager/{port}", f"kuager/{port}/x", f"kuager/{port}/\n/ /é")):
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.bind(f"\0{name}{n}")
        with claim("::1", port, tmp_path):
            pass
        with claim("::1", port, tmp_path / "other"), pytest.raises(PortInUse, match=r"web\.listen"):
            stack.enter_context(claim("::1", port, tmp_path))
