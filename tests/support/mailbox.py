"""A real SMTP server on loopback (aiosmtpd) that keeps what it gets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller

from tests.support.s3 import free_port
from tests.support.waiting import BOUND_S


class Mailbox:
    """What came; `refuse` is the answer to every recipient, "" to take the letter; `defer` are
    those that are to come again later."""

    def __init__(self) -> None:
        self.defer: set[str] = set()
        self.letters: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refuse = ""
        self.port = free_port()

    async def handle_RCPT(
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.refuse:
            return self.refuse
        if address in self.defer:
            return "451 greylisted, come again"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.recipients += envelope.rcpt_tos
        self.letters.append(message)  # the last: tests in another thread wait for it
        return "250 OK"

    def text(self, n: int) -> str:
        """Return what a letter says."""
        return str(self.letters[n].get_content())


@contextlib.contextmanager
def mailbox(port: int | None = None) -> Iterator[Mailbox]:
    """Have a mail server."""
    one = Mailbox()
    one.port = port or one.port
    controller = Controller(one, hostname="127.0.0.1", port=one.port, ready_timeout=BOUND_S)
    controller.start()
    try:
        yield one
    finally:
        controller.stop()
