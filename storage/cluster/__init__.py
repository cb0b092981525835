"""This machine as one of several.

`agent`  holds the leases of its shards, and tells recorders what to record
"""
