"""Bits of parameter sets and configurations."""

from __future__ import annotations

LONGEST = 32  # zeros before the first one of an Exp-Golomb code (H.264, 9.1; H.265, 9.2)


class Bits:
    """Reads bits from the left; raises IndexError at the end."""

    def __init__(self, data: bytes):
        self._data, self._number, self._left = data, int.from_bytes(data, "big"), 8 * len(data)

    def u(self, count: int) -> int:
        """Return an unsigned number of `count` bits."""
        if count > self._left:
            raise IndexError("no bits are left")
        self._left -= count
        return self._number >> self._left & (1 << count) - 1

    def passed(self) -> bytes:
        """Return what was read so far, the rest of its last byte as zeros."""
        whole, more = divmod(8 * len(self._data) - self._left, 8)
        last = bytes([self._data[whole] & 0xFF00 >> more & 0xFF]) if more else b""
        return self._data[:whole] + last

    def ue(self) -> int:
        """Return an Exp-Golomb code (H.264, 9.1); signed ones are as different as their codes.

        Raises ValueError for one that is longer than any.
        """
        zeros = self._left - (self._number & (1 << self._left) - 1).bit_length()
        if zeros > LONGEST:
            raise ValueError("a code that is longer than any")
        self.u(zeros)
        return self.u(zeros + 1) - 1
