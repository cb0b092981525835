"""Where recordings live: in the spool first, then in the archive, found through the catalogue.

`records`           what docs/formats.md describes, validated once: index lines, gaps, numbers
`media`             fragmented MP4: pure functions over bytes
`spool`             the disk of a recorder: one writer for each camera, and many readers
`archive`           the port to where recordings are kept for good, with a directory and S3 behind
`catalogue`         the SQL database: what was recorded, where it is, what is missing, orders
`recording_source`  reads a recording's bytes: from the spool, then from each archive that has it
`archival`          takes recordings from the spool to the archives, verified, and removes them
`shown`             what people are shown where several machines recorded a camera
`cluster`           this machine as one of several: which cameras it is to record
`fsck`              compares spool, catalogue and archives, and puts right what can be

The commit order stands in docs/architecture.md, step by step.
"""
