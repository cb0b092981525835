"""Stations and cameras: found, listed, and described.

`directory`      regions, districts and stations; which cameras are live, and how many
`search`         finding stations by what somebody types
`nearby`         stations by how far they are
`transliterate`  one spelling for three languages and two alphabets
`featured`       the live cameras that the home page shows
`messages`       what is said of stations and cameras in sentences
`serialize`      stations, cameras and areas as JSON
"""
