"""What exists of a camera in a stretch of time, and the plan of a file from it.

`find`      catalogue and spool together: files to be had, and why the rest is missing
`planning`  the plan of one file from the rows of recordings that follow each other
`plan`      a plan: what is in a file, how long it is, and what it is called
"""
