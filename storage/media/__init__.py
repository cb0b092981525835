"""Media formats as pure functions over bytes.

`fmp4`      boxes of fragmented MP4 (ISO/IEC 14496-12): reading, and writing `moof` and `mdat`
`codecs`    names of codecs, as playlists write them
`jpeg`      the moment that a picture shows, written into it
`keyframe`  the keyframe at the beginning of a segment, alone
"""
