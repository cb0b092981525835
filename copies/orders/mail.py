"""Letters to a requester: their texts, giving them to a mail server, and what becomes of one that
is not taken.

Only the first has the link, as nobody knows it afterwards; those that follow are answers to it,
so that mail programs show them together.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, localtime
from functools import partial

import aiosmtplib
import structlog

from base.clock import Clock
from base.i18n.format import format_money, format_time
from base.i18n.gettext import gettext
from base.network import connection_words
from config.copies import Mail
from config.mailaddress import is_address
from copies.balance import received
from copies.orders.describe import title_of
from copies.states import DOWNLOADS, State
from storage.catalogue.catalogue import Catalogue
from storage.catalogue.database import CatalogueError
from storage.catalogue.orders import Order
from storage.catalogue.rows import LetterRow

TIMEOUT_S, LONGEST_S = 30.0, 120.0  # for a word of the server, for all of a letter
# letters to one mailbox that anybody can have sent by ordering in its name, so that nobody floods
# it; all others are of money or an operator's word
MOST_A_DAY, ANYBODYS = 20, "placed"
FULL = "this address was sent as many letters as it may be in a day"
# domains of one provider, to which the same mailboxes belong
_SAME = {
    "googlemail.com": "gmail.com",
    **dict.fromkeys(("me.com", "mac.com"), "icloud.com"),
    **dict.fromkeys(("protonmail.com", "pm.me"), "proton.me"),
    "ya.ru": "yandex.ru",
    **{f"yandex.{end}": "yandex.ru" for end in ("kz", "com", "by", "ua", "uz", "com.tr")},
}

log = structlog.get_logger()


class NotSent(RuntimeError):
    """The server did not take a letter; `for_good`: it never will."""

    def __init__(self, why: str, for_good: bool):
        super().__init__(why)
        self.for_good = for_good


class ServerAway(RuntimeError):
    """The server takes no letter now, whosever it is."""


def mailbox_of(recipient: str) -> str:
    """Return where an address leads, to count letters by: `A.b-c+d@e` is `abc@e`, as large mail
    providers read it."""
    name, _, domain = recipient.lower().rpartition("@")
    name = (name.partition("+")[0] or name).translate({ord("."): None, ord("-"): None})
    return f"{name}@{_SAME.get(domain, domain)}"


def address(text: str) -> str | None:
    """Return an e-mail address as it is written to; None for what is none."""
    text = text.strip()
    return text if is_address(text) else None


def compose(sender: str, order: Order, letter: LetterRow) -> EmailMessage:
    """Return a letter to the requester of an order, in its language."""
    _, number = partial(gettext, lang=order.language), order.number
    texts = {
        "placed": _(
            "Your order has been placed. Keep this link: it is the only key to your order. On its "
            "page you see what to do now, pay, and download."
        ),
        "part": _(
            "A part of the price has come. The page of your order says what is still to be paid."
        ),
        "paid": _("Your payment has been entered."),
        "owed": _(
            "A payment came that is too much, too late, or in another currency. It is given back."
        ),
        "rejected": _("Your order has been rejected."),
        "returned": _("A payment has been given back."),
        "refunded": _("Your payment has been given back, and the order has ended."),
    }
    lines = [title_of(order, order.language), "", texts[letter.kind]]
    until = format_time(order.until_ms or 0, order.quote["station"]["time_zone"])
    if letter.kind == "placed" and order.state == State.AWAITING_PAYMENT:
        price = format_money(order.total - received(order), order.currency, order.language)
        lines.append(_("Pay %(price)s until %(when)s.", price=price, when=until))
    elif letter.kind == "paid" and order.state in DOWNLOADS:
        lines.append(
            _(
                "The files can be downloaded until %(when)s, as often as you like; what was "
                "interrupted goes on.",
                when=until,
            )
        )
    elif letter.kind == "rejected":
        lines.append(_("Reason: %(reason)s", reason=order.reason))
    if letter.link:
        lines += ["", letter.link]
    else:
        lines += ["", _("The link to your order is in our first letter.")]
    message = EmailMessage()
    message["From"] = sender
    message["To"] = Address(addr_spec=letter.recipient)
    message["Subject"] = _("Kuager: order %(number)s", number=number)
    message["Date"] = format_datetime(localtime())
    domain = sender.rpartition("@")[2]
    first = f"<order-{number}.{order.created_ms}@{domain}>"
    if letter.kind == "placed":
        message["Message-ID"] = first
    else:
        message["Message-ID"] = f"<order-{number}.letter-{letter.letter_no}@{domain}>"
        message["In-Reply-To"] = message["References"] = first
    message["Auto-Submitted"] = "auto-generated"
    message.set_content("\n".join(lines) + "\n")
    return message


async def connect(mail: Mail) -> aiosmtplib.SMTP:
    """Connect to the server and log in; raises ServerAway."""
    client = aiosmtplib.SMTP(
        hostname=mail.host,
        port=mail.port,
        use_tls=mail.tls == "tls",
        start_tls=mail.tls == "starttls",
        username=mail.user,
        password=mail.password.get_secret_value() if mail.password else None,
        timeout=TIMEOUT_S,
    )
    try:
        await client.connect()
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        client.close()
        raise ServerAway(f"the mail server cannot be used: {_why(error)}") from None
    return client


async def submit(mail: Mail, message: EmailMessage) -> None:
    """Give a letter to the server; raises ServerAway where it takes none, NotSent where it does
    not take this one."""
    client = await connect(mail)
    try:
        async with asyncio.timeout(LONGEST_S):
            await client.send_message(message)
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):  # it has the letter
            await client.quit()
    except aiosmtplib.SMTPSenderRefused as answer:
        raise ServerAway(f"the mail server refuses us as sender ({answer.code})") from None
    except aiosmtplib.SMTPRecipientsRefused as refused:
        # its words quote the address
        codes = [r.code for r in refused.recipients]
        for_good = all(500 <= code < 600 for code in codes)
        raise NotSent(f"the server refuses the recipient ({codes})", for_good) from None
    except aiosmtplib.SMTPResponseException as answer:
        raise NotSent(f"the server answers {answer.code}", False) from None
    except (aiosmtplib.SMTPException, OSError) as error:
        raise NotSent(f"it broke off: {_why(error)}", False) from None
    finally:
        client.close()


def _why(error: Exception) -> str:
    """Return why a server was not spoken to, without its own words, which may quote an address."""
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return f"it refuses user name or password ({error.code})"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"it answers {error.code}" if error.code > 0 else "what it says is not SMTP"
    return connection_words(error)


class Mailer:
    """Sends letters of a catalogue; `sent` and `failures` count them."""

    def __init__(self, mail: Mail, catalogue: Catalogue, clock: Clock, retry_s: Sequence[int]):
        """`retry_s`: how long a letter waits before each further try; then it is given up."""
        self._mail, self._catalogue = mail, catalogue
        self._clock, self._retry_s = clock, retry_s
        self.sent = self.failures = 0

    async def send(self, letter: LetterRow) -> None:
        """Send a letter, or note why it was not and when it is tried again.

        Raises ServerAway and CatalogueError: then no other can be sent now, either.
        """
        outbox, number, now = self._catalogue.outbox, letter.letter_no, self._clock()
        try:
            told = None
            if letter.kind == ANYBODYS:
                told = mailbox_of(letter.recipient), letter.order_pk
                again = letter.error == FULL
                usage = self._catalogue.usage
                next_ms = await usage.next_letter_ms(*told, MOST_A_DAY, now, again)
                if next_ms > now:
                    await outbox.postponed(number, FULL, next_ms)
                    return
            order = await self._catalogue.orders.get(letter.order_pk)
            await submit(self._mail, compose(self._mail.sender, order, letter))
        except CatalogueError:
            raise
        except ServerAway as error:
            self.failures += 1
            await outbox.postponed(number, str(error), now)
            raise
        except Exception as error:
            await self._not_sent(letter, error)
            return
        await outbox.sent(number, self._clock(), told)
        self.sent += 1

    async def _not_sent(self, letter: LetterRow, error: Exception) -> None:
        self.failures += 1
        tries, retry_s = letter.tries, self._retry_s
        # the words of any other error may quote the address or the link
        why = str(error)[:300] if isinstance(error, NotSent) else type(error).__name__
        for_good = isinstance(error, NotSent) and error.for_good
        again_ms = None
        if not for_good and tries < len(retry_s):
            again_ms = self._clock() + retry_s[tries] * 1000
        about = {"letter": letter.letter_no, "order": letter.number, "why": why}
        if again_ms is None:
            log.error("A letter is given up", **about)
        elif tries == 0:
            log.warning("A letter is not sent; it is tried again, and the others go on", **about)
        await self._catalogue.outbox.failed(letter.letter_no, why, again_ms)
