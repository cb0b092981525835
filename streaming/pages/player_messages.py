"""What the scripts of the station page say. `{name}` is a value that the script fills in."""

from __future__ import annotations

from base.i18n.gettext import N_, gettext

MESSAGES = {
    "play": N_("Play"),
    "pause": N_("Pause"),
    "back": N_("{ago} ago"),
    "behind": N_("Live, {seconds} s behind"),
    "notShown": N_("Not playing"),
    "noPictureNow": N_("No picture now"),
    "paused": N_("Paused at {time}."),
    "jumped": N_("Shown from {time}."),
    "isLive": N_("Shown live."),
    "loading": N_("Loading …"),
    "burned": N_("in the picture: {time}"),
    "noPicture": N_("No picture from {from} to {to}: {cause}."),
    "noPictureSince": N_("No picture since {from}: {cause}."),
    "nothing": N_("Nothing was recorded at this moment."),
    "missing": N_("This part cannot be loaded; what follows is shown when its time comes."),
    "leftOut": N_("{length} after {time} did not load and were left out. Go back to try again."),
    "future": N_("This moment has not come yet."),
    "tooOld": N_("This is further back than what can be watched here."),
    "tooOldLink": N_("{time} is further back than what can be watched here."),
    "before": N_("Nothing was recorded then: recording began at {time}."),
    "toCopy": N_("A copy of it can be ordered."),
    "malformed": N_("The address names no moment: it is written as t=2026-11-29T09:40:00Z."),
    "malformedTime": N_("Write the day and the time, as 14:22:07."),
    "watchLive": N_("Watch live"),
    "orderCopy": N_("Order a copy"),
    "skipTo": N_("Go on at {time}"),
    "cannot": N_(
        "This browser cannot show this camera's kind of video. "
        "“Open in VLC” shows it in another player."
    ),
    "away": N_("The server does not answer; asking again."),
    "offline": N_("There is no connection; it goes on when there is one."),
    "stands": N_("No data comes: the link or the server is slow."),
    "tryAgain": N_("Try again"),
    "full": N_("Full screen"),
    "leave": N_("Leave full screen"),
    "picture": N_("Slow link: picture of {time}"),
    "pictures": N_("Slow link: single pictures"),
    "videoCosts": N_("Video, {size} MB a minute"),
    "videoInstead": N_("Video"),
    "lowStream": N_("Slow link: smaller video"),
    "othersLow": N_("The small ones play smaller video"),
    "oneCamera": N_("Low data: one camera plays, pictures of the others"),
    "offBack": N_("Not played, to save data"),
    "copied": N_("Copied."),
    "copyYourself": N_("Copy what is selected."),
    "noStill": N_("There is no picture now."),
    "station": N_("Station {number}"),
    "until": N_("now"),
    "gapLine": N_("Gap {from}–{to}: {cause}"),
    "noGaps": N_("No gaps."),
    "noGapAfter": N_("There is no gap after this moment."),
    "noGapBefore": N_("There is no gap before this moment."),
    "noRecordings": N_("Nothing was recorded on this day."),
    "gaps": N_("Gaps of this day: {count}"),
    "recordings": N_("Recordings of this day: {count}"),
    "allCameras": N_("All cameras"),
    "incomplete": N_("The list is not complete: the catalogue does not answer."),
    "onlyCopy": N_("only in a copy"),
    "hours": N_("{hours} h {minutes} min"),
    "minutes": N_("{minutes} min {seconds} s"),
    "seconds": N_("{seconds} s"),
    "marked": N_("From {from}; now go to the end of the stretch and mark it."),
    "stretch": N_("{from}–{to}, {length}"),
    "stretchFor": N_("{from}–{to}, {length}, up to {price}"),
    "stretchEmpty": N_("{from}–{to}, {length}: nothing was recorded, there is nothing to order"),
    "speed": N_("Speed {rate}×"),
    "angle": N_("Camera {number}: {title}"),
}


def player_messages(lang: str) -> dict[str, str]:
    """Return the sentences of the scripts in a language, by key."""
    return {key: gettext(sentence, lang) for key, sentence in MESSAGES.items()}
