"""Takes recordings from the spool to the archives, verified, and looks after them there.

`uploader`     finds what is sealed, writes its rows, clears the spool
`replicator`   takes what is given to it to one archive, verified
`backlog`      what waits for one bucket of an archive, and which of it is tried next
`retention`    removes from archives what is past its date, with a trace
`fsck`         compares spool, catalogue and archives, and puts right what can be
`spool_check`  the part of fsck that looks for what is on this disk only
"""
