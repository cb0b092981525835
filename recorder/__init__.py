"""From a camera to whole segments in the spool.

`source`    the port: what yields frames, and how it ends
`rtsp`      the dialogue with a camera: what it offers, or what keeps it from it
`approach`  what sessions have taught of one camera: pauses, no sound
`ffmpeg`    the first source: an ffmpeg child as a transport of frames
`demux`     its pipe taken apart into frames
`native`    the second source: RTSP and RTP read in this process
`tracks`    what a source tells of its tracks, and when
`parameters`, `sample_entry`  what parameter sets mean, and tracks that are made of them
`bits`      a reader of bits
`placing`   media time to UTC (docs/time.md): pure
`lines`     what arrivals say of timestamps: pure
`timeline`  timestamps to media time that runs with UTC: pure
`sound`     the sound of a run, beside the picture: pure
`cutting`   frames to segments: pure
`states`    what a camera is doing: the table of transitions
`session`   one session: from frames to written segments, with its deadlines
`camera`    one camera's life: sessions, retries, gaps
`worker`    a process that holds a share of the cameras
`disk`      the watch over the spool's disk: pause, go on, say each thing once
`clock`     what the kernel says of this machine's clock

`pictures`  the picture process: the latest picture of every camera, again and again
`stills`    the newest keyframe alone, out of the spool
`decoding`  one keyframe to two JPEGs, by OpenCV

A camera can harm only itself: its own child process, bounded buffers, its own deadlines.
"""
