"""Lists of stations: what each says of itself, with a picture of now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from config.model import Station
from streaming.stations.directory import Directory
from streaming.stations.messages import cameras_live, format_distance, no_picture_from
from streaming.stations.serialize import picture_url


def station_cards(
    stations: Iterable[Station],
    directory: Directory,
    lang: str,
    metres: Mapping[str, int] | None = None,
) -> list[dict[str, object]]:
    """Return what the list says of stations; where it is known, how far they are."""
    cards = list[dict[str, object]]()
    for station in stations:
        live = [c for c in station.cameras if directory.is_live(station, c)]
        silent = [c.title.in_(lang) for c in station.cameras if c not in live] if live else []
        shown = (live or station.cameras)[:1]
        said = "" if live else f"?lang={lang}"  # a slate has a language, a picture has none
        far = (metres or {}).get(station.id)
        where = (station.address, station.district, station.region)
        cards.append(
            {
                "id": station.id,
                "number": station.number,
                "name": station.name.in_(lang),
                "where": ", ".join(filter(None, (text.in_(lang) for text in where))),
                "picture": f"{picture_url(station, shown[0])}{said}" if shown else None,
                "whole": len(live) == len(station.cameras),
                "words": cameras_live(len(live), len(station.cameras), lang),
                "silent": no_picture_from(silent, lang),
                "far": "" if far is None else format_distance(far, lang),
            }
        )
    return cards
