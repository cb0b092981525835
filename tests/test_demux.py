"""The camera's clock, told from our own."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recorder.demux import PROOF, _CameraClock


@settings(max_examples=100, deadline=None)
@given(
    read_late=st.lists(st.floats(0, 900), min_size=60, max_size=60),
    written_late=st.lists(st.floats(0, 900), min_size=60, max_size=60),
)
def test_our_own_clock_is_never_taken_for_the_cameras(
    read_late: list[float], written_late: list[float]
) -> None:
    """However late a busy machine writes and reads: what is stamped at writing is ours."""
    clock, written, read_before = _CameraClock(), 0.0, 0.0
    for n, (late, stamped_late) in enumerate(zip(read_late, written_late, strict=True)):
        written = max(written, n * 40.0 + stamped_late)
        read = max(read_before, written + late)
        # at once with the one before where that was still to be read
        age = read - read_before if written > read_before else 0.0
        assert clock.at(n * 40.0, clock.check(written, read, age)) is None
        read_before = read


@pytest.mark.parametrize("wrong_ms", [0, -500, 3_600_000, -3_600_000])
def test_the_cameras_clock_is_known_after_some_pictures(wrong_ms: float) -> None:
    clock, found = _CameraClock(), None
    for n in range(PROOF + 5):
        reference = clock.check(n * 40 + wrong_ms, n * 40 + 85, 40)
        found = clock.at(n * 40, reference)
    assert found == (PROOF + 4) * 40 + wrong_ms
