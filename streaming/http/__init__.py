"""What every answer needs, whatever it says.

`groups`       what the addresses of a kind have in common: CORS, CSP, errors, caching
`negotiation`  which language a request is answered in
`parameters`   numbers and times in an address
`bodies`       what is posted: small, soon and readable
`site`         the address of this site; requests that come from pages of another one
`responses`    JSON with an ETag, problems
`ranges`       sending what has a length and a strong entity tag: conditions, ranges
`assets`       scripts and styles of the pages
`clients`      for whom a request is counted
`rate_limit`   how often one client may do a thing, and how many things at once
`scheduler`    what takes long: in short steps, in turn, counted for each client
`connections`  caps and deadlines of connections
`prepared`     answers that are given again, as the application gave them
`answering`    connections that give prepared answers themselves
`ports`        the ports that several web processes share
"""
