"""Which language a request is answered in, and the sentences of each.

Sentences stand in the code in English; `locales/*.po` have them in Kazakh and Russian, and are
read as they are when the process starts. `make messages` brings the catalogues up to date with
the code; `%(name)s` in a sentence is a value.
"""

from __future__ import annotations

import gettext
import io
from functools import cache
from pathlib import Path

from aiohttp import web
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

from config.model import LANGUAGES

LOCALES = Path(__file__).parent.parent / "locales"
DEFAULT = "kk"  # the language of the state, for who does not say
MOST_BYTES, MOST_RANGES = 1000, 20  # of Accept-Language; no browser sends as much
MOST_PARAMETERS = 50  # of an address; ours have four
_CHOSEN: web.RequestKey[tuple[str, bool]] = web.RequestKey("language", tuple)


def mark(sentence: str) -> str:
    """Return the sentence; by this name it is found for the catalogues, to be translated later."""
    return sentence


@cache
def sentences(lang: str) -> gettext.NullTranslations:
    """Return the sentences of a language; English ones are what stands in the code."""
    path = LOCALES / f"{lang}.po"
    if lang == "en":
        return gettext.NullTranslations()
    with path.open("rb") as file:
        messages = read_po(file, locale=lang)
    compiled = io.BytesIO()
    write_mo(compiled, messages)
    compiled.seek(0)
    return gettext.GNUTranslations(compiled)


def translate(lang: str, sentence: str, **values: object) -> str:
    """Return a sentence in a language, with its values filled in."""
    text = sentences(lang).gettext(sentence)
    return text % values if values else text


def plural(lang: str, one: str, many: str, count: int, **values: object) -> str:
    """Return a sentence that counts, with `count` and its other values filled in."""
    return sentences(lang).ngettext(one, many, count) % {"count": count, **values}


def language(request: web.Request) -> str:
    """Return kk, ru or en: what `lang` says, else what Accept-Language likes best, else kk.

    Raises 400 for a `lang` that is none of them.
    """
    if request.query.get("lang", DEFAULT) not in LANGUAGES:
        text = say(request, "'lang' is not a language of this site: write kk, ru or en.")
        raise web.HTTPBadRequest(text=text)
    return best_language(request)


def best_language(request: web.Request) -> str:
    """Return the language to answer in, whatever is wrong with the request."""
    return _chosen(request)[0]


def say(request: web.Request, sentence: str, **values: object) -> str:
    """Return a sentence in the language of who asks, whatever is wrong with the request."""
    return translate(best_language(request), sentence, **values)


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
    for part in header[:MOST_BYTES].split(",")[:MOST_RANGES]:
        tag, *parameters = (p.strip().lower() for p in part.split(";"))
        weights.setdefault(tag.partition("-")[0], _weight(parameters))
    rest = weights.get("*", 0.0)
    wanted = {lang: weights.get(lang, rest) for lang in LANGUAGES}
    named = [lang for lang in weights if lang in LANGUAGES]  # of equals, the first that is named
    best = max([*named, *LANGUAGES], key=wanted.__getitem__)
    return best if wanted[best] > 0 else DEFAULT


def _weight(parameters: list[str]) -> float:
    """Return a quality value (12.4.2): 1 where there is none, 0 for one that cannot be read."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            value = value.strip()
            known = len(value) <= 5 and value.isascii() and value.replace(".", "", 1).isdigit()
            return min(1.0, float(value)) if known else 0.0
    return 1.0
