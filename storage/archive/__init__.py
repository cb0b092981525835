"""Where recordings are kept for good: a port, and what stands behind it.

`port`       what an archive does, with what its methods return and raise
`factory`    opens the archive that the configuration names
`directory`  a directory as an archive
`s3`         buckets as an archive
`s3_client`  one request to an S3 server: its deadlines, and what went wrong, in words
`blocking`   what both archives share: threads for calls that block
"""
