"""What the scripts of the station page say. `{name}` is a value that the script fills in."""

from __future__ import annotations

from base.i18n.gettext import N_, gettext

MESSAGES = {
    "play": N_("Play"),
    "pause": N_("Pause"),
    "back": N_("{ago} behind live"),
    "behind": N_("live, {seconds} s behind what happens"),
    "paused": N_("Paused at {time}."),
    "jumped": N_("Shown from {time}."),
    "isLive": N_("Shown live."),
    "loading": N_("Loading …"),
    "noPicture": N_("No picture from {from} to {to}: {cause}."),
    "noPictureSince": N_("No picture since {from}: {cause}."),
    "nothing": N_("Nothing was recorded at this moment."),
    "future": N_("This moment has not come yet."),
    "tooOld": N_("This is further back than what can be watched here."),
    "cannot": N_(
        "This browser cannot show this camera's kind of video. "
        "“Open in VLC” shows it in another player."
    ),
    "away": N_("The server does not answer; asking again."),
    "sound": N_("Sound on"),
    "mute": N_("Sound off"),
    "full": N_("Full screen"),
    "leave": N_("Leave full screen"),
    "lowOn": N_(
        "Low-data mode: one angle plays, of the others there are pictures, "
        "renewed every few seconds."
    ),
    "lowSlow": N_("It was chosen because the link is slow."),
    "lowSaver": N_("It was chosen because your device asks to save data."),
    "copied": N_("The link to this moment was copied."),
    "copy": N_("Copy this link:"),
    "until": N_("until now"),
    "watchFrom": N_("Watch from {time}"),
    "noGaps": N_("No gaps."),
    "noRecordings": N_("Nothing was recorded on this day."),
    "gaps": N_("Gaps ({count})"),
    "incomplete": N_("The list is not complete: the catalogue does not answer."),
    "hours": N_("{hours} h {minutes} min"),
    "minutes": N_("{minutes} min {seconds} s"),
    "seconds": N_("{seconds} s"),
    "marked": N_("From {from}; now go to the end of the stretch and mark it."),
    "stretch": N_("From {from} to {to}, {length}"),
    "speed": N_("Speed {rate}×"),
    "angle": N_("Angle {number}: {title}"),
}


def player_messages(lang: str) -> dict[str, str]:
    """Return the sentences of the scripts in a language, by key."""
    return {key: gettext(sentence, lang) for key, sentence in MESSAGES.items()}
