"""The public HTTP face: live and rewind as HLS, pages, a small API, health and metrics.

A web process reads the spool, the catalogue and the archive and writes nothing but orders. Several
share one port; each may die without the others noticing. Each room knows only those below it:

`app`             the application: what is opened at start and closed at the end
`pages`           pages for people: home, station, copies, one order
`ops`             health and metrics, for operators and load balancers
`api`             the same as pages for programs, as JSON
`media`           playlists, segments, pictures, and the files of orders
`orders_context`  what pages and API of copies share: who may do what, the order of a secret link
`context`         what a web process knows: configuration, readers of the spool, the catalogue
`stations`        stations and cameras: found, listed, described
`http`            what every answer needs, whatever it says

`static/` are scripts and styles of the pages, `templates/` their HTML (Jinja), and
`node_modules/` has what checks of the scripts need.
"""
