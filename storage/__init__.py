"""Where recordings live: on the spool first, then in the archive, found through the catalogue.

`index`     the records of docs/formats.md as dataclasses and JSON lines
`fmp4`      boxes of fragmented MP4: pure functions over bytes
`spool`     writing a recording and its index, and the numbers that outlive a process
`gaps`      the journal of a camera's gaps
`repair`    what is left of a recording whose recorder died
`disk`      the disk under the spool: is it there, what room has it, how long does that last
`files`     writing that a crash and a loss of power find whole
`view`      reading one camera's spool, for the web and the uploader
`status`    what recorders and uploader say of themselves in the spool
`schema`, `database`, `catalogue`  what was recorded, where it is, what is missing, in SQL
`archive`, `s3`, `s3server`  the port to where recordings are kept; a directory and buckets
`orders`    orders of copies: each change of one is a single transaction
`uploader`  finds what is sealed, writes its rows, clears the spool
`keeper`    takes recordings to one archive, verified
`retention` removes from archives what is past its date, with a trace
`fsck`      compares all of them and puts right what can be
`trouble`   says once that something fails, and once that it is well again

The order of truth stands in docs/architecture.md, step by step.
"""
