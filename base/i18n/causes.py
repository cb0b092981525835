"""Why there is no recording, said to people: a sentence for each cause of a gap, and for removals.

The causes are the closed list of docs/formats.md (`GapCause` in storage/records.py); a test holds
the two together.
"""

from __future__ import annotations

import re

from base.i18n.gettext import N_, gettext, ngettext

CAUSES = {
    "connecting": N_("the camera was asked, and no picture had come yet"),
    "unreachable": N_("the camera does not answer"),
    "refused_password": N_("the camera refuses the password"),
    "no_such_stream": N_("the camera has no such stream"),
    "no_data": N_("the camera sends no picture"),
    "stream_broken": N_("the camera's stream is broken"),
    "closed_by_camera": N_("the camera ended the connection"),
    "parameters_changed": N_("the camera changed its picture"),
    "clock_jump": N_("a clock was set"),
    "disk_full": N_("the recorder's disk is full"),
    "disk_failed": N_("the recorder's disk fails"),
    "recorder_stopped": N_("the recorder was stopped"),
    "recorder_crashed": N_("the recorder ended unexpectedly"),
    "node_lost": N_("the machine that recorded it was lost"),
}


def describe_cause(cause: str, lang: str) -> str:
    """Return why there is no recording, as a part of a sentence; raises KeyError for a cause that
    is none."""
    return gettext(CAUSES[cause], lang)


IN_NO_ARCHIVE = N_("it is in no archive yet")
ON_A_MACHINE_AWAY = N_("it is on a machine that is away")


def describe_removal(reason: str, lang: str) -> str:
    """Return why a recording was removed or cannot be had, as a part of a sentence: what Kuager
    itself writes in the language, what an operator wrote as it is."""
    if kept := re.fullmatch(r"kept for ([0-9]{1,6}) days?", reason):
        return ngettext("kept for %(count)s day", "kept for %(count)s days", int(kept[1]), lang)
    return gettext(reason, lang) if reason in (IN_NO_ARCHIVE, ON_A_MACHINE_AWAY) else reason
