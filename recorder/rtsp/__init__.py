"""The dialogue with a camera (RTSP, RFC 2326), from the connection to what it describes.

`messages`      answers, read leniently
`stream`        the bytes of a connection to answers and interleaved packets, bounded
`rtp`           the packets of a track in order, what is missing, the camera's clock
`auth`          challenges and their answers: Digest, Basic
`address`       addresses: logins, redirects, what tracks are relative to
`connection`    one connection: requests, answers, the login where it is asked for
`sdp`           session descriptions
`picture_size`  width and height from a sequence parameter set
`description`   which tracks are recorded, and why not the others
`describe`      all of it for DESCRIBE, with causes for operators
"""
