"""README.txt of a bundle in Kazakh, Russian and English: what is in it, how to play and check it.

The texts are here and not in the catalogues of the pages, because a file that leaves the house
explains itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from base.i18n.causes import describe_removal
from base.i18n.format import format_range
from copies.footage.find import told_unscheduled
from copies.footage.plan import CopyPlan

DASH = " - "
TEXTS = {
    "en": """\
COPIES OF VIDEO RECORDINGS

Election: {election}
Station:  {station}
Ordered:  {stretch} ({zone})

{files_title}
{files}

{missing_title}
{missing}

HOW TO PLAY
The .mp4 files play in any browser and in VLC, mpv, Windows and Apple players. Each shows one
camera for one stretch that was recorded without a break: the pictures are exactly those that were
recorded, nothing was encoded again or left out. A file begins and ends with whole pieces of about
2 seconds, so it may begin a little before the time that was ordered and end a little after it.
Where a recording was interrupted, one file ends and the next begins.

HOW TO CHECK
SHA256SUMS has the SHA-256 of every file, of this one and of manifest.json, too. If one byte of a
file is changed, its SHA-256 is another.
  Linux:    sha256sum -c SHA256SUMS
  macOS:    shasum -a 256 -c SHA256SUMS
  Windows:  certutil -hashfile NAME.mp4 SHA256   and compare it with the line in SHA256SUMS
manifest.json says the same for programs, and of which recordings and segments each file is made.

Times are local, {zone}. Names of files hold the ids of election, station and camera.
""",
    "ru": """\
КОПИИ ВИДЕОЗАПИСЕЙ

Выборы:   {election}
Участок:  {station}
Заказано: {stretch} ({zone})

{files_title}
{files}

{missing_title}
{missing}

КАК СМОТРЕТЬ
Файлы .mp4 открываются в любом браузере, в VLC, mpv, проигрывателях Windows и Apple. В каждом -
одна камера и один отрезок, записанный без перерыва: изображение в точности то, что было записано,
ничего не перекодировано и не пропущено. Файл состоит из целых фрагментов примерно по 2 секунды,
поэтому он может начаться немного раньше заказанного времени и закончиться немного позже.
Там, где запись прерывалась, один файл заканчивается и начинается следующий.

КАК ПРОВЕРИТЬ
В SHA256SUMS указан SHA-256 каждого файла, в том числе этого и manifest.json. Если изменить в файле
хотя бы один байт, его SHA-256 станет другим.
  Linux:    sha256sum -c SHA256SUMS
  macOS:    shasum -a 256 -c SHA256SUMS
  Windows:  certutil -hashfile ИМЯ.mp4 SHA256   и сравните со строкой в SHA256SUMS
В manifest.json то же самое для программ, а также из каких записей и фрагментов состоит файл.

Время местное, {zone}. В именах файлов - идентификаторы выборов, участка и камеры.
""",
    "kk": """\
БЕЙНЕЖАЗБАЛАРДЫҢ КӨШІРМЕЛЕРІ

Сайлау:          {election}
Сайлау учаскесі: {station}
Тапсырыс:        {stretch} ({zone})

{files_title}
{files}

{missing_title}
{missing}

ҚАЛАЙ КӨРУГЕ БОЛАДЫ
.mp4 файлдары кез келген браузерде, VLC, mpv, Windows және Apple ойнатқыштарында ашылады. Әр файлда
бір камера және үзілмей жазылған бір аралық бар: бейне дәл жазылғандай, ештеңе қайта кодталмаған
және алып тасталмаған. Файл шамамен 2 секундтық тұтас бөліктерден тұрады, сондықтан ол тапсырыс
берілген уақыттан сәл ерте басталып, сәл кеш аяқталуы мүмкін. Жазба үзілген жерде бір файл
аяқталып, келесісі басталады.

ҚАЛАЙ ТЕКСЕРУГЕ БОЛАДЫ
SHA256SUMS ішінде әр файлдың, оның ішінде осы файл мен manifest.json файлының SHA-256 мәні бар.
Файлдың бір байты өзгерсе, оның SHA-256 мәні де өзгереді.
  Linux:    sha256sum -c SHA256SUMS
  macOS:    shasum -a 256 -c SHA256SUMS
  Windows:  certutil -hashfile АТЫ.mp4 SHA256   және SHA256SUMS ішіндегі жолмен салыстырыңыз
manifest.json ішінде бағдарламаларға арналған сол мәлімет, сондай-ақ файл қай жазбалар мен
бөліктерден тұратыны көрсетілген.

Уақыт жергілікті, {zone}. Файл аттарында сайлаудың, учаскенің және камераның идентификаторлары бар.
""",
}
# of the files, of what is missing; nothing is missing; it was removed, is away, was not to be
TITLES = {
    "en": (
        "FILES",
        "WHAT IS MISSING",
        "Nothing.",
        "removed",
        "recorded, and cannot be had now",
        "outside the hours of recording",
    ),
    "ru": (
        "ФАЙЛЫ",
        "КАКИХ ЗАПИСЕЙ НЕТ",
        "Записано всё.",
        "удалено",
        "записано, но сейчас недоступно",
        "вне часов записи",
    ),
    "kk": (
        "ФАЙЛДАР",
        "ҚАНДАЙ ЖАЗБА ЖОҚ",
        "Барлығы жазылған.",
        "жойылған",
        "жазылған, бірақ қазір қолжетімсіз",
        "жазу уақытынан тыс",
    ),
}


def readme(about: Mapping[str, Any], plans: Sequence[CopyPlan], language: str, zone: str) -> bytes:
    """Return the text for what a manifest is `about` (copies/files/zip.py), with lines of Windows.

    A gap's "words", where it has them, say its cause in the language.
    """
    files_title, missing_title, nothing, removed, away, unscheduled = TITLES[language]
    titles = {camera["camera"]: camera["title"] for camera in about["cameras"]}
    missing = [
        (g["start_ms"], g["end_ms"], camera["title"], g.get("words") or g["cause"])
        for camera in about["cameras"]
        for g in camera["gaps"]
    ]
    missing += [
        (
            *(r["start_ms"], r["end_ms"], camera["title"]),
            f"{away if r['removed_ms'] is None else removed}:"
            f" {describe_removal(r['reason'], language)}",
        )
        for camera in about["cameras"]
        for r in camera["removed"]
    ]
    missing += [
        (start_ms, end_ms, camera["title"], unscheduled)
        for camera in about["cameras"]
        for start_ms, end_ms in told_unscheduled(camera["unscheduled"])
    ]
    stretch = partial(format_range, zone=zone, dash=DASH)
    names = (f"№ {about['station_number']}", about["station_name"], about["station_address"])
    text = TEXTS[language].format(
        election=about["election_name"],
        station=", ".join(filter(None, names)),
        stretch=stretch(about["from_ms"], about["to_ms"]),
        files_title=files_title,
        files="\n".join(
            f"{p.file_name}\n    {titles[p.camera]}, {stretch(p.start_ms, p.end_ms)}" for p in plans
        ),
        missing_title=missing_title,
        missing="\n".join(
            f"{title}, {stretch(start_ms, end_ms)}: {why}"
            for start_ms, end_ms, title, why in sorted(missing)
        )
        or nothing,
        zone=zone,
    )
    return text.replace("\n", "\r\n").encode("utf-8-sig")
