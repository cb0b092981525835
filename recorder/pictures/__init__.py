"""The latest picture of every camera, as a role of its own that knows nothing of recording.

`process`   the picture process: camera after camera, and what is done where a decoder dies
`keyframe`  the newest keyframe of a camera alone, out of the spool
`decode`    one keyframe to two JPEGs, by OpenCV
"""
