"""Finding stations: three languages, two alphabets, typing errors; never a crash, always stable."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from base.i18n.gettext import LANGUAGES
from benchmarks.country import english, russian, stations
from config.model import Station
from streaming.stations.search import _OPTIONAL, Search, errors_in
from streaming.stations.transliterate import slug, transliterate

COUNTRY = [Station.model_validate(s | {"time_zone": "UTC"}) for s in stations(400)]
SEARCH = Search(COUNTRY)
KAZAKH = "аәбвгғдежзийкқлмнңоөпрстуұүфхһшыі"


def found(query: str, search: Search = SEARCH) -> list[str]:
    return [COUNTRY[place].id for place in search.find(query)]


def one(**texts: object) -> Search:
    return Search([Station.model_validate({"id": "s", "time_zone": "UTC", **texts})])


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("Түркістан", ["Туркістан", "туркестан", "Turkistan", "Türkıstan", "TURKESTAN", "түрк"]),
        ("Қызылорда", ["Кызылорда", "Kyzylorda", "Qyzylorda", "кизилорда"]),
        ("Жетісу", ["Жетысу", "Jetisu", "Zhetisu", "Жетису"]),
        ("Ұлытау", ["Улытау", "Ulytau", "Ūlytau"]),
        ("Шымкент", ["Shymkent", "Şymkent", "Шимкент", "шымкнт", "шыкмент"]),
        ("Әуезов", ["Ауэзов", "Auezov", "ауезов"]),
        ("Өскемен", ["Оскемен", "Öskemen", "Oskemen"]),
        ("Щучинск", ["Shchuchinsk", "щучинск", "Щучинс"]),
        ("Медеуский район", ["Медеуский", "Medeuskiy", "medeusky", "Медеускйи"]),
        ("Абай даңғылы, 5", ["абай 5", "Abai 5", "Abay, 5", "улица Абая 5", "пр. Абай"]),
    ],
)
def test_spellings_of_one_name(name: str, queries: list[str]) -> None:
    search = one(address=name)
    for query in queries:
        assert len(search.find(query)) == 1, query


def test_what_is_another_name_is_not_found() -> None:
    search = one(address="Түркістан", number="117")
    for query in ("Павлодар", "туркменбаши", "118", "Түркістан 118", "р5", "ъ7"):
        assert len(search.find(query)) == 0, query


def test_an_exact_number_is_first() -> None:
    assert found("17")[0] == "s17"
    assert found(" №17 ")[0] == "s17"
    assert found("017")[0] == "s17"
    assert {"s17", "s170", "s179"} <= set(found("17"))
    assert found("участок 17")[0] == "s17" and found("station no 17")[0] == "s17"


def test_while_typing_nothing_is_lost_on_the_way() -> None:
    station = COUNTRY[77]
    for lang in LANGUAGES:
        address = station.address.in_(lang)
        first = address.index(" ", 6 if lang == "ru" else 0)  # "се" begins more than село
        for end in range(first, len(address) + 1):
            assert station.id in found(address[:end]), address[:end]


def test_where_nothing_is_found_near_ones_are_suggested() -> None:
    station = COUNTRY[5]
    village = station.address.kk.split()[0]  # type: ignore[union-attr]
    query = f"{village} Тараз"
    assert found(query) == []
    assert station.id in [COUNTRY[place].id for place in SEARCH.suggest(query)]
    assert SEARCH.suggest("") == [] and SEARCH.suggest("ъъ 777777") == []


def test_an_empty_query_finds_all_in_their_order() -> None:
    for query in ("", "  ", "!?", "\0"):
        assert list(SEARCH.find(query)) == list(range(len(COUNTRY)))


@given(st.text(max_size=300) | st.text("㏒㏕㎪ﷺ㋏⒇ŉß ", max_size=120))
def test_any_query_finds_stations_once_and_the_same_again(query: str) -> None:
    places = list(SEARCH.find(query))
    assert len(set(places)) == len(places) and all(0 <= p < len(COUNTRY) for p in places)
    assert list(SEARCH.find(query[:100])) == places
    assert len(SEARCH.suggest(query)) <= 5


@given(st.sampled_from([w for w in SEARCH._words if len(w) > 4 and w.isalpha()]), st.data())
def test_a_word_with_an_error_is_found(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(word) - 2))
    left_out, swapped = word[:at] + word[at + 1 :], word[:at] + word[at + 1] + word[at]
    wrong = data.draw(st.sampled_from([left_out, swapped + word[at + 2 :]]))
    assume(transliterate(wrong) == (wrong,) and wrong not in _OPTIONAL)
    ways = set().union(*SEARCH._ways(wrong))
    begins = {w for w in SEARCH._words if w.startswith(wrong)}  # then another word was meant
    assert begins or ways >= set().union(*SEARCH._ways(word))


def errors_by_table(typed: str, word: str) -> int:
    """Optimal string alignment to the nearest beginning, by the textbook."""
    rows = [list(range(len(word) + 1))]
    for n, a in enumerate(typed, 1):
        row = [n]
        for k, b in enumerate(word, 1):
            cost = min(rows[-1][k] + 1, row[-1] + 1, rows[-1][k - 1] + (a != b))
            if n > 1 and k > 1 and a == word[k - 2] and typed[n - 2] == b:
                cost = min(cost, rows[-2][k - 2] + 1)
            row.append(cost)
        rows.append(row)
    return min(rows[-1])


@given(st.text("abc", min_size=1, max_size=9), st.text("abc", max_size=12))
def test_errors_are_counted_as_by_the_textbook(typed: str, word: str) -> None:
    assert errors_in(typed)(word) == errors_by_table(typed, word)


@given(st.text(KAZAKH, min_size=1, max_size=12))
def test_the_three_spellings_of_a_name_are_near(name: str) -> None:
    kazakh, others = (
        transliterate(name)[0] if transliterate(name) else "",
        (russian(name), english(name)),
    )
    assert transliterate(others[0]) == transliterate(name)
    for word in transliterate(others[1]):
        assert abs(len(word) - len(kazakh)) <= len(name)
    assert all(w.isascii() for w in transliterate(name))


@given(st.text(max_size=50))
def test_folding_is_done_once(text: str) -> None:
    for word in transliterate(text):
        assert word.isascii() and word.isalnum()
        assert word == "0" or not (word.isdigit() and word.startswith("0"))


def test_slugs() -> None:
    assert slug("Almaty city") == "almaty-city" and slug("Алматы қаласы") == "almaty-kalasy"
    assert slug("Щучинский район, № 5") == "shchuchinskiy-rayon-5" and slug("東京") == ""
