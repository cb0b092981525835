"""Has processes forked that kill themselves: what they import takes longer than they live.

`python -m tests.support.mortals MODULE` reads lines of JSON, each a list of arguments of the
module's `main`, by which a child lives, and answers each with its exit status and what it said.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile


class Mortals:
    """Has children of one module live and die."""

    def __init__(self, module: str):
        """Start the process that forks; leaving the context ends it."""
        command = [sys.executable, "-m", "tests.support.mortals", module]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Mortals:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its standard input ends it

    def die(self, *arguments: str | int) -> str:
        """Return what a child said that lived by these arguments; fails where it did not kill
        itself."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(arguments) + "\n")
        self._process.stdin.flush()
        status, said = json.loads(self._process.stdout.readline())
        assert status == -9, said
        return str(said)


def main() -> None:
    """Fork a child for every line."""
    module = importlib.import_module(sys.argv[1])
    for line in sys.stdin:
        with tempfile.TemporaryFile() as said:
            child = os.fork()
            if child == 0:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
                module.main(*json.loads(line))
                os._exit(0)
            _, status = os.waitpid(child, 0)
            said.seek(0)
            text = said.read().decode(errors="replace")
        print(json.dumps([os.waitstatus_to_exitcode(status), text]), flush=True)


if __name__ == "__main__":
    main()
