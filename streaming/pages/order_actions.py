"""What people do with an order on its page, and the documents of its money.

Each works without scripts. The address of an order holds its secret: such pages name no referrer,
are kept by no cache, and are found by no search engine.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from base.i18n.gettext import gettext, ngettext
from config.copies import BIN
from copies.orders.describe import title_of
from copies.orders.events import Refused
from copies.orders.mail import address
from copies.payments.port import AmountRefused, Online, ProviderUnavailable
from storage.catalogue.orders import Order
from streaming.http.bodies import form
from streaming.http.negotiation import language_of
from streaming.http.scheduler import SCHEDULER
from streaming.http.site import base_url, refuse_foreign
from streaming.orders_context import (
    ORDERS,
    ask_providers,
    count_letter,
    invoice_provider,
    link_of,
    order_of,
    place,
    receipt_provider,
    work_on_orders,
)
from streaming.pages.order import order_page
from streaming.pages.render import link, page

MOST_PDFS = 128  # each about 60 kB
MOST_NAME = 200  # letters of a payer's name

routes = web.RouteTableDef()


@routes.get("/copies/{secret}")
async def show(request: web.Request) -> web.StreamResponse:
    """Show an order: where it stands, what to do now, its files."""
    return await order_page(request, await order_of(request))


@routes.post("/copies/{secret}/order")
async def post_order(request: web.Request) -> web.StreamResponse:
    """Order what was quoted; `email` is optional."""
    refuse_foreign(request)
    order = await order_of(request)
    text, email = await _address(request)
    if text and email is None:
        return await _wrong_address(request, order, text)
    return await _done(request, place(request, order, email))


@routes.post("/copies/{secret}/email")
async def post_email(request: web.Request) -> web.StreamResponse:
    """Have the link of an order without an address sent to `email`."""
    refuse_foreign(request)
    order = await order_of(request)
    text, email = await _address(request)
    if email is None:
        return await _wrong_address(request, order, text)
    count_letter(request)
    pk, here = order.order_pk, link_of(request)
    return await _done(
        request, work_on_orders(request, lambda service: service.send_link(pk, email, here))
    )


async def _address(request: web.Request) -> tuple[str, str | None]:
    """Return what was written as `email`, and the address that it is, if it is one."""
    text = str((await form(request)).get("email", "")).strip()
    return text, address(text) if text else None


async def _wrong_address(request: web.Request, order: Order, text: str) -> web.Response:
    errors = {"email": gettext("this is not an e-mail address", language_of(request))}
    return await order_page(request, order, 400, errors=errors, posted={"email": text})


@routes.post("/copies/{secret}/payer")
async def post_payer(request: web.Request) -> web.StreamResponse:
    """Have the invoice name who pays: `name`, and a `bin`, which is optional."""
    refuse_foreign(request)
    order, lang = await order_of(request), language_of(request)
    posted = await form(request)
    name = " ".join(str(posted.get("name", "")).split())
    bin_ = re.sub(r"\s", "", str(posted.get("bin", "")))
    errors = {}
    if not name or not name.isprintable() or len(name) > MOST_NAME:
        errors["name"] = ngettext(
            "write a name of at most %(count)s letter",
            "write a name of at most %(count)s letters",
            MOST_NAME,
            lang,
        )
    if bin_ and not re.fullmatch(BIN, bin_, re.ASCII):
        errors["bin"] = gettext("a BIN or IIN has 12 digits", lang)
    if errors:
        return await order_page(
            request, order, 400, errors=errors, posted={"name": name, "bin": bin_}
        )
    return await _done(
        request,
        work_on_orders(
            request, lambda service: service.name_payer(order.order_pk, name, bin_ or None)
        ),
    )


@routes.post("/copies/{secret}/cancel")
async def post_cancel(request: web.Request) -> web.StreamResponse:
    """Take an order back before it is paid."""
    refuse_foreign(request)
    order = await order_of(request)
    return await _done(
        request, ask_providers(request, lambda service: service.cancel(order.order_pk))
    )


async def _done(request: web.Request, work: Awaitable[Order]) -> web.StreamResponse:
    """Return to the order's page once something was done, or say there why it was not."""
    try:
        await work
    except Refused as refused:
        lang = language_of(request)
        wrong = gettext("Nothing was changed: %(why)s.", lang, why=refused.text(lang))
        return await order_page(request, await order_of(request), wrong=wrong)
    except ProviderUnavailable:
        return await _unavailable(request, await order_of(request))
    raise web.HTTPSeeOther(_here(request))


async def _unavailable(request: web.Request, order: Order) -> web.Response:
    wrong = gettext(
        "The payment service does not answer; try again in a minute.", language_of(request)
    )
    return await order_page(request, order, 503, wrong=wrong)


@routes.post("/copies/{secret}/pay/{provider}")
async def post_pay(request: web.Request) -> web.StreamResponse:
    """Go to the page of a provider.

    Not by a redirect, which the content security policy of the form's page forbids.
    """
    refuse_foreign(request)
    order = await order_of(request)
    provider = request.app[ORDERS].providers.get(request.match_info["provider"])
    if not isinstance(provider, Online):
        raise web.HTTPNotFound(text=gettext("There is no such way to pay.", language_of(request)))
    title = title_of(order, order.language)
    home = f"{base_url(request)}/copies/back"
    try:
        url = await ask_providers(
            request, lambda service: service.payment_page(order, provider, title, home)
        )
    except Refused:  # paid a moment ago, or ended
        raise web.HTTPSeeOther(_here(request)) from None
    except AmountRefused:
        lang = language_of(request)
        wrong = gettext("This amount cannot be paid by card: ask the operator how to pay it.", lang)
        return await order_page(request, order, 409, wrong=wrong)
    except ProviderUnavailable:
        return await _unavailable(request, order)
    return page(request, "paying.html", url=url, secret=request.match_info["secret"])


@routes.get("/copies/{secret}/invoice.pdf")
async def invoice(request: web.Request) -> web.StreamResponse:
    """Give the invoice of an order: to pay by, and once it is paid, to show that it is."""
    order = await order_of(request)
    provider = invoice_provider(request, order)
    if provider is None:
        text = gettext("There is no invoice for this order.", language_of(request))
        raise web.HTTPNotFound(text=text)
    return await _pdf(request, order, "invoice", provider.document)


@routes.get("/copies/{secret}/receipt.pdf")
async def receipt(request: web.Request) -> web.StreamResponse:
    """Give the receipt of an order: what came, and what went back."""
    order = await order_of(request)
    provider = receipt_provider(request, order)
    if provider is None:
        text = gettext("Nothing was paid for this order.", language_of(request))
        raise web.HTTPNotFound(text=text)
    return await _pdf(request, order, "receipt", provider.receipt)


async def _pdf(
    request: web.Request, order: Order, kind: str, make: Callable[[Order, str], bytes]
) -> web.Response:
    """Return a document, made once for each state of an order: it takes some 100 ms."""
    made = request.app[ORDERS].pdfs
    state = hashlib.sha256(f"{kind} {order!r}".encode()).digest()

    def document() -> bytes:  # one at a time: somebody may have asked a moment before
        return made.get(state) or make(order, title_of(order, order.language))

    if state not in made:
        made[state] = await request.app[SCHEDULER].in_thread(request, document)
        while len(made) > MOST_PDFS:
            made.popitem(last=False)
    made.move_to_end(state)
    name = f"kuager-{order.number}-{kind}.pdf"
    headers = {"Content-Disposition": f'inline; filename="{name}"'}
    return web.Response(body=made[state], content_type="application/pdf", headers=headers)


def _here(request: web.Request) -> str:
    return link(request, f"/copies/{request.match_info['secret']}")
