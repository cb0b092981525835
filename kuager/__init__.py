"""Puts Kuager together: the command line, the roles and their supervisor, the demo.

`cli`       the commands; each is a thin call into one of the others
`reading`   the configuration, or all that is wrong with it
`check`     `kuager check`: is the configuration right, do the cameras answer; `preflight`, what
            this machine and others have for it
`summary`   what a configuration will do, as tables
`run`       `kuager run`: the supervisor and the roles
`demo`      `kuager demo`: simulated cameras and a real S3 server around `kuager run`
`simulator` cameras that do not exist, with every fault that real ones have
`signals`   how each of these processes is asked to end
`logs`      what operators read
`notify`    what systemd is told
`status`    `kuager status`: what is wrong now
"""

VERSION = "0.1.0"
