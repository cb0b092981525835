"""Playlists, segments, pictures and the files of orders.

`playlist`   HLS playlists (RFC 8216) as pure functions of segments
`live`       playlists and segments by HTTP
`keyframes`  the keyframe of a segment alone
`clip`       a minute from a moment on as one file
`variants`   the multivariant playlist of a camera
`elsewhere`  what other machines of an installation have, passed on
`stretch`    a stretch of a camera that several machines may have recorded
`for_peers`  what a machine answers to the others, from its own spool
`archived`   segments that are no longer in the spool, from the archive
`pictures`   the latest picture of a camera, or a slate that says why there is none
`downloads`  what an order delivers: its files, one ZIP, the manifest
"""
