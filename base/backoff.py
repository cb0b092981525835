"""How long to wait before something that failed is tried again: one way for all parts.

`pauses_s` are the pauses in seconds after the first, second, ... failure in a row; the last one
stays.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Hashable, Sequence


def pause_s(pauses_s: Sequence[float], failures: int) -> float:
    """Return the pause after so many failures in a row; 0.0 after none."""
    return pauses_s[min(failures, len(pauses_s)) - 1] if failures > 0 else 0.0


class Backoff:
    """Counts the failures in a row of one thing; `spread` 0.3 varies each pause by 30 %."""

    def __init__(self, pauses_s: Sequence[float], spread: float = 0.0):
        self._pauses_s, self._spread = pauses_s, spread
        self.failures = 0

    def failed(self) -> float:
        """Count a failure; return the pause before the next try."""
        self.failures += 1
        spread = random.uniform(1 - self._spread, 1 + self._spread)
        return pause_s(self._pauses_s, self.failures) * spread

    def succeeded(self) -> None:
        """Begin with the first pause again."""
        self.failures = 0


class ItemBackoff:
    """The pauses of the items of a queue, each by its own failures in a row: one that fails is
    tried later, and holds up no other.

    `clock` tells seconds, and never goes back.
    """

    def __init__(self, pauses_s: Sequence[float], clock: Callable[[], float] = time.monotonic):
        self._pauses_s, self._clock = pauses_s, clock
        self._failed: dict[Hashable, tuple[int, float]] = {}  # how often, and when it is due again

    def due(self, item: Hashable) -> bool:
        """Tell whether an item may be tried: it did not fail, or its pause is over."""
        return self._failed.get(item, (0, 0.0))[1] <= self._clock()

    def failures(self, item: Hashable) -> int:
        """Return how often an item failed in a row."""
        return self._failed.get(item, (0, 0.0))[0]

    def failed(self, item: Hashable) -> None:
        """Count a failure of an item."""
        failures = self.failures(item) + 1
        self._failed[item] = failures, self._clock() + pause_s(self._pauses_s, failures)

    def succeeded(self, item: Hashable) -> None:
        """Begin with the first pause of an item again."""
        self._failed.pop(item, None)

    def retain(self, items: Collection[Hashable]) -> None:
        """Forget what is no longer in the queue."""
        for gone in self._failed.keys() - set(items):
            del self._failed[gone]
