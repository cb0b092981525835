"""Copies of recordings for anyone who asks: what exists, what it costs, and the files themselves.

A copy is a virtual file: the recorded segments by range from spool or archive, with only their
`tfdt` moved so that a player starts at 0. Nothing is re-encoded and nothing is written to disk.
"""
