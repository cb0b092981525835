"""How commands print: `out` for what was asked for, `err` for what went wrong."""

from __future__ import annotations

import contextlib
import os
import pwd
from datetime import UTC, datetime

from rich.console import Console

MOST_NAME = 20  # of an operator

out, err = Console(), Console(stderr=True)


def say(text: str, console: Console = out) -> None:
    """Print text as it is: nothing in it is markup, and no line is wrapped or coloured."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_utc(ms: int | None, nothing: str = "") -> str:
    """Return a moment in UTC, `2026-11-29 07:00Z`, or what stands for none."""
    return nothing if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}Z"


def operator(who: str | None = None) -> str:
    """Return who acts: the name that is given, else the user's, with sudo of the one before."""
    name = who or os.environ.get("SUDO_USER") or ""
    with contextlib.suppress(KeyError):  # of a user without a name
        name = name or pwd.getpwuid(os.getuid()).pw_name
    return f"operator {(name or str(os.getuid()))[:MOST_NAME]}"
