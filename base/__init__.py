"""What every package may use; it knows none of them.

`clock`      the time of day as a number, and the type of what tells it
`hostclock`  whether the clock of this machine may be believed
`intervals`  union, difference and parts of intervals [start, end)
`backoff`    how long to wait before something that failed is tried again
`outage`     says once that something fails, and once that it works again
`durable`    files that a crash and a loss of power leave whole
`lock`       locks on files, at once or when they are free
`network`    why a connection failed, in words for people
`prefixes`   the networks by which clients are counted
`currency`   how many decimals each currency has; amounts as integers and as text
`i18n`       sentences, times and money in the languages of the site
"""
