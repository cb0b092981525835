"""What a copy costs: pure functions over whole milliseconds and the smallest unit of a currency.

Only footage that exists, within the stretch asked for, is billed. Cameras are lines of the bill,
in the order asked for; the free allowance is used up from the first on. Whatever does not come
out even is rounded down, once per line and once for the tax: in favour of the requester. What is
billed costs one unit at least: else a long stretch would cost nothing in many short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from config.copies import Copies

MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Line:
    """What one camera costs: `exists_ms` of footage, of which `billed_ms` are billed."""

    camera: str
    exists_ms: int
    billed_ms: int
    net: int


@dataclass(frozen=True, slots=True)
class Price:
    """A bill. `minimum` is what was added to reach the least price of an order."""

    currency: str
    per_minute: int
    lines: tuple[Line, ...]
    minimum: int
    net: int
    tax_basis: int  # hundredths of a percent
    tax: int
    total: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


def price(
    settings: Copies, footage: Sequence[tuple[str, int]], free_ms: int | None = None
) -> Price:
    """Return what cameras, each with its milliseconds of existing footage, cost.

    `free_ms` is what is left of the free allowance; without it, all of it is.
    """
    left_ms = settings.free_minutes * MINUTE_MS if free_ms is None else free_ms
    lines = []
    for camera, exists_ms in footage:
        billed_ms = max(0, exists_ms - left_ms)
        left_ms -= exists_ms - billed_ms
        net = billed_ms * settings.price_per_minute // MINUTE_MS
        lines.append(Line(camera, exists_ms, billed_ms, net))
    net = sum(line.net for line in lines)
    billed = any(line.billed_ms for line in lines)
    least = max(settings.minimum, min(1, settings.price_per_minute))
    minimum = max(0, least - net) if billed else 0
    tax = (net + minimum) * settings.tax // 100_00
    return Price(
        settings.currency,
        settings.price_per_minute,
        tuple(lines),
        minimum,
        net + minimum,
        settings.tax,
        tax,
        net + minimum + tax,
    )
