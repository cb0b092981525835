"""A country of 10,000 polling stations, made up: names in three languages, four angles each."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

REGIONS = [
    "Абай",
    "Ақмола",
    "Ақтөбе",
    "Алматы",
    "Атырау",
    "Жамбыл",
    "Жетісу",
    "Қарағанды",
    "Қостанай",
    "Қызылорда",
    "Маңғыстау",
    "Павлодар",
    "Түркістан",
    "Ұлытау",
    "Шығыс",
    "Батыс",
    "Солтүстік",
]
CITIES = ("Астана", "Шымкент", "Алматы қаласы")
HEADS = [
    "Ақ",
    "Қара",
    "Қызыл",
    "Сары",
    "Көк",
    "Жаңа",
    "Үш",
    "Бес",
    "Ұзын",
    "Тас",
    "Құм",
    "Ой",
    "Бас",
    "Орта",
    "Кіші",
    "Үлкен",
    "Жалпақ",
    "Шұбар",
    "Тар",
    "Мың",
    "Алтын",
    "Күміс",
    "Темір",
    "Ала",
    "Боз",
]
TAILS = [
    "бұлақ",
    "су",
    "төбе",
    "тау",
    "көл",
    "қайың",
    "өзек",
    "арал",
    "тоғай",
    "сай",
    "құдық",
    "жар",
    "бастау",
    "қала",
    "мола",
    "ағаш",
    "терек",
    "қамыс",
    "шоқы",
    "дала",
    "жол",
    "ауыл",
    "өткел",
    "қорған",
    "шілік",
    "жүз",
]
SYLLABLES = [
    "ай",
    "ал",
    "ан",
    "ар",
    "ба",
    "бай",
    "бек",
    "бе",
    "гү",
    "да",
    "дәу",
    "ду",
    "дү",
    "ер",
    "жа",
    "жан",
    "жұ",
    "зей",
    "иб",
    "қа",
    "қай",
    "қан",
    "қо",
    "ку",
    "ла",
    "ле",
    "ма",
    "мә",
    "мұ",
    "на",
    "нұр",
    "өм",
    "ра",
    "рах",
    "са",
    "сә",
    "сей",
    "сұл",
    "та",
    "тай",
    "то",
    "ұл",
    "ша",
    "шә",
    "ыб",
]
STREETS = [
    "Абай",
    "Сәтпаев",
    "Әуезов",
    "Бөгенбай",
    "Қабанбай",
    "Төле",
    "Жібек",
    "Достық",
    "Тәуелсіздік",
    "Бейбітшілік",
    "Мәметова",
    "Молдағұлова",
    "Жамбыл",
    "Шәкәрім",
    "Әйтеке",
    "Наурыз",
    "Желтоқсан",
    "Республика",
    "Мектеп",
    "Орталық",
]
ANGLES = (
    ("ballot-box", "Сайлау жәшігі", "Урна", "Ballot box"),
    ("counting-table", "Санау үстелі", "Стол подсчёта", "Counting table"),
    ("entrance", "Кіреберіс", "Вход", "Entrance"),
    ("hall", "Зал", "Зал", "Hall"),
)
_RUSSIAN = str.maketrans("әғқңөұүһіӘҒҚҢӨҰҮҺІ", "агкноуухиАГКНОУУХИ")
_ENGLISH = dict(zip("абвгдезиклмнопрстуф", "abvgdeziklmnoprstuf", strict=True)) | {
    "ә": "a", "ғ": "gh", "қ": "q", "ң": "n", "ө": "o", "ұ": "u", "ү": "u", "һ": "h", "і": "i",
    "й": "i", "ж": "zh", "х": "kh", "ш": "sh", "ч": "ch", "ы": "y", "э": "e", "ю": "yu", "я": "ya",
}  # fmt: skip


def russian(text: str) -> str:
    """Return a Kazakh name as Russians write it, nearly."""
    return text.translate(_RUSSIAN)


def english(text: str) -> str:
    """Return a Kazakh name in Latin letters."""
    return "".join(_ENGLISH.get(c.lower(), c) for c in text).title()


def stations(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Yield stations as the stations file has them, without cameras."""
    choose = random.Random(seed)
    for n in range(1, count + 1):
        region = (REGIONS + list(CITIES))[n * 20 // (count + 1)]
        district = choose.choice(HEADS) + choose.choice(TAILS)
        village = choose.choice(HEADS) + choose.choice(TAILS)
        if choose.random() < 0.7:
            village = "".join(choose.choices(SYLLABLES, k=choose.choice((2, 3, 3, 4)))).title()
        street, house, school = choose.choice(STREETS), choose.randint(1, 250), n % 190 + 1
        yield {
            "id": f"s{n}",
            "number": str(n),
            "name": {
                "kk": f"№ {school} мектеп",
                "ru": f"Школа № {school}",
                "en": f"School {school}",
            },
            "region": _three(region, "облысы", "область", "region"),
            "district": _three(district, "ауданы", "район", "district"),
            "address": {
                "kk": f"{village} ауылы, {street} көшесі, {house}",
                "ru": f"село {russian(village)}, ул. {russian(street)}, {house}",
                "en": f"{house} {english(street)} Street, {english(village)} village",
            },
        }


def _three(name: str, kk: str, ru: str, en: str) -> dict[str, str]:
    return {"kk": f"{name} {kk}", "ru": f"{russian(name)} {ru}", "en": f"{english(name)} {en}"}


def typed(count: int, seed: int = 2) -> Iterator[str]:
    """Yield what people type into the search, one letter after the other: numbers, villages and
    streets in three spellings, one word in five with a typing error."""
    choose = random.Random(seed)
    country = list(stations(10_000))
    while count > 0:
        station = choose.choice(country)
        lang = choose.choice(("kk", "ru", "en"))
        words = station["address"][lang].replace(",", "").split()
        text = choose.choice(
            [station["number"], words[0 if lang == "en" else 1], " ".join(words[-3:]), words[2]]
        )
        if len(text) > 4 and choose.random() < 0.2:
            at = choose.randrange(1, len(text) - 1)
            text = choose.choice(
                [
                    text[:at] + text[at + 1 :],
                    text[:at] + text[at + 1] + text[at] + text[at + 2 :],
                    text[:at] + choose.choice("аеиоу") + text[at + 1 :],
                ]
            )
        for end in range(1, len(text) + 1):
            yield text[:end]
            count -= 1
