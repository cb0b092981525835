"""Copies of recordings for anyone who asks: what exists, what it costs, and the files themselves.

A copy is a virtual file: the recorded segments by range from spool or archive, of which
only the `tfdt` is moved, so that a player starts at 0. Nothing is encoded again, and nothing is
written to disk.

`orders`    an order from its quote to its end: what may happen to it, prices, letters, the worker
`payments`  ways to pay: a port, and one module for each provider
`files`     the files that are delivered, made while they are sent
`footage`   what exists of a camera in a stretch of time, and the plan of a file from it
`mp4`       the boxes of a copy: pure functions over bytes
`balance`   the money of an order: what came, what is owed back
`states`    where an order stands, and the one table of what moves it
"""
