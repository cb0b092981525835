"""From a camera to whole segments in the spool.

`worker`          a process that holds a share of the cameras
`camera`          one camera's life: sessions, retries, gaps
`session`         one session: from frames to written segments, with its deadlines
`camera_state`    what a camera's life and its sessions share: state, status, log
`camera_spec`     what a recorder needs to know of a camera, out of the configuration
`second_stream`   when a camera's second stream is recorded: beside the first, at no cost to it
`gap_accounting`  scheduled time without a recording, as gaps in the spool
`source_choice`   which source takes a camera: the native one, or ffmpeg
`approach`        what sessions have taught of one camera: pauses, no sound, no native source
`states`          what a camera is doing: the table of transitions
`clock`           the recorder's clock: what arrivals are stamped with
`disk_watch`      the watch over the spool's disk: pause, go on, say each thing once

`source`          the port: what yields frames, and how it ends
`native`          the source that reads RTSP and RTP in this process
`rtsp`            the dialogue with a camera, its packets, and what they carry
`ffmpeg`          the source that has an ffmpeg child as a transport of frames
`demux`           its pipe taken apart into frames
`pipe`            pipes of child processes, each descriptor with one owner
`tracks`          what a source tells of its tracks, and when
`sample_entry`    tracks with their sample entries, out of parameter sets
`parameter_sets`  what parameter sets of H.264 and H.265 mean
`bits`            a reader of bits

`segmenter`       frames to segments: pure
`sound`           the sound of a run, beside the picture: pure
`timeline`        timestamps to media time that runs with UTC: pure
`display_order`   in which order pictures show, where there are B-frames: pure
`opening`         the first pictures of a run, placed by the later ones: pure
`arrivals`        what arrivals say of timestamps: pure
`reports`         what sender reports say of the link: pure
`clock_map`       media time to UTC (docs/time.md): pure

`pictures`        a process of its own: the latest picture of every camera, again and again

A camera can harm only itself: its own source, bounded buffers, its own deadlines.
"""
