"""Where recordings are kept for good: a port, with a directory or a bucket behind it."""
