"""`python -m kuager` is the same as `kuager`."""

from __future__ import annotations

import os
import signal
import sys

STOPS = (signal.SIGINT, signal.SIGTERM)


def main() -> None:
    """Run the command line.

    Until a command is ready for it, a signal ends it without a word: what runs until it is
    stopped has then been stopped (0), any other command was interrupted (130).
    """
    runs = sys.argv[1:2] in (["run"], ["demo"])
    before = [signal.signal(number, lambda *_: os._exit(0 if runs else 130)) for number in STOPS]
    from kuager.cli import main as command_line  # takes a second to import

    if not runs:
        for number, handler in zip(STOPS, before, strict=True):
            signal.signal(number, handler)
    command_line()


if __name__ == "__main__":
    main()
