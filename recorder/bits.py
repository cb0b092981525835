"""Bits of parameter sets and configurations."""

from __future__ import annotations


class Bits:
    """Reads bits from the left; raises IndexError at the end."""

    def __init__(self, data: bytes):
        self._data, self._at = data, 0

    def u(self, count: int) -> int:
        """Return an unsigned number of `count` bits."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._data[self._at >> 3] >> (7 - (self._at & 7)) & 1
            self._at += 1
        return value

    def passed(self) -> bytes:
        """Return what was read so far, the rest of its last byte as zeros."""
        whole, more = divmod(self._at, 8)
        last = bytes([self._data[whole] & 0xFF00 >> more & 0xFF]) if more else b""
        return self._data[:whole] + last

    def ue(self) -> int:
        """Return an Exp-Golomb code (H.264, 9.1); signed ones are as different as their codes."""
        zeros = 0
        while not self.u(1):
            zeros += 1
        return (1 << zeros) - 1 + self.u(zeros)
