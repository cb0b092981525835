"""What a camera is doing, and the one table of what moves it."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What a camera is doing."""

    IDLE = "idle"
    CONNECTING = "connecting"
    RECORDING = "recording"
    STALLED = "stalled"
    BACKOFF = "backoff"


class Event(StrEnum):
    """What moves a camera from one state to another."""

    SCHEDULED = "scheduled"
    SEGMENT = "segment"
    SILENCE = "silence"
    PICTURE = "picture"
    ENDED = "ended"
    UNSCHEDULED = "unscheduled"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.IDLE, Event.SCHEDULED): State.CONNECTING,
    (State.CONNECTING, Event.SEGMENT): State.RECORDING,
    (State.CONNECTING, Event.ENDED): State.BACKOFF,
    (State.CONNECTING, Event.UNSCHEDULED): State.IDLE,
    (State.RECORDING, Event.SILENCE): State.STALLED,
    (State.RECORDING, Event.ENDED): State.BACKOFF,
    (State.RECORDING, Event.UNSCHEDULED): State.IDLE,
    (State.STALLED, Event.PICTURE): State.RECORDING,
    (State.STALLED, Event.ENDED): State.BACKOFF,
    (State.STALLED, Event.UNSCHEDULED): State.IDLE,
    (State.BACKOFF, Event.SEGMENT): State.RECORDING,
    (State.BACKOFF, Event.ENDED): State.BACKOFF,
    (State.BACKOFF, Event.UNSCHEDULED): State.IDLE,
}
