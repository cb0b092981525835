"""Locks on files."""

from __future__ import annotations

from pathlib import Path

import pytest

from base import lock as lock_module
from base.lock import is_locked, try_lock, wait_for_lock


async def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    first = try_lock(path := tmp_path / "lock")
    assert first is not None and try_lock(path) is None and is_locked(path)
    with await wait_for_lock(path, 0.01, first.close):  # who had it ends
        assert is_locked(path)
    assert not is_locked(path)


async def test_a_lock_that_is_another_users_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uploader would do nothing for ever, without a word."""

    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(lock_module, "try_lock", refused)
    with pytest.raises(PermissionError):
        await wait_for_lock(tmp_path / "lock", 0.01)
