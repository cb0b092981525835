"""The catalogue: what was recorded, where it is and what is missing, in SQL.

`catalogue`    opens it, and asks it about recordings and gaps
`schema`       the tables
`rows`         rows as types: what readers of the catalogue get
`migrations`   how the tables of an older Kuager become those of this one
`faults`       why the database does not do what it is asked, by kinds
`database`     opens the database, brings its schema up to date, makes partitions
`sqlite`       SQLite asked from threads, with what is used of SQLAlchemy's asyncio interface
`connection`   a pool of connections, and how statements are sent
`cameras`      the cameras that the catalogue knows, by number
`recordings`   writes rows of recordings, runs, gaps, and of what archives have
`holds`        what is kept beyond its date, and the rows of what is removed
`archive_ids`  tells an archive from another in its place, by the id in its marker
`orders`       orders of copies: each change of one is a single transaction
`order_files`  the files of orders: their plans, and how far each was hashed
`checkouts`    pages of payment providers on which orders can be paid
`outbox`       letters that wait to be sent
`usage`        what one client had, and one recipient was sent, within a day
`leases`       who records which shard of the cameras: rows in, decisions out
`nodes`        the machines of an installation and the shards that they hold: the statements
"""
