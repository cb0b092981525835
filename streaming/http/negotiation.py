"""Which language a request is answered in: that of `lang`, else what Accept-Language likes best.

And whether the answer may be packed.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiohttp import web

from base.i18n.gettext import DEFAULT_LANGUAGE, LANGUAGES, gettext

MOST_BYTES, MOST_RANGES = 1000, 20  # of what a browser accepts; none sends as much
MOST_PARAMETERS = 50  # of an address; ours have four
_CHOSEN: web.RequestKey[tuple[str, bool]] = web.RequestKey("language", tuple)


def language_of(request: web.Request) -> str:
    """Return the language to answer in: kk, ru or en, whatever is wrong with the request."""
    return _chosen(request)[0]


def checked_language(request: web.Request) -> str:
    """Return the language to answer in; raises 400 for a `lang` that is none of kk, ru and en."""
    lang = language_of(request)
    if request.query.get("lang", lang) not in LANGUAGES:
        text = gettext("'lang' is not a language of this site: write kk, ru or en.", lang)
        raise web.HTTPBadRequest(text=text)
    return lang


def too_many_parameters(request: web.Request) -> bool:
    """Tell whether an address has so many parameters that it is not read."""
    return request.rel_url.raw_query_string.count("&") >= MOST_PARAMETERS


def language_headers(request: web.Request) -> dict[str, str]:
    """Return the headers that say in which language a request was answered; none if in none."""
    chosen = request.get(_CHOSEN)
    return {} if chosen is None else {"Content-Language": chosen[0]}


def language_vary(request: web.Request) -> set[str]:
    """Return the headers of a request on which the language of its answer depends."""
    chosen = request.get(_CHOSEN)
    return {"Accept-Language"} if chosen is not None and chosen[1] else set()


def _chosen(request: web.Request) -> tuple[str, bool]:
    """Return the language, and whether Accept-Language was looked at."""
    if (chosen := request.get(_CHOSEN)) is None:
        asked = None if too_many_parameters(request) else request.query.get("lang")
        if asked in LANGUAGES:
            chosen = asked, False
        else:
            chosen = accepted(",".join(request.headers.getall("Accept-Language", ()))), True
        request[_CHOSEN] = chosen
    return chosen


def accepted(header: str) -> str:
    """Return what an Accept-Language (RFC 9110, 12.5.4) likes best; kk where it says nothing.

    Of a tag only its first part counts: ru-KZ is ru. What cannot be read is left out.
    """
    weights: dict[str, float] = {}
    for tag, weight in _weights(header):
        weights.setdefault(tag.partition("-")[0], weight)
    rest = weights.get("*", 0.0)
    wanted = {lang: weights.get(lang, rest) for lang in LANGUAGES}
    named = [lang for lang in weights if lang in LANGUAGES]  # of equals, the first that is named
    best = max([*named, *LANGUAGES], key=wanted.__getitem__)
    return best if wanted[best] > 0 else DEFAULT_LANGUAGE


def takes_gzip(request: web.Request) -> bool:
    """Tell whether who asks takes gzip (RFC 9110, 12.5.3): not where he refuses it (`q=0`)."""
    header = ",".join(request.headers.getall("Accept-Encoding", ()))
    weights = dict(_weights(header))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weights(header: str) -> Iterator[tuple[str, float]]:
    """Yield what a header names, in small letters, each with its weight."""
    for part in header[:MOST_BYTES].split(",")[:MOST_RANGES]:
        name, *parameters = (p.strip().lower() for p in part.split(";"))
        yield name, _weight(parameters)


def _weight(parameters: list[str]) -> float:
    """Return a quality value (12.4.2): 1 where there is none, 0 for one that cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            known = len(value) <= 5 and value.isascii() and value.replace(".", "", 1).isdigit()
            return min(1.0, float(value)) if known else 0.0
    return 1.0
