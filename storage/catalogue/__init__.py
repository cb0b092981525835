"""The catalogue: what there is, in SQL, to be found again."""
