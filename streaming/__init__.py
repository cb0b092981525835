"""The public HTTP face: live and rewind as HLS, pages, a small API, health and metrics.

`app`     the application: what is opened at start and closed at the end, the web process
`views`   one reader per camera, and what the recorders' and the uploader's status files say
`hls`     playlists (RFC 8216): pure text from segments
`live`    playlists and segments by HTTP, from the spool and, later, from the archive
`pages`   list of stations, one station, and the JSON that they use
`status`  /healthz, /readyz, /metrics

A web process reads the spool, the catalogue and the archive and writes nothing. Several share
one port; each may die without the others noticing.
"""
