"""What an installation may lack: the extras of pyproject.toml, and who needs them."""

from __future__ import annotations

import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from config.model import Config


class ExtraMissing(RuntimeError):
    """Something is asked for that is not installed; the text says how to have it."""

    def __init__(self, what: str, extra: str, otherwise: str = ""):
        super().__init__(f"{what}, not installed here: pip install 'kuager[{extra}]'{otherwise}")


def check_extras(config: Config, role: str = "all") -> None:
    """Raise ExtraMissing where a role, or one of them all, needs what is not installed."""
    if role in ("pictures", "all") and config.pictures_s and not _has("cv2"):
        raise ExtraMissing("pictures need OpenCV", "pictures", ", or write pictures: off")
    sells = role in ("orders", "web", "all") and config.copies is not None
    if sells and config.copies and config.copies.stripe and not _has("stripe"):
        raise ExtraMissing("'stripe' needs Stripe's library", "stripe", ", or remove 'stripe'")


def rclone() -> str:
    """Return the path of rclone, which serves the demo's bucket; raises ExtraMissing where it or
    what draws the simulated cameras is not installed."""
    found = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    if found is None or not (_has("cv2") and _has("numpy")):
        raise ExtraMissing("the demo needs rclone, OpenCV and NumPy", "demo")
    return found


def _has(module: str) -> bool:
    """Say whether a module is installed, without importing it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
