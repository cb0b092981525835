"""Bytes of a file -> text. Everything is UTF-8; for what is not, the text says what it is."""

from __future__ import annotations

import codecs
import re
import stat
from pathlib import Path

from config.problems import Problem

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_CYRILLIC = {"cp1251": "windows-1251", "cp866": "IBM 866 (DOS)", "koi8-r": "KOI8-R"}
_SAVE = (
    "save it as UTF-8: in Excel 'Save As', type 'CSV UTF-8 (Comma delimited)'; in LibreOffice "
    "'Save As', 'Edit filter settings', character set 'Unicode (UTF-8)'; in an editor 'Save with "
    "encoding'"
)


def read_regular(path: Path) -> bytes:
    """Return what a regular file holds; raises OSError with a plain text for anything else."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe or a device may never end
            raise OSError("it is not a regular file")
        return path.read_bytes()
    except ValueError:  # a name with a NUL, or one that cannot be encoded
        raise OSError("no file can have such a name") from None


def read_text(path: Path, problems: list[Problem]) -> str | None:
    """Return the text of a file without its byte order mark; None, and a problem, if it has none.

    Raises OSError where the file cannot be read.
    """
    data = read_regular(path)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # after a mark that was skipped, `start` counts from behind it
        line = data[: error.start].count(b"\n") + 1
        what = f"is not UTF-8: it looks like {_looks_like(data)}"
        problems.append(Problem(path, line, "", what, _SAVE))
        return None
    if found := _CONTROL.search(text):
        line = text.count("\n", 0, found.start()) + 1
        if "\x00" in text and text.count("\x00") > len(text) // 4:
            problems.append(Problem(path, 1, "", "is not UTF-8: it looks like UTF-16", _SAVE))
        else:
            what = f"has a control character (U+{ord(found[0]):04X})"
            problems.append(Problem(path, line, "", what, "remove it; is this a text file?"))
        return None
    return text


def reason(error: OSError) -> str:
    """Return why a file cannot be used, in words and without its name."""
    return (error.strerror or str(error)).lower()


def has_control(text: str) -> bool:
    """Tell whether text has characters that no setting may have (tab and newline are no such)."""
    return _CONTROL.search(text) is not None or (not text.isascii() and not _encodable(text))


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _looks_like(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16 (in Excel: 'Unicode Text')"
    small = {
        name: len(re.findall("[а-яё]", data.decode(codec, "replace")))
        for codec, name in _CYRILLIC.items()
    }
    best = max(small, key=lambda name: small[name])
    return best if small[best] else "another encoding, or no text at all"
