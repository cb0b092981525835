"""The files that are delivered: made while they are sent (docs/copies.md).

`virtual`  a copy: any range of it, straight from spool or archive
`zip`      everything of an order as one ZIP, with its manifest
`readme`   README.txt of the ZIP in Kazakh, Russian and English
`sha256`   the one pass over a copy that finds its SHA-256 and CRC-32
"""
