"""What operators and their programs are told.

`health`          whether this process answers, and can read what it serves
`metrics`         what /metrics says
`camera_metrics`  what it says of cameras
`http_counts`     requests, counted, and told for all web processes
"""
