"""The dialogue with a camera (RTSP, RFC 2326), from the connection to what it describes.

`messages`      answers, read leniently
`stream`        the bytes of a connection to answers and interleaved packets, bounded
`packets`       packets of RTP and RTCP as they are on the wire
`rtp`           the packets of a track in order, what is missing
`sender_clock`  the camera's clock, by its sender reports
`auth`          challenges and their answers: Digest, Basic
`address`       addresses: logins, redirects, what tracks are relative to
`connection`    one connection: requests, answers, the login where it is asked for
`udp`           pairs of ports for packets that come beside the connection
`nal_units`     pictures of H.264 and H.265 out of RTP
`aac`           AAC out of RTP
`g711`          G.711 out of RTP, encoded again as AAC
`sdp`           session descriptions
`picture_size`  parameter sets in a description, and the width and height that they say
`description`   which tracks are recorded, and why not the others
`client`        a session: SETUP, PLAY, keeping it alive, TEARDOWN
`describe`      all of it for DESCRIBE, with causes for operators
"""
