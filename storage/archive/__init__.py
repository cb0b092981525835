"""Where recordings are kept for good: a port, and what stands behind it.

`port`       the port, with what its methods return and raise; a directory as an archive
`s3`         buckets as an archive
`s3_client`  one request to an S3 server: its deadlines, and what went wrong, in words
"""
