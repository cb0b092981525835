"""What people read, in Kazakh, Russian and English.

`gettext`   a sentence in a language, and which languages there are
`format`    how times, lengths, money, sizes and numbers are written
`in_words`  amounts of money in words
`causes`    why there is no recording, as a sentence
`locales/`  the catalogues of sentences; `make messages` brings them up to date with the code
"""
