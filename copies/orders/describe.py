"""What orders say of themselves wherever they say it."""

from __future__ import annotations

from base.i18n.format import format_stretch
from base.i18n.gettext import gettext, text_in
from storage.catalogue.orders import Order


def title_of(order: Order, lang: str) -> str:
    """Return of what an order is: the station and the stretch in its local time."""
    station = order.quote["station"]
    return gettext(
        "Station %(number)s, %(name)s: %(stretch)s",
        lang,
        number=station["number"],
        name=text_in(station["name"], lang),
        stretch=format_stretch(order.from_ms, order.to_ms, station["time_zone"]),
    )
