"""How a machine shows another one that it is of the same installation: by `node.password`.

The password itself is never sent. A question has a keyed hash (HMAC-SHA256, RFC 2104) of its
target and the time; so whoever reads along learns how to ask the same once more, for a minute.
"""

from __future__ import annotations

import hmac

HEADER = "Kuager-Signature"
VALID_MS = 60_000  # by which the clocks of two machines may differ


def sign(password: str, target: str, at_ms: int) -> str:
    """Return what HEADER says of a question for `target`, path and query, at `at_ms` (UTC)."""
    return f"{at_ms}:{_mac(password, target, at_ms)}"


def is_signed(password: str, target: str, said: str, at_ms: int) -> bool:
    """Tell whether HEADER says what who has the password says about now."""
    moment, _, mac = said.partition(":")
    if not (moment.isdecimal() and moment.isascii() and len(moment) < 20):
        return False
    if abs(int(moment) - at_ms) > VALID_MS:
        return False
    said_mac = mac.encode(errors="surrogateescape")  # a header has any bytes
    return hmac.compare_digest(said_mac, _mac(password, target, int(moment)).encode())


def _mac(password: str, target: str, at_ms: int) -> str:
    return hmac.digest(password.encode(), f"{at_ms} {target}".encode(), "sha256").hex()
