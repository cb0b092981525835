"""Names of codecs, as playlists and browsers write them (RFC 6381, 3.3), out of sample entries."""

from __future__ import annotations

from storage.media.fmp4 import Box, Mp4Error, TrackInit, box_at, boxes

VISUAL_ENTRY, AUDIO_ENTRY = 78, 28  # bytes before the boxes in an entry (14496-12, 12.1.3, 12.2.3)
_DESCRIPTORS = {3: 3, 4: 13}  # tags of 14496-1 and their bytes before what is inside them


def codec_name(track: TrackInit) -> str:
    """Return the name of a track's codec, as `avc1.64001f`; raises Mp4Error."""
    entry = track.entry
    try:
        top = box_at(entry, 0, len(entry))
        if top is None:
            raise Mp4Error("a sample entry that is not whole")
        inner = AUDIO_ENTRY if track.kind == "audio" else VISUAL_ENTRY
        found = {b.type: b for b in boxes(entry, top.body + inner, top.end)}
        match track.codec:
            case "h264":  # 14496-15, 5.3.3.1: profile, compatibility, level
                return f"avc1.{_body(entry, found[b'avcC'])[1:4].hex()}"
            case "h265":
                return _hevc(_body(entry, found[b"hvcC"]))
            case _:
                return f"mp4a.40.{_audio_type(_body(entry, found[b'esds'])[4:])}"
    except (KeyError, IndexError):
        raise Mp4Error(f"a sample entry of {track.codec} that does not describe it") from None


def _body(entry: bytes, box: Box) -> bytes:
    return entry[box.body : box.end]


def _hevc(record: bytes) -> str:
    """14496-15, E.3: profile, compatibility flags from the last to the first, tier and level,
    then the constraint flags without zeros at the end."""
    space, tier, profile = record[1] >> 6, record[1] >> 5 & 1, record[1] & 31
    flags = int(f"{int.from_bytes(record[2:6], 'big'):032b}"[::-1], 2)
    parts = [f"{' ABC'[space].strip()}{profile}", f"{flags:x}", f"{'LH'[tier]}{record[12]}"]
    parts += [f"{byte:x}" for byte in record[6:12].rstrip(b"\0")]
    return ".".join(["hvc1", *parts])


def _audio_type(data: bytes) -> int:
    """Return the audio object type (14496-3, 1.6.2.1), down the descriptors of an `esds`."""
    while True:
        tag, at = data[0], 1
        while data[at] & 0x80:  # the size in groups of 7 bits
            at += 1
        data = data[at + 1 :]
        if tag == 5:
            kind = data[0] >> 3
            return kind if kind < 31 else 32 + ((data[0] & 7) << 3 | data[1] >> 5)
        data = data[_DESCRIPTORS[tag] :]
