"""Measurements: each prints ratios against a named peer or floor of the same run.

`bench_record`         CPU and memory of recording, against raw TCP, MediaMTX and plain ffmpeg
`density`              how many cameras a machine carries
`neighbours`           what cameras that misbehave cost the others
`both_sources`         the same cameras natively and through ffmpeg
`loss_table`           what becomes of lost, late and doubled packets
`tally`                counts what a recorder wrote
`bench_pictures`       CPU of the latest pictures, against that of recording the same cameras
`bench_time`           how near to the burned-in time recordings are placed; drift
`bench_player`         what a viewer gets: first picture, delay, angles in step
`bench_site`           pages, search and API with 10,000 stations
`country`              makes them up
`bench_http`           what one core serves of live video, against nginx and bare aiohttp
`bench_config`         how long such a configuration takes to load
`bench_catalogue`      an election day in the catalogue
`election_day`         makes it up
`bench_fsck`           `kuager fsck` on an archive of 100,000 recordings
`bench_upload`         taking recordings to a bucket, against rclone and aws
`bench_upload_memory`  the uploader's memory with large recordings and two archives
`bench_copy`           an hour as a copy, against ffmpeg's concat
`bench_guess`          guesses at order links that get through from one address
`attack`               what a viewer gets while somebody attacks the public pages
`player_table`         what players make of a copy: a table of docs/copies.md
`code_table`           what the code is like, in numbers, of several versions
`alert_table`          when each alert fires and clears
`reload_table`         what broken files and changed cameras do to a running Kuager
`crash_table`          what a crash at each step leaves: the table of docs/crashes.md
`chaos`                kill -9 at random, with a bucket that fails at random
`installation`         several machines with PostgreSQL, an S3 server and nginx
`nodes_table`          what becomes of them when something dies
`nodes_watch`          who watches
`nodes_viewers`        many viewers through one nginx
`nodes_country`        80 machines and 40,000 cameras as rows
`soak`                 whether playback ever freezes, by what people do at random
`states`               pictures of the station's page in each of its states
`walk`                 the demo as people use it, at three widths
`webkit_table`         WebKitGTK without Media Source Extensions: a table of docs/site.md
`webkit_page`          the page that it opens
`screenshot`           docs/screenshot.png
"""
