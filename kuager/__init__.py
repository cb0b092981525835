"""Puts Kuager together: the command line, the roles and their supervisor, the demo.

`cli`        the commands; each is a thin call into one of the others
`cli_orders`   those of `kuager orders`
`cli_nodes`    those of `kuager nodes`
`cli_options`  what commands share: their options, the configuration, and how they fail
`demo`       `kuager demo`: simulated cameras and a real S3 server around `kuager run`
`simulator`  cameras that do not exist, with every fault that real ones have
`status`     `kuager status`: what is wrong now
`check`      `kuager check`: is the configuration right, do the cameras answer
`preflight`  what this machine and others have for a configuration
`summary`    what a configuration will do, as tables
`run`        `kuager run`: the roles
`supervisor` starts the processes of the roles, restarts each that ends, stops them all
`reload`     `kuager reload`: a changed configuration is taken over while everything goes on
`upload`     `kuager upload`: archives what waits in the spool, and ends
`fsck`       `kuager fsck`: compares spool, catalogue and archives
`holds`      `kuager holds`: what is kept beyond its date
`orders`     `kuager orders`: what operators do with orders of copies
`nodes`      `kuager nodes`: the machines of an installation, and who records what
`extras`     what an installation may lack, and who needs it
`reading`    the configuration, or all that is wrong with it
`signals`    how each of these processes is asked to end
`logs`       what operators read
`terminal`   how commands print
`notify`     what systemd is told
"""

VERSION = "0.1.0"
