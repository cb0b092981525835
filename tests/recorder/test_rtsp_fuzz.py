"""Sessions with mutated cameras; `make fuzz-rtsp` runs a million of them."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.support.fuzz_rtsp import run_case


@pytest.mark.slow
def test_whatever_a_camera_sends_its_session_ends_and_says_why() -> None:
    ends = Counter(run_case(number) for number in range(400))
    causes = {"closed_by_camera", "no_data", "no_such_stream", "refused_password", "stream_broken"}
    assert set(ends) >= causes | {"left to ffmpeg"}
