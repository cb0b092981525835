"""How commands print: `out` for what was asked for, `err` for what went wrong."""

from __future__ import annotations

from datetime import UTC, datetime

from rich.console import Console

out, err = Console(), Console(stderr=True)


def say(text: str, console: Console = out) -> None:
    """Print text as it is: nothing in it is markup, and no line is wrapped or coloured."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def format_utc(ms: int | None, nothing: str = "") -> str:
    """Return a moment in UTC, `2026-11-29 07:00Z`, or what stands for none."""
    return nothing if ms is None else f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%d %H:%M}Z"
