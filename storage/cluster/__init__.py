"""This machine as one of several.

`agent`     holds the leases of its shards, and tells recorders what to record
`machines`  which machine records a camera, as the agent last said
`peer_auth`  how one shows another that it is of this installation
`peers`     asks other machines for what is in their spools
`other_spools`  their recordings, read as from one more archive
`peer_status`  brings what they say of their cameras into this machine's spool
"""
