from __future__ import annotations

import pytest

from recorder.ffmpeg import find_ffmpeg


@pytest.fixture(scope="session")
def ffmpeg() -> str:
    return find_ffmpeg(None)
