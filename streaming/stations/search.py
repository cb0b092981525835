"""Finding stations by number, name, address, district or region, while it is typed.

An index in memory, made once from the configuration and never changed: words in one spelling (see
`transliterate`) and the stations that have them. Each word of a query must be found in a station:
as it is, as the beginning of a word, or with typing errors, one in words of four letters, two in
words of eight. Exact numbers come first, then what was found with fewer errors and in the nearer
field; equals stand as in the stations file, so pages never overlap.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from base.i18n.gettext import LANGUAGES
from config.model import Localized, Station
from streaming.stations.transliterate import transliterate

MOST_CHARACTERS, MOST_WORDS = 100, 8  # of a query; the rest is not looked at
FIELDS = 3  # nearer ones first: number, name and address, region and district
SUGGESTIONS, SUGGESTED_BY = 5, 4  # so many stations, by the first words of a query
# cost of a way to find a word, before that of its field
_EXACT, _BEGINNING, _ERROR = 0, 1 * FIELDS, 2 * FIELDS
_NOWHERE: Sequence[int] = ()
# words that many write and no address needs; left out where others are there
_OPTIONAL = frozenset(
    word
    for text in (
        "no номер нөмір station polling участок избирательный учаске сайлау уик туик пуч",
        "улица ул көше көшесі street st str проспект пр даңғылы даңғыл avenue ave д",
        "город г қала қаласы city село с ауыл ауылы village район р ауданы аудан district",
        "область обл облыс облысы region",
    )
    for word in transliterate(text)
)


class Search:
    """The index of a list of stations; stations are their places in the list."""

    def __init__(self, stations: Sequence[Station]):
        self._all = range(len(stations))
        self._numbers: dict[str, list[int]] = {}
        found: dict[str, list[Sequence[int]]] = {}
        for place, station in enumerate(stations):
            self._numbers.setdefault(_number(station.number), []).append(place)
            for field, word in _words(station):
                fields = found.setdefault(word, [_NOWHERE] * FIELDS)
                if fields[field] is _NOWHERE:
                    fields[field] = array("I")
                if not fields[field] or fields[field][-1] != place:
                    fields[field].append(place)  # type: ignore[attr-defined]
        self._words = sorted(found)
        self._places = {word: tuple(found[word]) for word in self._words}
        spelled = sorted((w for w in self._words if not w[0].isdigit()), key=len)
        self._spelled = [(_letters(word), word) for word in spelled]
        self._first = [bisect_left(spelled, n, key=len) for n in range(MOST_CHARACTERS + 1)]
        self._errors = lru_cache(1024)(self._like)

    def find(self, query: str) -> Sequence[int]:
        """Return the places of the stations that a query finds, the best first.

        May be called from any thread.
        """
        query = query[:MOST_CHARACTERS]
        words, ways = _query(query), []
        exact = self._numbers.get(_number(query), [])
        for word in words:
            # "Abai str" finds Abai while "street" is being typed
            if (way := self._ways(word)) or not _needless(word):
                ways.append(way)
            if not way and not _needless(word) and word != words[-1]:
                return array("I", exact)  # whatever the others find, this one is nowhere
        common = _in_all(ways)
        if not common and len(ways) > 1 and _needless(words[-1]):
            common = _in_all(ways := ways[:-1])
        if not ways:
            return self._all
        ranks = {place: place for place in common.difference(exact)}
        for way in ways:
            left = set(ranks)
            for cost, places in enumerate(way):
                now = left & places
                left -= now
                for place in now if cost else ():
                    ranks[place] += cost * len(self._all)
        return array("I", [*exact, *(rank % len(self._all) for rank in sorted(ranks.values()))])

    def suggest(self, query: str) -> list[int]:
        """Return a few places that have some words of a query that finds none."""
        had: dict[int, int] = {}
        for word in _query(query[:MOST_CHARACTERS])[:SUGGESTED_BY]:
            for cost, places in enumerate(self._ways(word, more=1)):
                for place in sorted(places)[: 50 * SUGGESTIONS]:
                    had[place] = had.get(place, 0) - 100 + cost
        return sorted(had, key=lambda place: (had[place], place))[:SUGGESTIONS]

    def _ways(self, word: str, more: int = 0) -> list[set[int]]:
        """Return the stations that have a word, by what it costs to find it there.

        Errors are looked for only where there is no word that begins so.
        """
        ways: list[set[int]] = []
        self._add(ways, _EXACT, word)
        at = bisect_left(self._words, word)
        while at < len(self._words) and self._words[at].startswith(word):
            self._add(ways, _BEGINNING, self._words[at])
            at += 1
        if not ways:
            for errors, other in self._errors(word, more):
                self._add(ways, _ERROR + (errors - 1) * FIELDS, other)
        return ways

    def _add(self, ways: list[set[int]], cost: int, word: str) -> None:
        for field, places in enumerate(self._places.get(word, ())):
            if places:
                while len(ways) <= cost + field:
                    ways.append(set())
                ways[cost + field].update(places)

    def _like(self, word: str, more: int) -> list[tuple[int, str]]:
        """Return words whose beginning is typing errors away, with the number of these."""
        most = more + (len(word) >= 4) + (len(word) >= 8)
        if not most or word[0].isdigit():
            return []
        letters = _letters(word)
        begin = self._first[max(0, len(word) - most)]
        near = [w for bits, w in self._spelled[begin:] if (letters & ~bits).bit_count() <= most]
        pieces, shifts = _pieces(word, most), range(-most, most + 1)
        parts = [(piece, max(0, at + n)) for at, piece in pieces for n in shifts]
        near = [w for w in near if any(w.startswith(piece, at) for piece, at in parts)]
        count = errors_in(word)
        return [(errors, w) for w in near if (errors := count(w)) <= most]


def _in_all(ways: list[list[set[int]]]) -> set[int]:
    """Return the stations that have each word in some way."""
    sets = [set().union(*way) for way in ways]
    return set.intersection(*sets) if sets else set()


def _pieces(word: str, most: int) -> list[tuple[int, str]]:
    """Return parts of a word with their places, of which `most` errors spoil all but one.

    A letter is left out between two, so that letters that changed places spoil one only.
    """
    size = max(1, (len(word) - most) // (most + 1))
    return [(at, word[at : at + size]) for at in range(0, len(word), size + 1)][: most + 1]


def errors_in(typed: str) -> Callable[[str], int]:
    """Return a function that counts the typing errors between `typed` and a word's beginning.

    An error is a letter too many, too few, another one, or two that changed places; the
    beginning with the fewest counts. After Hyyrö (2003), "A bit-vector algorithm for computing
    Levenshtein and Damerau edit distances": one column of the table in one number, a bit a letter.
    """
    whole, last = (1 << len(typed)) - 1, 1 << (len(typed) - 1)
    places: dict[str, int] = {}
    for n, letter in enumerate(typed):
        places[letter] = places.get(letter, 0) | 1 << n

    def count(word: str) -> int:
        higher, lower, same, before = whole, 0, 0, 0  # than the letter above; as diagonally above
        errors = fewest = len(typed)
        for letter in word[: 2 * len(typed)]:
            here = places.get(letter, 0)
            swapped = ((~same & here) << 1) & before
            same = (((here & higher) + higher) ^ higher) | here | lower | swapped
            up, down = lower | ~(same | higher), same & higher
            errors += bool(up & last) - bool(down & last)
            up = up << 1 | 1
            higher, lower, before = (down << 1 | ~(same | up)) & whole, up & same & whole, here
            fewest = min(fewest, errors)
        return fewest

    return count


def _needless(word: str) -> bool:
    """Tell whether a word begins one that no address needs, or nearly."""
    count = errors_in(word)
    return any(count(other) <= (len(word) >= 4) for other in _OPTIONAL)


def _letters(word: str) -> int:
    """Return a bit for each letter that a word has."""
    bits = 0
    for letter in word:
        bits |= 1 << (ord(letter) & 63)
    return bits


def _query(query: str) -> list[str]:
    # one character may be several letters: ㏒ is log
    folded = (word[:MOST_CHARACTERS] for word in transliterate(query[:MOST_CHARACTERS]))
    words = list(dict.fromkeys(folded))[:MOST_WORDS]
    return [w for w in words if w not in _OPTIONAL] or words


def _number(text: str) -> str:
    return " ".join(text.casefold().split()).removeprefix("№").strip()


def _words(station: Station) -> Iterator[tuple[int, str]]:
    """Yield the words of a station with their field."""
    for text in (station.number, station.id):
        yield from ((0, word) for word in transliterate(text))
    for field, texts in (
        (1, (station.name, station.address)),
        (2, (station.region, station.district)),
    ):
        for localized in texts:
            words = {word for text in _texts(localized) for word in transliterate(text)}
            yield from ((field, word) for word in sorted(words - _OPTIONAL))


def _texts(localized: Localized) -> set[str]:
    return {text for lang in LANGUAGES if (text := getattr(localized, lang))}
