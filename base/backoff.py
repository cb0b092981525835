"""How long to wait before something that failed is tried again: the one ladder of all parts.

A ladder is the pauses in seconds after the first, second, ... failure in a row; the last one
stays.
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def pause_s(ladder_s: Sequence[float], failures: int) -> float:
    """Return the pause after so many failures in a row; 0.0 after none."""
    return ladder_s[min(failures, len(ladder_s)) - 1] if failures > 0 else 0.0


class Backoff:
    """Counts the failures in a row of one thing; `spread` 0.3 varies each pause by 30 %."""

    def __init__(self, ladder_s: Sequence[float], spread: float = 0.0):
        self._ladder_s, self._spread = ladder_s, spread
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; return the pause before the next try."""
        self.failures += 1
        spread = random.uniform(1 - self._spread, 1 + self._spread)
        return pause_s(self._ladder_s, self.failures) * spread

    def succeeded(self) -> None:
        """Begin the ladder anew."""
        self.failures = 0
