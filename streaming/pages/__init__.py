"""The pages for people; each works without scripts.

`render`           templates in three languages, links, the page that says what is wrong
`home`             the home page: search, regions, featured cameras
`station`          a station with all its angles, and the player that other sites embed
`moment`           the moment that a link names, or why it cannot be shown and what to do
`player_messages`  what the scripts of the station page say
`copies`           what copies are, asking for a quote, the register; what forms send
`order`            the page of one order
"""
