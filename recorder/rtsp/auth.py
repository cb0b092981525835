"""The answer to a camera's challenge: Digest (RFC 7616, and RFC 2617 before it), Basic (RFC 7617).

Of several challenges the strongest that both sides know is answered: SHA-512-256, SHA-256, MD5,
and Basic last, which shows the password to everyone on the way.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from recorder.rtsp.messages import bytes_of

# from weak to strong; by the name before "-sess"
_HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
# each begins where a word does: looked for from within a long one, it would be read through for
# each of its letters
_SCHEME = r"(?P<scheme>[A-Za-z][\w-]*)[ \t]+(?=[\w-]+[ \t]*=)|(?P<bare>(?:Basic|Negotiate|NTLM)\b)"
_PARAMETER = r'(?P<name>[\w-]+)[ \t]*=[ \t]*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"?|(?P<token>[^\s,"]*))'
_PIECE = re.compile(rf"(?<![\w-])(?:{_PARAMETER}|{_SCHEME})", re.S | re.I)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user's name and password as they are, not percent-encoded."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a camera asks for: `scheme` in lower case, parameters by their lower-case names.

    Values are as between the quotes: a backslash stays, as most cameras reckon with it.
    """

    scheme: str
    parameters: dict[str, str]

    @property
    def algorithm(self) -> str:
        """The Digest algorithm in upper case; MD5 where none is named (RFC 7616, 3.3)."""
        return (self.parameters.get("algorithm") or "MD5").upper()

    @property
    def stale(self) -> bool:
        """Whether only the nonce of the last answer was too old."""
        return self.parameters.get("stale", "").lower() == "true"

    @property
    def name(self) -> str:
        """The way of proof, as operators may read it."""
        return f"Digest {self.algorithm}" if self.scheme == "digest" else self.scheme.capitalize()

    @property
    def strength(self) -> int:
        """How strong it is; 0 for one that is not known here."""
        if self.scheme == "basic":
            return 1
        known, hash_name = list(_HASHES), self.algorithm.removesuffix("-SESS")
        qop = self.parameters.get("qop")  # some cameras name it, and nothing
        if self.scheme != "digest" or hash_name not in known or "nonce" not in self.parameters:
            return 0
        if qop and "auth" not in _words(qop):
            return 0
        return 2 + known.index(hash_name)


def parse_challenges(values: Iterable[str]) -> list[Challenge]:
    """Read the values of WWW-Authenticate headers, with commas between parameters or without."""
    found: list[Challenge] = []
    for value in values:
        for piece in _PIECE.finditer(value):
            if scheme := piece["scheme"] or piece["bare"]:
                found.append(Challenge(scheme.lower(), {}))
            elif found:
                text = piece["token"] if piece["quoted"] is None else piece["quoted"]
                found[-1].parameters.setdefault(piece["name"].lower(), text)
    return found


def strongest(challenges: Iterable[Challenge]) -> Challenge | None:
    """Return the strongest challenge that can be answered; None without one."""
    known = [challenge for challenge in challenges if challenge.strength]
    return max(known, key=lambda challenge: challenge.strength, default=None)


class Authenticator:
    """Answers one challenge, for as many requests as its nonce is good for."""

    def __init__(
        self,
        credentials: Credentials,
        challenge: Challenge,
        new_cnonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ):
        self._credentials, self.challenge = credentials, challenge
        self._cnonce, self._count = new_cnonce(), 0

    def authorization(self, method: str, uri: str) -> str:
        """Return the value of the Authorization header for a request to `uri`."""
        user, password = self._credentials.user, self._credentials.password
        if self.challenge.scheme == "basic":
            return "Basic " + b64encode(bytes_of(f"{user}:{password}")).decode()
        return self._digest(user, password, method, uri)

    def _digest(self, user: str, password: str, method: str, uri: str) -> str:
        """RFC 7616, 3.4; without `qop` RFC 2617, 3.2.2.1."""
        given, algorithm = self.challenge.parameters, self.challenge.algorithm
        realm, nonce = given.get("realm", ""), given["nonce"]

        def digest(*parts: str) -> str:
            name = _HASHES[algorithm.removesuffix("-SESS")]
            return hashlib.new(name, bytes_of(":".join(parts)), usedforsecurity=False).hexdigest()

        secret, request = digest(user, realm, password), digest(method, uri)
        if algorithm.endswith("-SESS"):
            secret = digest(secret, nonce, self._cnonce)
        hidden = given.get("userhash", "").lower() == "true"
        quoted = {
            "username": digest(user, realm) if hidden else re.sub(r'(["\\])', r"\\\1", user),
            "realm": realm,
            "nonce": nonce,
            "uri": uri,
        }
        plain = {"algorithm": given["algorithm"]} if given.get("algorithm") else {}
        if given.get("qop"):
            self._count += 1
            plain |= {"qop": "auth", "nc": f"{self._count:08x}"}
            proof = [nonce, plain["nc"], self._cnonce, "auth"]
        else:
            proof = [nonce]
        quoted["response"] = digest(secret, *proof, request)
        if given.get("qop") or algorithm.endswith("-SESS"):
            quoted["cnonce"] = self._cnonce
        if "opaque" in given:
            quoted["opaque"] = given["opaque"]
        if hidden:
            plain["userhash"] = "true"
        fields = [f'{name}="{value}"' for name, value in quoted.items()]
        return "Digest " + ", ".join(fields + [f"{name}={value}" for name, value in plain.items()])


def _words(text: str) -> list[str]:
    return re.split(r"[,\s]+", text.lower())
