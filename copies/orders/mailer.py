"""Sending a letter that waits, and what becomes of one that is not taken."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import structlog

from base.clock import Clock
from config.copies import Mail
from copies.orders.events import Refused
from copies.orders.mail import MOST_A_DAY, NotSent, ServerAway, mailbox_of, send, write
from copies.payments.port import ProviderUnavailable
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.recording_source import Unreadable

log = structlog.get_logger()


class Mailer:
    """Sends letters of a catalogue; `sent` and `failures` count them."""

    def __init__(
        self,
        mail: Mail,
        catalogue: Catalogue,
        clock: Clock,
        retry_s: Sequence[int],
    ):
        """`retry_s`: how long a letter waits before each further try; then it is given up."""
        self._mail, self._catalogue = mail, catalogue
        self._clock, self._retry_s = clock, retry_s
        self.sent = self.failures = 0

    async def send(self, letter: Mapping[str, Any]) -> None:
        """Send a letter, or note why it was not and when it is tried again.

        Raises ServerAway and CatalogueError: then no other can be sent now, either.
        """
        outbox, number, now = self._catalogue.outbox, letter["letter_no"], self._clock()
        try:
            mailbox = mailbox_of(letter["recipient"])
            next_ms = await self._catalogue.usage.next_letter_ms(mailbox, MOST_A_DAY, now)
            if next_ms > now:
                why = "this address was sent as many letters as it may be in a day"
                await outbox.postponed(number, why, next_ms)
                return
            order = await self._catalogue.orders.get(letter["order_pk"])
            await send(self._mail, write(self._mail.sender, order, letter))
        except CatalogueError:
            raise
        except ServerAway as error:
            self.failures += 1
            await outbox.postponed(number, str(error), now)
            raise
        except Exception as error:
            await self._not_sent(letter, error)
            return
        await outbox.sent(number, self._clock(), mailbox)
        self.sent += 1

    async def _not_sent(self, letter: Mapping[str, Any], error: Exception) -> None:
        self.failures += 1
        tries, retry_s, why = letter["tries"], self._retry_s, why_of(error)
        for_good = isinstance(error, NotSent) and error.for_good
        again_ms = None
        if not for_good and tries < len(retry_s):
            again_ms = self._clock() + retry_s[tries] * 1000
        about = {"letter": letter["letter_no"], "order": letter["number"], "why": why}
        if again_ms is None:
            log.error("A letter is given up", **about)
        elif tries == 0:
            log.warning("A letter is not sent; it is tried again, and the others go on", **about)
        await self._catalogue.outbox.failed(letter["letter_no"], why, again_ms)


def why_of(error: Exception) -> str:
    """Return why a step failed, for log and catalogue; the words of what is not ours may quote an
    address or a link, so of that only its kind is told."""
    if isinstance(error, CatalogueError | NotSent | ProviderUnavailable | Refused | Unreadable):
        return str(error)[:300]
    return type(error).__name__
