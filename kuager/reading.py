"""Reading the configuration for a command: it, or all that is wrong with it, printed.

A module of its own, as every command begins with it and few need what `kuager check` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from config.load import load
from config.model import Config
from config.problems import ConfigError, Problem, UnreadableConfig
from kuager.terminal import err


def read(path: Path) -> Config | int:
    """Return the configuration, or the exit code after all that is wrong was printed."""
    try:
        config = load(path)
    except UnreadableConfig as error:
        _print(error.problems)
        return 2
    except ConfigError as error:
        _print(error.problems)
        wrong = sum(not problem.warning for problem in error.problems)
        err.print(f"{wrong} to put right.", style="bold", highlight=False)
        return 1
    _print(config.warnings)
    return config


def _print(problems: Sequence[Problem]) -> None:
    # straight to the file: rich takes long for 40,000 lines, and would fold them
    with contextlib.suppress(OSError):  # what nobody can read keeps nothing from being recorded
        err.file.writelines(
            f"{'warning' if problem.warning else 'error'}: {problem}\n" for problem in problems
        )
