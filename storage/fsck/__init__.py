"""Compares spool, catalogue and archives, and puts right what can be: `kuager fsck`.

`check`     looks at everything, camera by camera
`camera`    what is known of one camera while it is looked at, and what is found
`listing`   what one archive has of one camera, and reading it
`repair`    puts right what was found, from wherever the right bytes are
`coverage`  gaps that are not everywhere, and scheduled time that nothing accounts for
`spool`     what is on this disk only, and sealing what a recorder left without a seal
"""
