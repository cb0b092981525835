"""What the scripts of the station page say. `{name}` is a value that the script fills in."""

from __future__ import annotations

from streaming.http.negotiation import mark, translate

WORDS = {
    "play": mark("Play"),
    "pause": mark("Pause"),
    "back": mark("{ago} behind live"),
    "behind": mark("live, {seconds} s behind what happens"),
    "paused": mark("Paused at {time}."),
    "jumped": mark("Shown from {time}."),
    "isLive": mark("Shown live."),
    "loading": mark("Loading …"),
    "noPicture": mark("No picture from {from} to {to}: {cause}."),
    "noPictureSince": mark("No picture since {from}: {cause}."),
    "nothing": mark("Nothing was recorded at this moment."),
    "future": mark("This moment has not come yet."),
    "tooOld": mark("This is further back than what can be watched here."),
    "cannot": mark(
        "This browser cannot show this camera's kind of video. "
        "“Open in VLC” shows it in another player."
    ),
    "away": mark("The server does not answer; asking again."),
    "sound": mark("Sound on"),
    "mute": mark("Sound off"),
    "full": mark("Full screen"),
    "leave": mark("Leave full screen"),
    "lowOn": mark(
        "Low-data mode: one angle plays, of the others there are pictures, "
        "renewed every few seconds."
    ),
    "lowSlow": mark("It was chosen because the link is slow."),
    "lowSaver": mark("It was chosen because your device asks to save data."),
    "copied": mark("The link to this moment was copied."),
    "copy": mark("Copy this link:"),
    "until": mark("until now"),
    "watchFrom": mark("Watch from {time}"),
    "noGaps": mark("No gaps."),
    "noRecordings": mark("Nothing was recorded on this day."),
    "gaps": mark("Gaps ({count})"),
    "incomplete": mark("The list is not complete: the catalogue does not answer."),
    "hours": mark("{hours} h {minutes} min"),
    "minutes": mark("{minutes} min {seconds} s"),
    "seconds": mark("{seconds} s"),
    "marked": mark("From {from}; now go to the end of the stretch and mark it."),
    "stretch": mark("From {from} to {to}, {length}"),
    "speed": mark("Speed {rate}×"),
    "angle": mark("Angle {number}: {title}"),
}


def watch_words(lang: str) -> dict[str, str]:
    """Return the sentences of the scripts in a language, by key."""
    return {key: translate(lang, sentence) for key, sentence in WORDS.items()}
