"""What tests need: servers, cameras, builders, readers.

Servers and clients, each a real one
`s3`            rclone's and moto's S3 servers, and what each can do
`bad_bucket`    a proxy before one of them that lies on command
`postgres`      a PostgreSQL for each session, a database for each test
`postgres_server` a PostgreSQL of one's own, to kill
`stripe_server` localstripe in a process of its own
`mailbox`       an SMTP server that keeps what it gets
`rtsp_camera`   a camera whose dialogue is scripted; `gst_server`, GStreamer's;
                `foreign_cameras`, all that are not ours
`wire`          a bare RTSP client
`fuzz_rtsp`     whole sessions with cameras that send mutated answers and packets
`programs`      other programs: found, or the test is skipped
`small_disk`    a disk of a few hundred kilobytes

What runs
`loop`          the event loop of tests, which says what was left open
`stack`         a recorder in the test's own process; `sources`, both sources at one camera
`running`       `kuager run` as operators start it
`archiving`     a configuration with archives, and an uploader at work
`tables`        catalogues in SQLite whose tables are copied, not made anew
`web`           a web process in the test's own process; `selling`, one that sells copies
`orders`        an order, its providers, and what pays it; `order_work`, one at work
`site_stack`    cameras, recorder, web process and Chromium; `pages`, what a page becomes
`dying`         processes that kill themselves at a step; `dying_orders`, the same for an order;
                `mortals` forks them
`several`       several machines in the test's own process; `edge`, nginx in front of them
`lease_rows`    what the database has of nodes, in memory; `set_clock`, a clock that a test sets
`identity_walk` two recorders with one list of cameras, at random
`camera_faults` every fault of the simulator at once; `disk_faults`, every fault of a disk

What is made and read
`config_files`  small valid configurations; `broken_files`, ways to break one
`spools`        spools with valid recordings; `spool_files`, one written step by step
`footage`       recordings with real boxes; `playable`, streams that playlists can be made of;
                `live_fixture`, with real video in real time
`recorded_cameras` a recording of each codec
`frames`        frames of a camera that does not exist; `shots`, pictures whose true time is known
`packets`       RTP and RTCP packets; `payloads`, what becomes of them; `playing`, a few pictures
                and sound as a camera interleaves them
`strip`         reads the time burned into a picture; `burned`, in a page
`waiting`       waits for a condition
`repository`    the files of this repository; `architecture`, its rooms and floors as a picture
"""
