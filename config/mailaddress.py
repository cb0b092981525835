"""E-mail addresses that a letter can be written to, and sent from.

Narrower than RFC 5321 and 5322 allow, and all of it can be sent: a dot-atom without quotes, at a
host name of letters, digits and hyphens (RFC 1123). Of other scripts a domain is written in its
`xn--` form.
"""

from __future__ import annotations

import re

LONGEST = 254  # RFC 5321, 4.5.3.1.3, without its brackets
_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})+")


def is_address(text: str) -> bool:
    """Tell whether text is an address that letters can be sent to."""
    return len(text) <= LONGEST and _ADDRESS.fullmatch(text) is not None
