"""Where recordings live: on the spool first, then in the archive, found through the catalogue.

`index`     the records of docs/formats.md as dataclasses and JSON lines
`fmp4`      boxes of fragmented MP4: pure functions over bytes
`spool`     writing a recording and its index, and the numbers that outlive a process
`gaps`      the journal of a camera's gaps
`repair`    what is left of a recording whose recorder died
`files`     writing that a crash and a loss of power find whole
`view`      reading one camera's spool, for the web and the uploader
`status`    what recorders and uploader say of themselves in the spool
`catalogue` the SQL database: stations, cameras, runs, recordings, gaps
`archive`   the port to the object store, with a directory and S3 behind it
`uploader`  from a sealed recording to a verified archive object, and only then off the spool

The order of truth is: segment bytes, index line, live; sealed and flushed, catalogue,
archive object, its `.json` as the commit, read back, row `archived`; only then removable.
"""
