"""The public HTTP face: live and rewind as HLS, pages, a small API, health and metrics.

`app`       the application: what is opened at start and closed at the end, the web process
`views`     one reader per camera; the catalogue, which may come and go
`hls`       playlists (RFC 8216): pure text from segments
`live`      playlists and segments by HTTP, from the spool
`pictures`  the latest picture of a camera, or a slate that says why there is none
`archived`  segments that are no longer in the spool, through the catalogue from the archive
`api`       the election, its regions, stations and their states as JSON
`timeline`  recordings and gaps as JSON
`wall`      which live cameras are shown with their pictures
`share`     a list for players, oEmbed
`openapi`   the description of the API
`answers`   JSON with an ETag, problems, this site's address
`places`    regions and districts, and how much of them is live
`search`    finding stations while somebody types
`folding`   one spelling for three languages and two alphabets
`pages`     list of stations, one station
`copies`    pages of copies: quote, order, register; `order_page`, one order
`copies_api`, `copies_files`  the same for programs; what an order delivers
`shop`      what these share; `openapi_copies`
`delivery`  sending what has a length and an ETag; `ranges`, whole or which part of it
`connections`  caps and deadlines of connections; `bodies`, what is posted
`clients`   for whom a request is counted; `limits`, how often and how much at once
`work`      what takes long: in short steps, in turn, counted for each client
`language`  which language a request is answered in, and the sentences of each
`words`     what is said to people about a camera
`health`    /healthz, /readyz; /metrics for operators; `status`, what it says

A web process reads the spool, the catalogue and the archive and writes nothing but orders.
Several share one port; each may die without the others noticing.
"""
