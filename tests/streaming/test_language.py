"""Which language is chosen, and that the catalogues have every sentence."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from babel.messages.extract import extract_from_dir
from babel.messages.frontend import parse_mapping_cfg
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from base.clock import parse_time
from base.i18n.causes import CAUSES, IN_NO_ARCHIVE, describe_removal
from base.i18n.format import (
    format_bytes,
    format_duration,
    format_money,
    format_money_with_code,
    format_offset,
    format_percent,
    format_range,
    format_stretch,
    format_time_of_day,
)
from base.i18n.gettext import LANGUAGES, LOCALES, gettext, ngettext
from storage.catalogue.rows import ArchivedRow
from storage.records import GapCause
from streaming.api.timeline import _removal
from streaming.http.negotiation import accepted
from streaming.pages.render import _in_language
from tests.support.repository import ROOT


@pytest.mark.parametrize(
    ("header", "lang"),
    [
        ("", "kk"),
        ("ru-KZ;q=0.8, kk;q=0.9", "kk"),
        ("ru, kk", "ru"),
        ("RU-ru", "ru"),
        ("en-US,en;q=0.5", "en"),
        ("de, *;q=0.1", "kk"),
        ("kk;q=0, *", "ru"),
        ("kk;q=0.2, *;q=0.7", "ru"),
        ("en;q=0, ru;q=0.001", "ru"),
        ("de", "kk"),
        ("ru;q=much, en;q=0.1", "en"),
        ("kk;q=0,ru;q=0,en;q=0", "kk"),
        ("," * 5000 + "ru", "kk"),
    ],
)
def test_what_accept_language_likes_best(header: str, lang: str) -> None:
    assert accepted(header) == lang


@given(st.text() | st.from_regex(r"([a-z*-]{0,8}(;q=[0-9.]{0,6})?,){0,30}"))
def test_no_header_does_harm(header: str) -> None:
    assert accepted(header) in LANGUAGES


def sentences() -> set[str | tuple[str, ...]]:
    """Every sentence in code and templates."""
    with (LOCALES / "babel.cfg").open() as file:
        methods, options = parse_mapping_cfg(file)  # type: ignore[no-untyped-call]
    return {
        message
        for package in ("base", "copies", "streaming")
        for _, _, message, _, _ in extract_from_dir(
            ROOT / package, methods, options, directory_filter=_ours
        )
    }


def _ours(folder: str) -> bool:
    return Path(folder).name not in ("node_modules", "static", "__pycache__")


@pytest.mark.parametrize("lang", ["kk", "ru"])
def test_every_sentence_is_in_the_catalogues(lang: str) -> None:
    with (LOCALES / f"{lang}.po").open("rb") as file:
        catalogue = read_po(file, locale=lang)
    wanted = sentences()
    known = {m.id for m in catalogue if m.id}
    assert known == wanted, f"run make messages, then translate: {known ^ wanted}"
    for message in catalogue:
        texts = [message.string] if isinstance(message.string, str) else message.string or ()
        ids = [message.id] if isinstance(message.id, str) else message.id
        for text in texts if message.id else ():
            assert text and not message.fuzzy, f"not translated: {message.id}"
            assert _values(text) == set().union(*map(_values, ids)), message.id


def _values(text: str) -> set[str]:
    return set(re.findall(r"%\(\w+\)[sd]|\{\w+\}", text))  # {name}: filled in by a script


def test_catalogues_are_for_languages() -> None:
    assert {p.stem for p in Path(LOCALES).glob("*.po")} == set(LANGUAGES) - {"en"}


def test_numbers_choose_their_sentence() -> None:
    assert gettext("the camera does not answer", "ru") == "камера не отвечает"
    assert ngettext("%(count)s station", "%(count)s stations", 2, "en") == "2 stations"


def test_every_cause_of_a_gap_is_said() -> None:
    assert CAUSES.keys() == set(GapCause)


@pytest.mark.parametrize(
    ("ms", "zone", "text"),
    [
        (1_796_000_000_000, "Asia/Almaty", "UTC+5"),
        (1_796_000_000_000, "Asia/Kathmandu", "UTC+5:45"),
        (1_796_000_000_000, "America/St_Johns", "UTC-3:30"),
        (1_796_000_000_000, "UTC", "UTC"),
    ],
)
def test_offsets(ms: int, zone: str, text: str) -> None:
    assert format_offset(ms, zone) == text


@pytest.mark.parametrize(
    ("begin", "end", "in_range", "in_stretch"),
    [
        ("25T08:00", "25T09:00", "10:00:00–11:00:00", "10:00:00–11:00:00 UTC+2"),
        ("24T22:30", "25T01:30", *["01:30:00 UTC+3–03:30:00 UTC+2"] * 2),
        ("25T00:50", "25T01:10", *["03:50:00 UTC+3–03:10:00 UTC+2"] * 2),
        ("25T00:10", "25T00:20", *["03:10:00–03:20:00 UTC+3"] * 2),
        ("25T01:10", "25T01:20", *["03:10:00–03:20:00 UTC+2"] * 2),
    ],
)
def test_a_stretch_in_which_clocks_are_set_is_no_other_one(
    begin: str, end: str, in_range: str, in_stretch: str
) -> None:
    """On the 25th of October 2026 the clocks of Sofia are set back from 4:00 to 3:00."""
    from_ms, to_ms = (parse_time(f"2026-10-{text}:00Z") for text in (begin, end))
    zone = "Europe/Sofia"
    assert format_range(from_ms, to_ms, zone) == f"25.10.2026 {in_range}"
    assert format_stretch(from_ms, to_ms, zone) == f"25.10.2026 {in_stretch}"


def test_a_moment_of_another_day_has_its_day() -> None:
    noon = 1_796_022_000_000  # 2026-11-30 07:00 UTC
    assert format_time_of_day(noon, "Asia/Almaty", noon + 3_600_000, "en") == "12:00 UTC+5"
    text = format_time_of_day(noon, "Asia/Almaty", noon + 86_400_000, "en")
    assert text == "30 November 2026, 12:00 UTC+5"


# What a sentence is filled with, by name; it must be right with any of them.
NUMBERS = frozenset(
    {"asked", "count", "exists", "found", "hours", "least", "live", "longest", "minutes"}
    | {"most", "n", "number", "of", "seconds", "shortest", "size"}
)
LENGTHS = frozenset({"lasts"})  # "30 days", in the nominative
MOMENTS = frozenset({"at", "from", "since", "time", "to", "when"})
TEXTS = frozenset(
    {"ago", "amount", "bin", "camera", "cameras", "cause", "length", "name", "price", "rate"}
    | {"reason", "received", "reference", "station", "stations", "stretch", "title", "titles"}
    | {"what", "why", "zone"}
)
# what never changes behind a number
UNITS = frozenset(
    {"s", "h", "min", "m", "km", "kB", "MB", "GB", "с", "ч", "мин", "м", "км", "КБ", "МБ", "ГБ"}
    | {"of", "to", "из", "at", "по"}
)
NAMED = re.compile(r"%\((\w+)\)s|\{(\w+)\}")


@cache
def messages(lang: str) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Return the sentences in English, with their forms, and the same in a language."""
    with (LOCALES / f"{'kk' if lang == 'en' else lang}.po").open("rb") as file:
        found = [message for message in read_po(file, locale=lang) if message.id]
    ids = [(m.id,) if isinstance(m.id, str) else tuple(m.id) for m in found]
    if lang == "en":
        return [(one, one) for one in ids]
    texts = [(m.string,) if isinstance(m.string, str) else tuple(m.string or ()) for m in found]
    return list(zip(ids, texts, strict=True))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_a_number_stands_before_a_word_only_where_the_word_agrees_with_it(lang: str) -> None:
    every = ((ids, text) for ids, texts in messages(lang) for text in texts)
    for ids, text in every:
        for name in NAMED.finditer(text):
            value, counts = name[1] or name[2], len(ids) > 1
            assert value in NUMBERS | LENGTHS | MOMENTS | TEXTS, f"what is {value}? {ids}"
            word = re.match(r"\s+([^\W\d_]+)", text[name.end() :])
            # a noun of Kazakh stays as it is behind a number
            if value in NUMBERS and word and not counts and lang != "kk" and value != "number":
                assert word[1] in UNITS, f"{word[1]} behind a number, without ngettext: {text}"


def test_what_counts_has_a_form_for_each_number() -> None:
    for lang, forms in (("ru", 3), ("kk", 2)):  # a noun of Kazakh is the same behind every number
        for ids, texts in messages(lang):
            assert len(ids) == 1 or len(texts) == forms, ids
    for ids, texts in messages("ru"):
        if len(ids) == 1:
            continue
        assert texts[0] != texts[2], f"1 and 5 are counted alike: {ids}"
        names = {name[1] or name[2] for name in NAMED.finditer(ids[0])} - {"count"}
        said = {
            n: ngettext(ids[0], ids[1], n, "ru", **dict.fromkeys(names, str(n)))
            for n in (1, 2, 5, 11, 21, 22)
        }
        assert said[21].replace("21", "1") == said[1]
        assert said[11].replace("11", "5") == said[5]
        assert said[22].replace("22", "2") == said[2]


@pytest.mark.parametrize("lang", ["ru", "kk"])
def test_nothing_is_declined_by_gluing(lang: str) -> None:
    for text in (text for _, texts in messages(lang) for text in texts):
        for name in NAMED.finditer(text):
            before, after = text[: name.start()], text[name.end() :]
            if (name[1] or name[2]) in LENGTHS:  # it stands in the nominative
                assert before.endswith((": ", "(")), text
            if lang == "kk":  # whose endings follow the vowels of the word before
                assert not re.match(r"-?[^\W\d_]", after), f"an ending behind a value: {text}"
                case = re.match(r" (дейін|бастап|кейін|бұрын|бері|қарай)\b", after)
                assert not case or name[2] == "ago", f"{case} needs a case: {text}"


def test_no_sentence_is_put_together_of_pieces() -> None:
    for path in sorted((ROOT / "streaming/templates").glob("*.html")):
        for line in path.read_text().splitlines():
            glued = re.search(r'\}\} *\{\{ _\("[^"]', line)
            assert not glued or re.search(r'\}\} *\{\{ _\("[A-Z“]', line), f"{path.name}: {line}"
    for package in ("base", "config", "copies", "streaming"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                pieces: list[ast.expr] = []
                if isinstance(node, ast.JoinedStr):
                    pieces = [v.value for v in node.values if isinstance(v, ast.FormattedValue)]
                elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                    pieces = [node.left, node.right]
                for piece in pieces:
                    called = piece.func if isinstance(piece, ast.Call) else None
                    name = called.id if isinstance(called, ast.Name) else ""
                    where = f"{path.name}:{piece.lineno}"
                    assert name not in ("_", "gettext", "ngettext"), f"a piece: {where}"


@pytest.mark.parametrize(
    ("seconds", "kk", "ru", "en"),
    [
        (86_400, "1 күн", "1 день", "1 day"),
        (30 * 86_400, "30 күн", "30 дней", "30 days"),
        (36 * 3600, "36 сағат", "36 часов", "36 hours"),
        (2 * 3600, "2 сағат", "2 часа", "2 hours"),
        (90 * 60, "90 минут", "90 минут", "90 minutes"),
        (61, "61 секунд", "61 секунда", "61 seconds"),
    ],
)
def test_lengths_of_time(seconds: int, kk: str, ru: str, en: str) -> None:
    assert [format_duration(seconds, lang) for lang in LANGUAGES] == [kk, ru, en]


def test_amounts_sizes_and_shares_are_written_as_in_the_language() -> None:
    def written(text: str) -> str:
        assert " " not in text  # a line that ends there would part a number from its unit
        return text.replace("\N{NO-BREAK SPACE}", " ")

    for lang, money, size, share in (
        ("kk", "1 983,78 ₸", "6,9 МБ", "16 %"),
        ("ru", "1 983,78 ₸", "6,9 МБ", "16 %"),
        ("en", "1,983.78 KZT", "6.9 MB", "16%"),
    ):
        assert written(format_money(198_378, "KZT", lang)) == money
        assert written(format_bytes(6_900_000, lang)) == size
        assert written(format_percent(16_00, lang)) == share
    assert written(format_money(1_250, "USD", "ru")) == "12,50 USD"  # $ is of many countries
    assert written(format_money_with_code(198_378, "KZT", "ru")) == "1 983,78 KZT"
    assert written(format_percent(12_50, "ru")) == "12,5 %"
    assert written(format_bytes(1_250_000_000, "kk")) == "1,25 ГБ"


def test_why_a_recording_was_removed_is_said_in_the_language() -> None:
    assert describe_removal("kept for 365 days", "ru") == "срок хранения: 365 дней"
    assert describe_removal("kept for 1 days", "en") == "kept for 1 day"
    assert describe_removal(IN_NO_ARCHIVE, "en") == IN_NO_ARCHIVE
    assert describe_removal(IN_NO_ARCHIVE, "kk") != IN_NO_ARCHIVE
    assert describe_removal("a court's order", "kk") == "a court's order"


def test_a_recording_that_was_removed_says_so_in_words() -> None:
    gone = ArchivedRow(
        archive="a",
        bucket="",
        archived_ms=1,
        verified="",
        camera_pk=1,
        record_seq=1,
        day=0,
        collision=0,
        removal_begun_ms=None,
        removed_ms=1_796_000_000_000,
        removed_reason="kept for 45 days",
    )
    said = _removal(gone, "Asia/Almaty", "en")
    assert said["words"] == "removed on 30.11.2026 05:53 UTC+5 (kept for 45 days)"
    assert said["removed_reason"] == "kept for 45 days"


@pytest.mark.parametrize(
    ("method", "path", "secret", "address"),
    [
        ("GET", "/copies/abc?lang=kk", "abc", "?lang=ru"),
        ("GET", "//evil.example/x?q=1", None, "?q=1&lang=ru"),
        ("POST", "/copies/abc/email?lang=kk", "abc", "/copies/abc?lang=ru"),
        ("POST", "/copies/%2F%2Fevil/pay/x", "//evil", "/copies/%2F%2Fevil?lang=ru"),
        ("POST", "/about", None, "?lang=ru"),
        ("POST", "/copies/quotes", None, "/copies/new?lang=ru"),
    ],
)
def test_an_answer_to_a_form_has_links_to_other_languages_that_lead_somewhere(
    method: str, path: str, secret: str | None, address: str
) -> None:
    match = {} if secret is None else {"secret": secret}
    assert _in_language(make_mocked_request(method, path, match_info=match), "ru") == address
