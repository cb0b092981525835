"""Five minutes at +2,000 ppm. Recorded by a process that conftest.py starts with the first test."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.stack import recordings


@pytest.mark.timeout(420)
def test_no_drift_at_2000_ppm(
    drift_recorder: tuple[subprocess.Popen[bytes], Path], ffmpeg: str
) -> None:
    process, spool = drift_recorder
    assert process.wait(400) == 0
    found = recordings(spool, "fast")
    assert len({r.index.header.run_no for r in found}) == 1
    timed = [e for r in found for e in r.timed_errors_ms(ffmpeg)]
    assert timed[-1][0] > 280
    late = sorted(abs(e) for s, e in timed if s > 10)
    assert late[int(len(late) * 0.99)] <= 100
    # a clock 2,000 ppm fast is 500 ms ahead after 250 s; once its rate is known nothing is left
    first = [e for s, e in timed if 30 <= s < 60]
    last = [e for s, e in timed if s > 260]
    assert abs(sum(last) / len(last) - sum(first) / len(first)) < 40
