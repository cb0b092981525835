"""The disk of a recorder: one writer for each camera, and many readers.

`writer`     writes one camera: recordings and gaps, under numbers that outlive a process
`numbers`    numbers that outlive a process, and the file that keeps them
`past`       what a camera's directory tells of its past; repairs it when a recorder starts
`recording`  the recording in the making: its two files, and how they are sealed
`gaps`       the journal of a camera's gaps, and what recordings and gaps account for
`repair`     makes whole what is left of a recording whose recorder died, and seals it
`salvage`    what a spoilt recording still tells: header, lines, segments
`reader`     reads one camera while a recorder writes it
`rates`      what a stream takes, measured on a recording
`motion`     what the pictures of a camera take, by steps: more where something moves
`open_files` files that are read again and again, open for a moment
`disk`       the disk under the spool: is it there, what room has it, how long does that last
`lease_file` which shards of the cameras this machine records, where there are several
`node_map`   which machine records each shard, as the role `node` says it in the spool
`status_records`  the status files as types
`status`     what the processes say of themselves in the spool's `_status/`
"""
