"""Takes recordings from the spool to the archives, verified, and looks after them there.

`uploader`            archives every sealed recording of a spool, and clears the spool
`spool_cameras`       what the uploader knows of each camera of the spool
`discovery`           finds what is sealed, writes its rows, gives it to the replicators
`gap_upload`          takes gaps to the catalogue and, where no recording does, to the archives
`spool_cleaner`       removes from the spool what the archives have
`replicators`         all archives of the configuration; each gets what the others have
`replicator`          takes to one archive what is given to it
`verified_archive`    stores one recording in one archive, verified, and reads it from there
`pending`             what an archive is to have: recordings, and gaps that none of them carries
`backlog`             what waits for one bucket of an archive, and which of it is tried next
`retention`           removes from an archive what is past its date, with a trace
`retention_schedule`  when that is done: only while the clock is beyond doubt
`archived_holds`      holds in the archives, so that none is lost with a database
`archive_clocks`      what the archives' servers say of the time
"""
