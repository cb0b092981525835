"""Amounts of money in words, as they stand on invoices in Kazakhstan beside the digits.

Pure functions. Whole units are in words, the smallest units in digits:
`Пятьсот восемьдесят тенге 00 тиын`.
"""

from __future__ import annotations

from base.currency import decimals

_LARGEST = 10**15

_WORDS = {  # 0 to 9 or 19, then tens, then hundreds where these have words of their own
    "en": (
        "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen"
        " fifteen sixteen seventeen eighteen nineteen",
        "twenty thirty forty fifty sixty seventy eighty ninety",
    ),
    "ru": (
        "ноль один два три четыре пять шесть семь восемь девять десять одиннадцать двенадцать"
        " тринадцать четырнадцать пятнадцать шестнадцать семнадцать восемнадцать девятнадцать",
        "двадцать тридцать сорок пятьдесят шестьдесят семьдесят восемьдесят девяносто",
        "сто двести триста четыреста пятьсот шестьсот семьсот восемьсот девятьсот",
    ),
    "kk": (
        "нөл бір екі үш төрт бес алты жеті сегіз тоғыз",
        "он жиырма отыз қырық елу алпыс жетпіс сексен тоқсан",
    ),
}
WORDS = {lang: [texts.split() for texts in tables] for lang, tables in _WORDS.items()}
GROUPS: dict[str, tuple[str, ...]] = {  # of three digits: thousands, and so on
    "en": ("thousand", "million", "billion", "trillion"),
    "kk": ("мың", "миллион", "миллиард", "триллион"),
}
RUSSIAN_GROUPS = (  # of one, of two to four, of others
    ("тысяча", "тысячи", "тысяч"),
    ("миллион", "миллиона", "миллионов"),
    ("миллиард", "миллиарда", "миллиардов"),
    ("триллион", "триллиона", "триллионов"),
)
_TENGE = {"kk": ("теңге", "тиын"), "ru": ("тенге", "тиын"), "en": ("tenge", "tiyn")}


def amount_in_words(minor: int, currency: str, lang: str) -> str:
    """Return an amount, which is not negative, in words: Five hundred and eighty tenge 00 tiyn.

    Other currencies than tenge are named by their code: Twelve 50/100 USD.
    """
    places = decimals(currency)
    whole, rest = divmod(minor, 10**places)
    words = number_in_words(whole, lang)
    words = words[0].upper() + words[1:]
    if currency == "KZT":
        tenge, tiyn = _TENGE[lang]
        return f"{words} {tenge} {rest:0{places}} {tiyn}"
    return f"{words} {rest:0{places}}/{10**places} {currency}" if places else f"{words} {currency}"


def number_in_words(number: int, lang: str) -> str:
    """Return a whole number of 0 to 999,999,999,999,999 in words of a language."""
    if not 0 <= number < _LARGEST:
        raise ValueError(f"{number} is not from 0 to {_LARGEST - 1}")
    if number == 0:
        return WORDS[lang][0][0]
    say = {"en": _english, "ru": _russian, "kk": _kazakh}[lang]
    groups, left, power = list[str](), number, 0
    while left:
        left, group = divmod(left, 1000)
        if group:
            groups.insert(0, say(group, power, power == 0 and left > 0))
        power += 1
    return " ".join(groups)


def _english(group: int, power: int, last: bool) -> str:
    """`last`: there are higher groups before it, so that "and" joins what is below a hundred."""
    small, tens = WORDS["en"]
    hundreds, rest = divmod(group, 100)
    words = [small[hundreds], "hundred"] if hundreds else []
    if rest and (hundreds or last):
        words.append("and")
    if 0 < rest < 20:
        words.append(small[rest])
    elif rest:
        ten, ones = tens[rest // 10 - 2], rest % 10
        words.append(f"{ten}-{small[ones]}" if ones else ten)
    if power:
        words.append(GROUPS["en"][power - 1])
    return " ".join(words)


def _russian(group: int, power: int, _last: bool) -> str:
    small, tens, hundreds = WORDS["ru"]
    words = [hundreds[group // 100 - 1]] if group >= 100 else []
    rest = group % 100
    if rest >= 20:
        words.append(tens[rest // 10 - 2])
        rest %= 10
    if rest:
        feminine = {1: "одна", 2: "две"} if power == 1 else {}
        words.append(feminine.get(rest, small[rest]))
    if power:
        form = 0 if rest == 1 else 1 if rest in (2, 3, 4) else 2
        words.append(RUSSIAN_GROUPS[power - 1][form])
    return " ".join(words)


def _kazakh(group: int, power: int, _last: bool) -> str:
    small, tens = WORDS["kk"]
    hundreds, rest = divmod(group, 100)
    words = [small[hundreds]] if hundreds > 1 else []
    if hundreds:
        words.append("жүз")
    if rest >= 10:
        words.append(tens[rest // 10 - 1])
    if rest % 10:
        words.append(small[rest % 10])
    if power:
        words.append(GROUPS["kk"][power - 1])
    return " ".join(words)
