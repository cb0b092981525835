"""Why the database does not do what it is asked, as a word that alerts are told apart by."""

from __future__ import annotations

from enum import StrEnum
from typing import Any


class DatabaseFault(StrEnum):
    """The kinds of what a database says, or does not say (docs/operations.md, Metrics)."""

    UNREACHABLE = "unreachable"  # nobody answers there, or the connection is cut
    SLOW = "slow"  # no answer in time, or too many ask
    CREDENTIALS = "credentials"  # the user, the password or a right
    MISSING = "missing"  # no such database, or it has not its tables
    DISK = "disk"  # full, failing, or not to be written
    OTHER = "other"  # the log has what it said


# by the first that fits: codes of PostgreSQL (its manual, appendix A) and names of SQLite's errors
_CODES = (
    ("57014", DatabaseFault.SLOW),
    ("53100", DatabaseFault.DISK),
    ("53", DatabaseFault.SLOW),
    ("28", DatabaseFault.CREDENTIALS),
    ("42501", DatabaseFault.CREDENTIALS),
    ("3D000", DatabaseFault.MISSING),
    ("42P01", DatabaseFault.MISSING),
    ("25006", DatabaseFault.DISK),
    ("58", DatabaseFault.DISK),
    ("57P", DatabaseFault.UNREACHABLE),
    ("08", DatabaseFault.UNREACHABLE),
    ("SQLITE_BUSY", DatabaseFault.SLOW),
    ("SQLITE_CANTOPEN", DatabaseFault.MISSING),
    ("SQLITE_FULL", DatabaseFault.DISK),
    ("SQLITE_IOERR", DatabaseFault.DISK),
    ("SQLITE_READONLY", DatabaseFault.DISK),
)
_NO_TABLE = "no such table"  # SQLite has no code for it


def fault_of(error: BaseException) -> DatabaseFault:
    """Return the kind of an error of SQLAlchemy, of a driver or of the system."""
    if isinstance(known := getattr(error, "fault", None), DatabaseFault):
        return known
    cause: Any = getattr(error, "orig", None) or error
    if isinstance(cause, TimeoutError):
        return DatabaseFault.SLOW
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None) or ""
    for begins, fault in _CODES:
        if code.startswith(begins):
            return fault
    if _NO_TABLE in str(cause):
        return DatabaseFault.MISSING
    is_cut = isinstance(cause, OSError) or getattr(error, "connection_invalidated", False)
    return DatabaseFault.UNREACHABLE if is_cut else DatabaseFault.OTHER
